//! Official downloads, each checked by a digest of `versions.toml`.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256, Sha512};

use super::command::Workshop;
use super::error::ToolError;
use super::progress::Step;
use super::tool::architecture;
use super::versions::versions;

/// A server that does not answer within this is not there; a network without a way out often drops packets silently.
const CONNECT: Duration = Duration::from_secs(10);

/// A download that stands still for so long has failed.
const STALL: Duration = Duration::from_mins(1);

/// A compressed tar archive and what is wanted of it, or a program alone.
pub(super) struct Download<'a> {
    /// What messages and `versions.toml` call it: `kubernetes-server`.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Where it is.
    pub url: String,
    /// The directory of the archive that holds the programs; `None`: it is no archive but the one program.
    pub directory: Option<String>,
    /// The programs that are wanted.
    pub programs: &'a [&'a str],
}

impl Download<'_> {
    /// Downloads and unpacks it into `directory`. `false`: no digest is known, or the server cannot be reached, so that
    /// the programs have to be built.
    pub(super) async fn fetch(&self, workshop: &Workshop, directory: &Path) -> Result<bool, ToolError> {
        let key = format!("{} {} linux-{}", self.name, self.version, architecture());
        let Some(expected) = versions().digests.get(&key) else {
            tracing::debug!(%key, "no digest in versions.toml: the official download is skipped");
            return Ok(false);
        };
        let step = workshop.progress.begin(format!("downloading {} {}", self.name, self.version), None);
        let scratch = workshop.scratch()?;
        let file = scratch.path().join("download");
        if !download(&self.url, expected, &file, &step).await? {
            return Ok(false);
        }
        match &self.directory {
            Some(parent) => self.unpack(workshop, &file, parent, directory, &step).await?,
            None => self.install(&file, directory)?,
        }
        step.done();
        Ok(true)
    }

    async fn unpack(
        &self,
        workshop: &Workshop,
        archive: &Path,
        parent: &str,
        directory: &Path,
        step: &Step,
    ) -> Result<(), ToolError> {
        let depth = parent.split('/').count();
        let tar = Workshop::launch("tar", "tar")
            .arg("-xzf")
            .arg(archive)
            .arg("-C")
            .arg(directory)
            .arg(format!("--strip-components={depth}"))
            .args(self.programs.iter().map(|program| format!("{parent}/{program}")));
        workshop.work(tar, step).await?.map_err(|reason| ToolError::Unavailable {
            what: format!("{} {}", self.name, self.version),
            reason,
            remedy: "are tar and gzip installed, and is there space on the disk?".to_owned(),
        })
    }

    /// Makes the downloaded file a program. It may be on another file system than the cache.
    fn install(&self, file: &Path, directory: &Path) -> Result<(), ToolError> {
        let path = directory.join(self.name);
        std::fs::copy(file, &path).map_err(ToolError::file("write", &path))?;
        let mode = Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).map_err(ToolError::file("set the mode of", path))
    }
}

/// Downloads `url` into the file `path`. `false`: it cannot be reached.
async fn download(url: &str, expected: &str, path: &Path, step: &Step) -> Result<bool, ToolError> {
    let mut file = BufWriter::new(File::create(path).map_err(ToolError::file("create", path))?);
    let found = match fetch(url, expected.len(), step, |chunk| file.write_all(chunk)).await {
        Ok(digest) => digest,
        Err(Failure::Network(error)) => {
            tracing::debug!(url, %error, "cannot download");
            return Ok(false);
        }
        Err(Failure::File(error)) => return Err(ToolError::file("write", path)(error)),
    };
    file.flush().map_err(ToolError::file("write", path))?;
    if found != expected {
        return Err(ToolError::Digest { url: url.to_owned(), found, expected: expected.to_owned() });
    }
    Ok(true)
}

enum Failure {
    Network(reqwest::Error),
    File(std::io::Error),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Network(error)
    }
}

/// Passes the body on in chunks and returns its digest, of `length` hexadecimal digits.
async fn fetch(
    url: &str,
    length: usize,
    step: &Step,
    mut write: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<String, Failure> {
    use_ring();
    let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(STALL).build()?;
    let mut response = client.get(url).send().await?.error_for_status()?;
    let total = response.content_length().map(|total| format!(" of {}", total >> 20)).unwrap_or_default();
    let (mut sha256, mut sha512, mut size) = (Sha256::new(), Sha512::new(), 0);
    while let Some(chunk) = response.chunk().await? {
        if length == SHA256_DIGITS {
            sha256.update(&chunk);
        } else {
            sha512.update(&chunk);
        }
        write(&chunk).map_err(Failure::File)?;
        size += chunk.len();
        step.note(format!("{}{total} MiB", size >> 20));
    }
    Ok(if length == SHA256_DIGITS { hex::encode(sha256.finalize()) } else { hex::encode(sha512.finalize()) })
}

const SHA256_DIGITS: usize = 64;

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
    async fn a_download_is_good_only_when_its_digest_is_right() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let step = Progress::silent().begin("downloading", None);

        let error = download(&server().await, "00", &path, &step).await.unwrap_err();
        assert!(matches!(error, ToolError::Digest { .. }), "{error}");

        for digest in [hex::encode(Sha256::digest("hello")), hex::encode(Sha512::digest("hello"))] {
            assert!(download(&server().await, &digest, &path, &step).await.unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "hello");
        }
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
