//! The directory of a run, and the state in it that lets others find what it started.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::procfs::{self, Identity};
use super::sweep::{self, Swept};

const STATE_FILE: &str = "state.json";
const LOCK_FILE: &str = "lock";

/// How many bytes the path of a Unix socket may have on Linux: `sun_path` without its closing zero.
const SOCKET_PATH: usize = 107;

/// The socket of a run with the longest path in it: that of a database which a scenario makes on a control plane of its own
/// (`embedded::lease`), with the numbers of a long run and the longest port. Those of Percona's databases are shorter.
const DEEPEST_SOCKET: &str = "own-9999/database-9999-9/socket/.s.PGSQL.65535";

/// Everyone may pass through, so that PostgreSQL can run as another user; nobody else may look around.
const DIRECTORY_MODE: u32 = 0o711;

/// The directory of runs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An operation on a file or directory failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something of the run is still there.
    #[error("left: {0}")]
    Left(String),
    /// The directory is another user's, or not a directory: someone may want us to write into it, or to believe what is in it.
    #[error("{} is not a directory of uid {uid} alone; remove it, or set TMPDIR to another directory", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Who we are.
        uid: u32,
    },
    /// The sockets of a run would have longer paths than there may be.
    #[error(
        "{} is too long: the path of a socket in it has up to {length} bytes, and Linux takes {SOCKET_PATH}; set \
         TMPDIR to a shorter directory",
        path.display()
    )]
    TooLong {
        /// The directory of the runs.
        path: PathBuf,
        /// How long the path of a socket can become.
        length: usize,
    },
}

pub(super) fn file_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> RunError + use<'a> {
    move |source| RunError::File { action, path: path.to_owned(), source }
}

/// What `state.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Id of the run: the name of its directory, and the value of [`super::RUN_VARIABLE`].
    pub run: String,
    /// The machine's start to which the start times below belong.
    pub boot_id: String,
    /// The process that owns the run.
    pub supervisor: Identity,
    /// What it has started and not yet reaped.
    pub children: Vec<Started>,
}

/// A recorded child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// What messages call it.
    pub name: String,
    /// Who it is.
    #[serde(flatten)]
    pub identity: Identity,
}

impl State {
    /// Whether the process that owns the run still runs.
    pub fn is_alive(&self) -> bool {
        self.boot_id == procfs::boot_id() && self.supervisor.is_alive()
    }
}

/// A run of this process: its directory and its state. The directory stays until [`Run::remove`] or a sweep.
#[derive(Debug)]
pub struct Run {
    directory: PathBuf,
    state: Mutex<State>,
    /// Told whenever a child has been reaped.
    forgotten: Notify,
}

/// Where the runs of this user are: `<tmp>/dittofs-conformance-<uid>`.
pub fn default_base() -> PathBuf {
    std::env::temp_dir().join(format!("dittofs-conformance-{}", geteuid()))
}

impl Run {
    /// Makes the directory of a new run, owned by this process, under `base` (see [`default_base`]).
    pub fn create(base: &Path) -> Result<Self, RunError> {
        // Short, because it is part of the paths of Unix sockets.
        let id = format!("{:08x}", rand::random::<u32>());
        let directory = base.join(&id);
        let length = directory.join(DEEPEST_SOCKET).as_os_str().len();
        if length > SOCKET_PATH {
            return Err(RunError::TooLong { path: base.to_owned(), length });
        }
        let _lock = lock(base)?;
        DirBuilder::new().mode(DIRECTORY_MODE).create(&directory).map_err(file_error("create", &directory))?;
        // The umask may have taken the bits that others need to pass through.
        let mode = Permissions::from_mode(DIRECTORY_MODE);
        fs::set_permissions(&directory, mode).map_err(file_error("set the mode of", &directory))?;
        let state = State { run: id, boot_id: procfs::boot_id(), supervisor: Identity::own(), children: Vec::new() };
        write(&directory, &state).map_err(file_error("write the state in", &directory))?;
        Ok(Self { directory, state: Mutex::new(state), forgotten: Notify::new() })
    }

