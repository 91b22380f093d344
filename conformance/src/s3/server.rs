//! The endpoint: TLS, the gate, and behind it the storage in this process or MinIO.
//!
//! MinIO stands behind the same gate, without TLS of its own, so that outages hit one bucket there too.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::backend::{Backend, Minio};
use super::endpoint::Key;
use super::gate::Gate;
use super::store::Store;
use super::{Client, ClientError, Endpoint};
use crate::https;
use crate::pki::{Authority, PkiError};
use crate::process::Process;

/// How to start a [`Server`].
#[derive(Clone, Debug)]
pub struct Options {
    /// MinIO to pass requests on to; `None`: they are answered from memory.
    pub minio: Option<Minio>,
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// The region that the endpoint names. Requests that are signed for another one are served all the same.
    pub region: String,
    /// More names and addresses for the certificate than `localhost` and the address that is listened on.
    pub names: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { minio: None, address: ([127, 0, 0, 1], 0).into(), region: "eu-west-1".to_owned(), names: Vec::new() }
    }
}

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not one of this machine.
    #[error("the object storage cannot listen on {address}: {source}; free the port or choose another")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The certificate does not suit the TLS library.
    #[error("the object storage cannot speak TLS: {0}")]
    Tls(String),
    /// MinIO did not start.
    #[error("MinIO cannot be used: {reason}; its log is {}", log.display())]
    Minio {
        /// Why not.
        reason: String,
        /// Where it wrote what it had to say.
        log: PathBuf,
    },
    /// A bucket could not be made or removed.
    #[error(transparent)]
    Bucket(#[from] ClientError),
}

/// An object storage that speaks TLS. It ends, with all connections and MinIO, when it is dropped.
///
/// From memory it knows path style, buckets, objects, lists (version 2) and multipart uploads: what pgBackRest and the
/// client need. It has no versions, policies or lifecycles.
pub struct Server {
    endpoint: Endpoint,
    storage: Storage,
    gate: Gate,
    _accepting: AbortOnDropHandle<Infallible>,
}

/// Where buckets are made, which is the one thing that does not go through the protocol in the same way.
enum Storage {
    Memory { store: Store },
    Minio { client: Box<Client>, process: Process, log: PathBuf },
}

impl Server {
    /// Starts a server with one access key. When this returns, requests are served.
    pub async fn start(options: Options) -> Result<Self, ServerError> {
        let Options { minio, address, region, names } = options;
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let authority = Authority::create("object storage of the conformance suite")?;
        let names = ["localhost".to_owned(), address.ip().to_string()].into_iter().chain(names);
        let tls = |error: rustls::Error| ServerError::Tls(error.to_string());
        let acceptor = https::acceptor(&authority.server(names)?).map_err(tls)?;

        let key = Key::generate();
        let (access_key, secret_key) = (key.access.clone(), key.secret.clone());
        // pgBackRest 2.55 checks a certificate against DNS names only, so the endpoint is a name.
        let endpoint = format!("localhost:{}", address.port());
        let endpoint =
            Endpoint { endpoint, local: None, region, access_key, secret_key, ca: authority.certificate().to_owned() };
        let gate = Gate::default();
        let accepting = |backend: Backend| {
            let gate = gate.clone();
            let handler = move |request: http::Request<hyper::body::Incoming>| {
                let refused = gate.pass(request.uri().path());
                let backend = backend.clone();
                async move {
                    match refused {
                        Some(response) => Ok(response),
                        None => backend.answer(request).await,
                    }
                }
            };
            AbortOnDropHandle::new(tokio::spawn(https::serve(listener, acceptor, "the object storage", handler)))
        };
        let (storage, accepting) = match minio {
            None => {
                let store = Store::default();
                let mut builder = s3s::service::S3ServiceBuilder::new(store.clone());
                builder.set_auth(key);
                (Storage::Memory { store }, accepting(Backend::Memory(builder.build())))
            }
            Some(minio) => {
                let pair = (endpoint.access_key.as_str(), endpoint.secret_key.as_str());
                let (process, address) = minio.start(&endpoint.region, pair).await?;
                let accepting = accepting(Backend::Proxy(address));
                let client = Client::new(&endpoint)?;
                minio.ready(&process, &client).await?;
                (Storage::Minio { client: Box::new(client), process, log: minio.log() }, accepting)
            }
        };
        Ok(Self { endpoint, storage, gate, _accepting: accepting })
    }

    /// How to reach it, with the access key that it was started with.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// MinIO, which may end by itself, and its log; `None` when requests are answered from memory.
    pub fn minio(&self) -> Option<(&Process, &Path)> {
        match &self.storage {
            Storage::Memory { .. } => None,
            Storage::Minio { process, log, .. } => Some((process, log.as_path())),
        }
    }

    /// Makes a bucket, whose name must be new.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), ServerError> {
        match &self.storage {
            Storage::Memory { store } => store.create(bucket),
            Storage::Minio { client, .. } => client.create_bucket(bucket).await?,
        }
        Ok(())
    }

    /// Removes a bucket with everything in it, and its outage.
    pub async fn remove_bucket(&self, bucket: &str) -> Result<(), ServerError> {
        self.gate.open(bucket);
        match &self.storage {
            Storage::Memory { store } => store.remove(bucket),
            Storage::Minio { client, .. } => client.remove_bucket(bucket).await?,
        }
        Ok(())
    }

    /// Answers every request for `bucket` with 503 until [`Self::end_outage`].
    pub fn begin_outage(&self, bucket: &str) {
        self.gate.close(bucket);
    }

    /// Serves `bucket` again.
    pub fn end_outage(&self, bucket: &str) {
        self.gate.open(bucket);
    }
}
