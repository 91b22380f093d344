//! HTTP over TLS for the webhook.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificate::Certificate;

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves `router` until `shutdown`, then finishes what is under way.
pub async fn serve(listener: TcpListener, certificate: Certificate, router: Router, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of the webhook");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let acceptor = TlsAcceptor::from(certificate.current());
        tasks.spawn(connection(stream, acceptor, router.clone(), shutdown.clone()));
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, shutdown: CancellationToken) {
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE, acceptor.accept(stream)) => accepted,
        // Nobody has asked anything yet.
        () = shutdown.cancelled() => return,
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake with the webhook failed"),
        Err(_) => return tracing::debug!("TLS handshake with the webhook took too long"),
    };
    let builder = Arc::new(auto::Builder::new(TokioExecutor::new()));
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection of the webhook ended badly");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// A server, a client that trusts it, and what ends it.
    async fn serving() -> (SocketAddr, TlsConnector, CancellationToken, JoinHandle<()>) {
        rustls::crypto::ring::default_provider().install_default().ok();
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["webhook".to_owned()]).unwrap();
        std::fs::write(directory.path().join("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(directory.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = Certificate::load(directory.path()).unwrap();
        let router = Router::new().route("/hello", get(async || "how do you do"));
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, certificate, router, shutdown.clone()));
        (address, TlsConnector::from(Arc::new(config)), shutdown, serving)
    }

    async fn ask(address: SocketAddr, connector: &TlsConnector) -> std::io::Result<String> {
        let stream = TcpStream::connect(address).await?;
        let mut stream = connector.connect(ServerName::try_from("webhook").unwrap(), stream).await?;
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: webhook\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn it_answers_over_tls_and_minds_no_stranger() {
        let (address, connector, _shutdown, _serving) = serving().await;
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(b"GET /hello HTTP/1.1\r\n\r\n").await.unwrap();
        let answer = ask(address, &connector).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("how do you do"), "{answer}");
        // What it is told is an alert of TLS, and no answer.
        let mut told = Vec::new();
        stranger.read_to_end(&mut told).await.unwrap();
        assert!(!told.starts_with(b"HTTP"));
    }

    #[tokio::test]
    async fn it_ends_and_closes_idle_connections() {
        let (address, connector, shutdown, serving) = serving().await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut idle = connector.connect(ServerName::try_from("webhook").unwrap(), stream).await.unwrap();
        shutdown.cancel();
        timeout(HANDSHAKE / 2, serving).await.expect("it ends before a handshake that never begins").unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap_or_default(), 0);
        assert_eq!(idle.read(&mut [0]).await.unwrap_or_default(), 0);
        assert!(ask(address, &connector).await.is_err());
    }
}
