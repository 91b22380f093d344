//! A data directory that `initdb` has made once.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::ServerError;
use crate::partial;
use crate::process::{Account, Launch, Spawner};

/// How long `initdb` may take. It needs about a second; the rest is for a machine under load.
const INITDB_DEADLINE: Duration = Duration::from_mins(1);

/// Held while a data directory is put into place: of two copies for one place, the later one finds the earlier one there.
static PLACING: Mutex<()> = Mutex::new(());

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

    /// Puts a fresh data directory at `data`, in place of an unfinished one. It appears in one step; when this future is
    /// dropped, the copy, which nothing can interrupt, is not put there any more.
    pub(super) async fn fill(&self, data: PathBuf) -> Result<(), ServerError> {
        let (template, target) = (self.template.clone(), data.clone());
        let unwanted = CancellationToken::new();
        let _unwanted_when_dropped = unwanted.clone().drop_guard();
        tokio::task::spawn_blocking(move || place(&template, &target, Account::nobody_if_root(), &unwanted))
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
    let all = parent(template);
    fs::create_dir_all(all)?;
    let lock = fs::File::create(all.join("lock"))?;
    lock.lock()?;
    // Whoever has made it was killed: who is alive holds the lock.
    partial::remove_all(all)?;
    // The scratch directory may lie on another file system.
    let beside = copy_beside(made, template, None)?;
    match fs::rename(beside.path().join(WHOLE), template) {
        Err(_) if template.join("PG_VERSION").exists() => Ok(()),
        result => result,
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}

/// Copies a template to where a server's data is to be, unless that is there already or is `unwanted` by now.
fn place(template: &Path, target: &Path, account: Option<Account>, unwanted: &CancellationToken) -> io::Result<()> {
    let beside = copy_beside(template, target, account)?;
    let _placing = PLACING.lock().unwrap_or_else(PoisonError::into_inner);
    if unwanted.is_cancelled() || target.join("PG_VERSION").exists() {
        return Ok(());
    }
    match fs::remove_dir_all(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(beside.path().join(WHOLE), target)
}

/// What a copy is called in the directory that [`copy_beside`] makes.
const WHOLE: &str = "data";

/// Copies a directory to beside `target`, from where it can be moved there in one step.
fn copy_beside(from: &Path, target: &Path, account: Option<Account>) -> io::Result<TempDir> {
    let parent = parent(target);
    fs::create_dir_all(parent)?;
    let beside = tempfile::Builder::new().prefix(partial::PREFIX).tempdir_in(parent)?;
    copy(from, &beside.path().join(WHOLE), account)?;
    Ok(beside)
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing_there(&[], false, Some("16"))]
    #[case::an_unfinished_copy(&["base/1/1259", "postgresql.conf"], false, Some("16"))]
    #[case::somebody_s_data(&["PG_VERSION"], false, Some("PG_VERSION"))]
    #[case::not_wanted_any_more(&[], true, None)]
    fn data_is_placed_as_a_whole(#[case] there: &[&str], #[case] is_unwanted: bool, #[case] version: Option<&str>) {
        let directory = tempfile::tempdir().unwrap();
        let (template, target) = (directory.path().join("template"), directory.path().join("volume/data"));
        fs::create_dir_all(template.join("base")).unwrap();
        fs::write(template.join("PG_VERSION"), "16").unwrap();
        for file in there {
            let path = target.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let unwanted = CancellationToken::new();
        if is_unwanted {
            unwanted.cancel();
        }
        place(&template, &target, None, &unwanted).unwrap();
        assert_eq!(fs::read_to_string(target.join("PG_VERSION")).ok().as_deref(), version);
        assert!(!target.join("postgresql.conf").exists(), "nothing is left of an unfinished copy");
        let mut beside = fs::read_dir(directory.path().join("volume")).unwrap().map(|entry| entry.unwrap().path());
        assert!(beside.all(|path| path == target), "the copy itself is gone");
    }

    #[test]
    fn a_template_is_kept_in_place_of_what_a_killed_process_has_left() {
        let directory = tempfile::tempdir().unwrap();
        let (made, templates) = (directory.path().join("made"), directory.path().join("templates"));
        fs::create_dir(&made).unwrap();
        fs::write(made.join("PG_VERSION"), "16").unwrap();
        // As far as one gets that is killed while it copies.
        let killed = copy_beside(&made, &templates.join("16"), None).unwrap().keep();
        keep(&made, &templates.join("16")).unwrap();
        assert!(!killed.exists());
        let mut names: Vec<_> = fs::read_dir(&templates).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["16", "lock"]);
    }
}