    /// Eight hexadecimal digits.
    pub fn id(&self) -> &str {
        self.directory.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Its directory: everyone may pass through it, only the owner may list it or write to it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes the directory and all that is in it, after ending what still runs there: children of killed children, such
    /// as the backends of a PostgreSQL, which hold its shared memory for a moment. Every child of ours must have ended
    /// (see [`Run::childless`]).
    ///
    /// Blocks, as [`super::sweep`] does.
    pub fn remove(&self) -> Result<(), RunError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut swept = Swept::default();
        sweep::bury(&[Found { directory: self.directory.clone(), state: Some(state) }], &mut swept);
        if swept.left.is_empty() { Ok(()) } else { Err(RunError::Left(swept.left.join("; "))) }
    }

    pub(super) fn record(&self, name: &str, identity: Identity) -> io::Result<()> {
        self.change(|children| children.push(Started { name: name.to_owned(), identity }))
    }

    /// Waits until no child is left. Those whose handle was dropped have been killed, but need a moment to end.
    pub async fn childless(&self) {
        loop {
            let forgotten = self.forgotten.notified();
            if self.state.lock().unwrap_or_else(PoisonError::into_inner).children.is_empty() {
                return;
            }
            forgotten.await;
        }
    }

    pub(super) fn forget(&self, identity: Identity) -> io::Result<()> {
        let outcome = self.change(|children| children.retain(|child| child.identity != identity));
        self.forgotten.notify_waiters();
        outcome
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Started>)) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut state.children);
        write(&self.directory, &state)
    }
}

/// Replaces the state file in one step. Not flushed to the disk: it need not survive the machine, only its processes.
fn write(directory: &Path, state: &State) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut file, state)?;
    file.flush()?;
    file.persist(directory.join(STATE_FILE))?;
    Ok(())
}

/// A run that was found on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its directory.
    pub directory: PathBuf,
    /// Its state. `None`: it was killed before it could write one, or someone damaged it.
    pub state: Option<State>,
}

impl Found {
    /// Whether its supervisor still runs.
    pub fn is_alive(&self) -> bool {
        self.state.as_ref().is_some_and(State::is_alive)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.directory.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// All runs under `base`, by id; none when `base` does not exist.
///
/// # Errors
/// It cannot be listed, or it is not ours: what is said in it about runs, others may have written.
pub fn list(base: &Path) -> Result<Vec<Found>, RunError> {
    if !is_ours(base)? {
        return Ok(Vec::new());
    }
    let entries = match fs::read_dir(base) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error("list", base)(error)),
    };
    let mut runs = Vec::new();
    for entry in entries {
        let directory = entry.map_err(file_error("list", base))?.path();
        if directory.is_dir() {
            let state = fs::read(directory.join(STATE_FILE)).ok();
            runs.push(Found { state: state.and_then(|text| serde_json::from_slice(&text).ok()), directory });
        }
    }
    runs.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok(runs)
}

/// Makes `base` when it is missing, checks that it is ours, and keeps others from creating or sweeping runs in it until
/// the file is dropped: a run without a state is dead to whoever holds this lock.
pub(super) fn lock(base: &Path) -> Result<File, RunError> {
    provide(base)?;
    let path = base.join(LOCK_FILE);
    let file = open_lock(&path)?;
    file.lock().map_err(file_error("lock", &path))?;
    Ok(file)
}

/// Makes `base` when it is missing, and checks that it is ours.
pub(crate) fn provide(base: &Path) -> Result<(), RunError> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(file_error("create", base)(error)),
        Ok(()) | Err(_) => {}
    }
    is_ours(base)?;
    let metadata = fs::symlink_metadata(base).map_err(file_error("inspect", base))?;
    if metadata.mode() & 0o777 != DIRECTORY_MODE {
        let mode = Permissions::from_mode(DIRECTORY_MODE);
        fs::set_permissions(base, mode).map_err(file_error("set the mode of", base))?;
    }
    Ok(())
}

