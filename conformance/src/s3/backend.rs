//! What answers a request once it has passed the gate.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::{Client, ServerError};
use crate::process::{Launch, Process, Spawner};

/// How long MinIO has to accept connections: it takes one second on an idle machine.
const START: Duration = Duration::from_secs(30);
/// How often a starting MinIO is asked; it has no event that tells.
const ASK: Duration = Duration::from_millis(20);

/// Answers requests: in this process, or by passing them on.
#[derive(Clone)]
pub(super) enum Backend {
    Memory(s3s::service::S3Service),
    Proxy(SocketAddr),
}

impl Backend {
    pub(super) async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<s3s::Body>> {
        match self {
            Self::Memory(service) => hyper::service::Service::call(service, request).await.map_err(io::Error::other),
            // Sent on as it came: the signature covers the `Host` that the client used.
            Self::Proxy(address) => Ok(send(*address, request).await?.map(s3s::Body::http_body)),
        }
    }
}

/// How to start MinIO.
#[derive(Clone, Debug)]
pub struct Minio {
    /// Its binary.
    pub program: PathBuf,
    /// A directory of its own, which it fills.
    pub directory: PathBuf,
    /// Starts it.
    pub spawner: Spawner,
}

impl Minio {
    /// Starts MinIO without TLS on a loopback address and port of its own.
    pub(super) async fn start(&self, region: &str, keys: (&str, &str)) -> Result<(Process, SocketAddr), ServerError> {
        std::fs::create_dir_all(self.directory.join("data")).map_err(|error| self.failed(error.to_string()))?;
        let address = free_address().await.map_err(|error| self.failed(error.to_string()))?;
        let launch = Launch::new("minio", &self.program)
            .args(["server", "--address"])
            .arg(address.to_string())
            .arg("--quiet")
            .arg(self.directory.join("data"))
            .env("HOME", &self.directory)
            .envs([("MINIO_ROOT_USER", keys.0), ("MINIO_ROOT_PASSWORD", keys.1), ("MINIO_SITE_REGION", region)])
            .envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off")])
            .directory(&self.directory)
            .log(self.log());
        let process = self.spawner.spawn(&launch).await.map_err(|error| self.failed(error.to_string()))?;
        Ok((process, address))
    }

    /// Waits until it serves a signed request. (Its `/minio/health/ready` says yes before that.)
    pub(super) async fn ready(&self, process: &Process, client: &Client) -> Result<(), ServerError> {
        let mut last = None;
        let serving = async {
            let mut interval = tokio::time::interval(ASK);
            while let Err(error) = client.bucket_exists("readiness").await {
                last = Some(error);
                interval.tick().await;
            }
        };
        let reason = tokio::select! {
            status = process.wait() => format!("it ended at once: {status}"),
            ready = tokio::time::timeout(START, serving) => match ready {
                Ok(()) => return Ok(()),
                Err(_) => format!("it did not serve within {} s", START.as_secs()),
            },
        };
        Err(self.failed(last.map_or(reason.clone(), |error| format!("{reason} (last seen: {error})"))))
    }

    fn failed(&self, reason: String) -> ServerError {
        ServerError::Minio { reason, log: self.log() }
    }

    /// Where it writes what it has to say.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("minio.log")
    }
}

/// A port that was free a moment ago, since MinIO takes no port 0, on an address that nobody else is likely to have. MinIO
/// shares ports (`SO_REUSEPORT`): of two that are given the same address and port at once neither would end, and each would
/// get a part of the connections.
async fn free_address() -> io::Result<SocketAddr> {
    let [a, b, c] = rand::random::<[u8; 3]>();
    // Neither the net's own address, nor that of a broadcast.
    TcpListener::bind((Ipv4Addr::new(127, a, b, c.clamp(2, 254)), 0)).await?.local_addr()
}

/// Sends one request on a connection of its own, which ends with the response.
async fn send<B>(address: SocketAddr, request: Request<B>) -> io::Result<Response<Incoming>>
where
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // What fails here is seen by the request, or by nobody.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}
