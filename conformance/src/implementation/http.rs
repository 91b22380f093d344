//! One HTTP request: is it ready?

use anyhow::{Context as _, bail};
use http::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What a plain-HTTP URL answers to GET.
pub(super) async fn get(url: &Uri) -> anyhow::Result<StatusCode> {
    let authority = url.authority().with_context(|| format!("{url} names no host"))?;
    if url.scheme_str() != Some("http") {
        bail!("{url} is not an http:// URL");
    }
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request =
        Request::get(path).header(http::header::HOST, authority.as_str()).body(http_body_util::Empty::<&[u8]>::new())?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut answer => response?,
        closed = connection => {
            closed?;
            // A server may close right after its answer, which is there then.
            answer.await.context("the connection was closed without an answer")?
        }
    };
    Ok(response.status())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What is said of a server that answers so and closes.
    async fn asked(answer: &'static [u8]) -> anyhow::Result<StatusCode> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap()).parse().unwrap();
        let serve = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 1024]).await.unwrap();
            connection.write_all(answer).await.unwrap();
        };
        tokio::join!(get(&url), serve).0
    }

    #[tokio::test]
    async fn an_answer_counts_also_when_the_connection_is_closed_after_it() {
        let answered = asked(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        assert_eq!(answered.unwrap(), StatusCode::OK);
    }

    #[tokio::test]
    async fn no_answer_is_none() {
        let error = format!("{:#}", asked(b"").await.unwrap_err());
        assert!(error.contains("the connection was closed without an answer"), "{error}");
    }
}
