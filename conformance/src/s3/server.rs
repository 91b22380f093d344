//! The object storage in this process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::gate::Gate;
use super::store::Store;
use super::{Endpoint, Keys};
use crate::pki::{Authority, Identity, PkiError};

/// How to start a [`Server`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// The region that the endpoint names. Requests that are signed for another one are served all the same.
    pub region: String,
    /// More names and addresses for the certificate than `localhost` and the address that is listened on.
    pub names: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { address: ([127, 0, 0, 1], 0).into(), region: "eu-west-1".to_owned(), names: Vec::new() }
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
}

/// An object storage in this process, over TLS, in memory. It ends, with all connections, when it is dropped.
///
/// It knows path style, buckets, objects, lists (version 2) and multipart uploads: what pgBackRest and the client need.
/// It has no versions, policies or lifecycles.
pub struct Server {
    endpoint: Endpoint,
    keys: Keys,
    store: Store,
    gate: Gate,
    _accepting: AbortOnDropHandle<()>,
}

impl Server {
    /// Starts a server with one access key. When this returns, connections are accepted.
    pub async fn start(options: Options) -> Result<Self, ServerError> {
        let Options { address, region, names } = options;
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let authority = Authority::create("object storage of the conformance suite")?;
        let names = ["localhost".to_owned(), address.ip().to_string()].into_iter().chain(names);
        let acceptor = acceptor(&authority.server(names)?)?;

        let (keys, store, gate) = (Keys::default(), Store::default(), Gate::default());
        let (access_key, secret_key) = keys.generate();
        // pgBackRest 2.55 checks a certificate against DNS names only, so the endpoint is a name.
        let endpoint = format!("localhost:{}", address.port());
        let endpoint = Endpoint { endpoint, region, access_key, secret_key, ca: authority.certificate().to_owned() };
        let service = {
            let mut builder = s3s::service::S3ServiceBuilder::new(store.clone());
            builder.set_auth(keys.clone());
            builder.build()
        };
        let accepting = tokio::spawn(accept(listener, acceptor, service, gate.clone()));
        Ok(Self { endpoint, keys, store, gate, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// How to reach it, with the access key that it was started with.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The access keys that it accepts.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Makes a bucket; one that is there already stays as it is.
    pub fn create_bucket(&self, bucket: &str) {
        self.store.create(bucket);
    }

    /// Removes a bucket with everything in it, its outage and its counter.
    pub fn remove_bucket(&self, bucket: &str) {
        self.store.remove(bucket);
        self.gate.forget(bucket);
    }

    /// Answers every request for `bucket` with 503 until [`Self::end_outage`].
    pub fn begin_outage(&self, bucket: &str) {
        self.gate.close(bucket);
    }

    /// Serves `bucket` again.
    pub fn end_outage(&self, bucket: &str) {
        self.gate.open(bucket);
    }

    /// How many requests for `bucket` have come in, refused ones included.
    pub fn requests(&self, bucket: &str) -> u64 {
        self.gate.requests(bucket)
    }
}

fn acceptor(identity: &Identity) -> Result<TlsAcceptor, ServerError> {
    let pem = |error: rustls::pki_types::pem::Error| ServerError::Tls(error.to_string());
    let tls = |error: rustls::Error| ServerError::Tls(error.to_string());
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).map_err(pem)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(pem)?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(tls)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, service: s3s::service::S3Service, gate: Gate) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, acceptor.clone(), service.clone(), gate.clone()));
                }
                Err(error) => {
                    // Out of descriptors, or a client that was gone at once: the next one may fare better.
                    tracing::warn!(%error, "the object storage could not accept a connection");
                    tokio::task::yield_now().await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, service: s3s::service::S3Service, gate: Gate) {
    let served = async {
        // Without it every GET of pgBackRest waits 40 ms for a delayed acknowledgement.
        stream.set_nodelay(true)?;
        let stream = acceptor.accept(stream).await?;
        let handler = service_fn(|request: http::Request<hyper::body::Incoming>| {
            let refused = gate.pass(request.uri().path());
            let service = service.clone();
            async move {
                match refused {
                    Some(response) => Ok(response),
                    None => hyper::service::Service::call(&service, request).await,
                }
            }
        });
        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), handler)
            .await
    };
    if let Err(error) = served.await {
        tracing::debug!(error, "a connection to the object storage failed");
    }
}