/// Whether `base` is there: then it is a directory of this user, into which nobody else can write.
fn is_ours(base: &Path) -> Result<bool, RunError> {
    let metadata = match fs::symlink_metadata(base) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(file_error("inspect", base)(error)),
    };
    let uid = geteuid().as_raw();
    if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o022 != 0 {
        return Err(RunError::NotOurs { path: base.to_owned(), uid });
    }
    Ok(true)
}

/// Opens a file that is there to be locked, and that no other user can lock.
pub(crate) fn open_lock(path: &Path) -> Result<File, RunError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    options.open(path).map_err(file_error("open", path))
}

/// Removes a tree that may be gone already.
pub(super) fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("runs");
        (directory, base)
    }

    #[test]
    fn a_new_run_is_listed_as_alive_and_readable_by_its_owner_only() {
        let (_directory, base) = base();
        let run = Run::create(&base).unwrap();
        let found = list(&base).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id(), run.id());
        assert!(found[0].is_alive());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(run.directory()), 0o711);
        assert_eq!(mode(&run.directory().join(STATE_FILE)), 0o600);
        run.remove().unwrap();
        assert_eq!(list(&base).unwrap(), []);
    }

    #[test]
    fn children_are_noted_until_they_are_forgotten() {
        let (_directory, base) = base();
        let run = Run::create(&base).unwrap();
        let identity = Identity { pid: 7, start_time: 8 };
        run.record("etcd", identity).unwrap();
        let state = list(&base).unwrap().remove(0).state.unwrap();
        assert_eq!(state.children, [Started { name: "etcd".to_owned(), identity }]);
        run.forget(identity).unwrap();
        assert_eq!(list(&base).unwrap().remove(0).state.unwrap().children, []);
    }

    #[test]
    fn a_run_of_an_earlier_boot_is_dead() {
        let state = State {
            run: "3f".to_owned(),
            boot_id: "another".to_owned(),
            supervisor: Identity::own(),
            children: Vec::new(),
        };
        assert!(!state.is_alive());
    }

    #[test]
    fn a_base_that_others_may_write_to_is_refused() {
        let (_directory, base) = base();
        let _run = Run::create(&base).unwrap();
        fs::set_permissions(&base, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Run::create(&base), Err(RunError::NotOurs { .. })));
        assert!(matches!(list(&base), Err(RunError::NotOurs { .. })));
    }

    #[test]
    fn a_base_in_which_sockets_have_no_room_is_refused() {
        let (directory, _) = base();
        let room = SOCKET_PATH - directory.path().as_os_str().len() - "//12345678/".len() - DEEPEST_SOCKET.len();
        let run = Run::create(&directory.path().join("r".repeat(room))).unwrap();
        assert_eq!(run.directory().join(DEEPEST_SOCKET).as_os_str().len(), SOCKET_PATH);
        let longer = directory.path().join("r".repeat(room + 1));
        let error = Run::create(&longer).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with(&longer.display().to_string()) && said.contains("108 bytes"), "{said}");
        assert!(said.ends_with("Linux takes 107; set TMPDIR to a shorter directory"), "{said}");
        assert!(!longer.exists());
    }

    #[test]
    fn a_base_that_is_a_link_is_refused() {
        let (directory, base) = base();
        let _run = Run::create(&base).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&base, &link).unwrap();
        assert!(matches!(Run::create(&link), Err(RunError::NotOurs { .. })));
        assert!(matches!(list(&link), Err(RunError::NotOurs { .. })));
    }

    #[test]
    fn a_lock_is_of_its_owner_only_and_no_link() {
        let (_directory, base) = base();
        drop(lock(&base).unwrap());
        let path = base.join(LOCK_FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let link = base.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(open_lock(&link), Err(RunError::File { action: "open", .. })));
    }
}
