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
    tokio::select! {
        response = sender.send_request(request) => Ok(response?.status()),
        closed = connection => {
            closed?;
            bail!("the connection was closed without an answer")
        }
    }
}
