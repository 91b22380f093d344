//! Servers of ours that speak TLS.
//!
//! Base layer: the connections of a listener, each with the certificate of a [`crate::pki::Identity`]. What is answered is
//! the caller's.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::pki::Identity;

/// How long a listener rests that could not accept: out of descriptors, it would try again at once for ever, and nothing tells
/// when one is free.
const REST: Duration = Duration::from_millis(50);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Accepts TLS with this certificate.
///
/// # Errors
/// The certificate does not suit the TLS library.
pub fn acceptor(identity: &Identity) -> Result<TlsAcceptor, rustls::Error> {
    let pem = |error: rustls::pki_types::pem::Error| rustls::Error::General(error.to_string());
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).map_err(pem)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(pem)?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Lets `handler` answer every request that comes in. Never ends; all connections end when it is dropped.
///
/// An error of `handler` closes the connection. `name` says in the log whose connections they are.
pub async fn serve<H, F, B, E>(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    name: &'static str,
    handler: H,
) -> Infallible
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    E: Into<BoxError> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (acceptor, handler) = (acceptor.clone(), handler.clone());
                    connections.spawn(async move {
                        if let Err(error) = connection(stream, acceptor, handler).await {
                            tracing::debug!(error, "a connection to {name} failed");
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, or a client that was gone at once: the next one may fare better.
                    tracing::warn!(%error, "{name} could not accept a connection");
                    tokio::time::sleep(REST).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection<H, F, B, E>(stream: TcpStream, acceptor: TlsAcceptor, handler: H) -> Result<(), BoxError>
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    // Without it answers wait 40 ms for a delayed acknowledgement, as every GET of pgBackRest did.
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    server.serve_connection(TokioIo::new(stream), service_fn(handler)).await
}
