//! etcd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::Launch;

/// The socket on which etcd serves, in the directory of the control plane.
pub(super) fn socket(directory: &Path) -> PathBuf {
    directory.join("etcd.sock")
}

/// The data directory, in the directory of the control plane.
pub(super) fn data(directory: &Path) -> PathBuf {
    directory.join("etcd")
}

/// etcd on Unix sockets. Nothing is synced to the disk: the data is thrown away with the run.
///
/// etcd insists on advertised addresses of the form `host:port`; nobody uses them.
pub(super) fn launch(binary: &Path, directory: &Path) -> Launch {
    let unix = |path: PathBuf| format!("unix://{}", path.display());
    Launch::new("etcd", binary)
        .arg("--name=conformance")
        .arg(format!("--data-dir={}", data(directory).display()))
        .arg("--unsafe-no-fsync")
        .arg(format!("--listen-client-urls={}", unix(socket(directory))))
        .arg("--advertise-client-urls=http://localhost:1")
        .arg(format!("--listen-peer-urls={}", unix(directory.join("peer.sock"))))
        .arg("--initial-advertise-peer-urls=http://localhost:1")
        .arg("--initial-cluster=conformance=http://localhost:1")
        .arg("--log-level=warn")
        .envs(super::memory::collect_rarely(200))
        .directory(directory)
        .log(directory.join("etcd.log"))
        .grace(Duration::from_secs(5))
}
