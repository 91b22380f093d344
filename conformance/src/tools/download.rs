//! Official downloads, each checked by a digest of `versions.toml`.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::error::ToolError;
use super::progress::Step;
use super::tool::architecture;
use super::versions::versions;

/// The digest for a program at a version on this platform; `None`: nobody could cite one, so it is not downloaded.
pub(super) fn digest(program: &str, version: &str) -> Option<&'static str> {
    let key = format!("{program} {version} linux-{}", architecture());
    let digest = versions().digests.get(&key).map(String::as_str);
    if digest.is_none() {
        tracing::debug!(%key, "no digest in versions.toml: the official download is skipped");
    }
    digest
}

/// Downloads `url` into the file `path`, which appears only when the digest is right. `false`: it cannot be reached.
pub(super) async fn download(url: &str, expected: &str, path: &Path, step: &Step) -> Result<bool, ToolError> {
    let body = match fetch(url, step).await {
        Ok(body) => body,
        Err(error) => {
            tracing::debug!(url, %error, "cannot download");
            step.note(error.to_string());
            return Ok(false);
        }
    };
    let found = hex::encode(Sha256::digest(&body));
    if found != expected {
        return Err(ToolError::Digest { url: url.to_owned(), found, expected: expected.to_owned() });
    }
    std::fs::write(path, body).map_err(ToolError::file("write", path))?;
    Ok(true)
}

async fn fetch(url: &str, step: &Step) -> reqwest::Result<Vec<u8>> {
    use_ring();
    let mut response = reqwest::get(url).await?.error_for_status()?;
    let total = response.content_length().map(|length| format!(" of {}", length >> 20)).unwrap_or_default();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        step.note(format!("{}{total} MiB", body.len() >> 20));
    }
    Ok(body)
}

/// `reqwest` is built without a TLS provider of its own and panics when the process has not chosen one.
pub(super) fn use_ring() {
    // An error says that one is chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::tools::Progress;

    /// Serves `hello` once.
    async fn server() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        url
    }

    #[tokio::test]
    async fn a_file_is_kept_only_when_its_digest_is_right() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let step = Progress::silent().begin("downloading", None);

        let error = download(&server().await, "00", &path, &step).await.unwrap_err();
        assert!(matches!(error, ToolError::Digest { .. }), "{error}");
        assert!(!path.exists());

        let digest = hex::encode(Sha256::digest("hello"));
        assert!(download(&server().await, &digest, &path, &step).await.unwrap());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let step = Progress::silent().begin("downloading", None);
        // Nobody listens on the discard port of loopback.
        let reached = download("http://127.0.0.1:9/file", "00", &directory.path().join("file"), &step).await;
        assert!(!reached.unwrap());
    }
}
