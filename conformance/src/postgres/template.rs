//! A data directory that `initdb` has made once.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ServerError;
use crate::process::{Account, Launch, Spawner};

/// How long `initdb` may take. It needs about a second; the rest is for a machine under load.
const INITDB_DEADLINE: Duration = Duration::from_mins(1);

/// Where PostgreSQL's programs are, and a data directory to copy: copying takes a fifth of the time of `initdb`.
///
/// All copies have one system identifier. Nothing here compares them; a test that does needs `initdb` itself.
#[derive(Clone, Debug)]
pub struct Installation {
    programs: PathBuf,
    template: PathBuf,
}

impl Installation {
    /// Prepares the installation whose server programs are in `programs`, which every user must be able to read.
    ///
    /// `template` is the path of the template, which is made if it is not there; two processes may do so at the same
    /// time. `scratch` is a directory in which PostgreSQL's user can be given one of its own.
    pub async fn prepare(
        programs: PathBuf,
        template: PathBuf,
        scratch: &Path,
        spawner: &Spawner,
    ) -> Result<Self, ServerError> {
        if !template.join("PG_VERSION").exists() {
            let here = scratch.join(format!("initdb-{}", std::process::id()));
            let made = initdb(&programs, &here, spawner).await;
            let kept = made.and_then(|()| keep(&here.join("data"), &template).map_err(ServerError::files(&template)));
            fs::remove_dir_all(&here).map_err(ServerError::files(&here))?;
            kept?;
        }
        Ok(Self { programs, template })
    }

    /// The path of one of PostgreSQL's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Puts a fresh data directory at `data`, which must not exist.
    pub(super) async fn fill(&self, data: PathBuf) -> Result<(), ServerError> {
        let (template, target) = (self.template.clone(), data.clone());
        tokio::task::spawn_blocking(move || copy(&template, &target, Account::nobody_if_root()))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(ServerError::files(&data))
    }
}

async fn initdb(programs: &Path, scratch: &Path, spawner: &Spawner) -> Result<(), ServerError> {
    let account = Account::nobody_if_root();
    directory(scratch, account).map_err(ServerError::files(scratch))?;
    let launch = Launch::new("initdb", programs.join("initdb"))
        .arg("-D")
        .arg(scratch.join("data"))
        .args(["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust", "--no-sync", "--no-instructions"])
        .env("TZ", "UTC")
        .account(account);
    let done = spawner.complete(&launch, INITDB_DEADLINE).await?;
    if done.status.success() {
        return Ok(());
    }
    Err(ServerError::Ended { name: "initdb".to_owned(), status: done.status.to_string(), log: done.stderr })
}

/// Moves what was made into place, or leaves what another process has put there meanwhile.
fn keep(made: &Path, template: &Path) -> io::Result<()> {
    let parent = template.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(parent)?;
    // The copy must become visible in one step, and the scratch directory may lie on another file system.
    let beside = tempfile::tempdir_in(parent)?;
    let whole = beside.path().join("data");
    copy(made, &whole, None)?;
    match fs::rename(&whole, template) {
        Err(_) if template.join("PG_VERSION").exists() => Ok(()),
        result => result,
    }
}

/// A directory that only `account` (or, without one, this user) and root can enter.
pub(super) fn directory(path: &Path, account: Option<Account>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    own(path, account)
}

pub(super) fn own(path: &Path, account: Option<Account>) -> io::Result<()> {
    account.map_or(Ok(()), |account| chown(path, Some(account.uid), Some(account.gid)))
}

fn copy(from: &Path, to: &Path, account: Option<Account>) -> io::Result<()> {
    directory(to, account)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target, account)?;
        } else {
            fs::copy(entry.path(), &target)?;
            own(&target, account)?;
        }
    }
    Ok(())
}
