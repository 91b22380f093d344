//! Root file systems of Debian packages, without a package manager in them: nothing is configured, only unpacked.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::tools::{Apt, Step, ToolError, Workshop, versions};

/// What is in a root file system.
pub(super) struct Packages<'a> {
    /// These, and all that they depend on.
    pub with_dependencies: &'a [&'a str],
    /// These alone.
    pub alone: &'a [&'a str],
}

/// What nobody reads in a container. The licences (`usr/share/doc/*/copyright`) stay.
const SUPERFLUOUS: [&str; 6] =
    ["usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/share/perl5"];

/// `nonroot` is who our images run as; programs that look their user up find one.
const USERS: &str = "root:x:0:0:root:/:/usr/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/usr/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\nnonroot:x:65532:\n";

impl Packages<'_> {
    /// Everything that decides what is in it, but for the state of the Debian mirror.
    pub(super) fn recipe(&self) -> String {
        format!("{} {} {}", versions().images.debian, self.with_dependencies.join(","), self.alone.join(","))
    }

    /// Fills the directory `root`.
    pub(super) async fn unpack(&self, workshop: &Workshop, root: &Path, step: &Step) -> Result<(), ToolError> {
        let apt = Apt::open(workshop, Some(&versions().images.debian), step).await?;
        // base-files is among those alone: its links /bin, /lib, … have to be there before anything is put behind them.
        apt.unpack(self.alone, root, step).await?;
        apt.unpack_with_dependencies(self.with_dependencies, root, step).await?;
        finish(root).map_err(ToolError::file("write to", root))
    }
}

fn finish(root: &Path) -> io::Result<()> {
    let encodings = format!("usr/lib/{}-linux-gnu/gconv", std::env::consts::ARCH);
    for path in SUPERFLUOUS.into_iter().chain([encodings.as_str()]) {
        unless_missing(fs::remove_dir_all(root.join(path)))?;
    }
    fs::write(root.join("etc/passwd"), USERS)?;
    fs::write(root.join("etc/group"), GROUPS)
}

/// Makes `name` in `usr/bin` a link to `target`, in place of what was there.
pub(super) fn link(root: &Path, name: &str, target: &str) -> io::Result<()> {
    let path = root.join("usr/bin").join(name);
    unless_missing(fs::remove_file(&path))?;
    symlink(target, path)
}

fn unless_missing(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
