//! What is to be started, and how.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// How long a process has to end by itself after SIGTERM, unless its [`Launch`] says otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// A user to run as. Only root may change to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id; the process has no other groups.
    pub gid: u32,
}

impl Account {
    /// `nobody`, when this process is root: for programs that refuse to run as root. `None` when it is not root.
    ///
    /// Falls back to 65534, the number that Linux itself uses for "nobody", where the machine has no such user.
    pub fn nobody_if_root() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let nobody = nix::unistd::User::from_name("nobody").ok().flatten();
        Some(
            nobody.map_or(Self { uid: 65534, gid: 65534 }, |user| Self {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            }),
        )
    }
}

/// Where a stream of a child goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    #[default]
    Null,
    /// To the end of a file, which is created (mode 0600) when it is missing.
    Append(PathBuf),
    /// To the parent.
    Pipe,
}

/// A process to start. Its standard input is empty.
///
/// The environment of the parent is *not* inherited: what the child needs is named. The run's marker is added to it.
#[derive(Clone, Debug)]
pub struct Launch {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: BTreeMap<OsString, OsString>,
    pub(super) directory: Option<PathBuf>,
    pub(super) account: Option<Account>,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) grace: Duration,
}

impl Launch {
    /// `name` is what messages call the process. A `program` without a slash is searched in the *child's* `PATH`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            directory: None,
            account: None,
            stdout: Output::Null,
            stderr: Output::Null,
            grace: GRACE,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, variable: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(variable.into(), value.into());
        self
    }

    /// Sets variables.
    #[must_use]
    pub fn envs<K: Into<OsString>, V: Into<OsString>>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
        self.environment.extend(variables.into_iter().map(|(variable, value)| (variable.into(), value.into())));
        self
    }

    /// Passes these variables of our own environment on, where they are set and have not been given a value yet.
    #[must_use]
    pub fn inherit<V: AsRef<OsStr>>(mut self, variables: impl IntoIterator<Item = V>) -> Self {
        for variable in variables {
            if let Some(value) = std::env::var_os(&variable) {
                self.environment.entry(variable.as_ref().to_owned()).or_insert(value);
            }
        }
        self
    }

    /// The working directory; ours when it is not given.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs it as another user; `None` changes nothing.
    #[must_use]
    pub fn account(mut self, account: impl Into<Option<Account>>) -> Self {
        self.account = account.into();
        self
    }

    /// Where standard output goes.
    #[must_use]
    pub fn stdout(mut self, output: Output) -> Self {
        self.stdout = output;
        self
    }

    /// Where standard error goes.
    #[must_use]
    pub fn stderr(mut self, output: Output) -> Self {
        self.stderr = output;
        self
    }

    /// Both streams to the end of one file.
    #[must_use]
    pub fn log(self, path: impl Into<PathBuf>) -> Self {
        let output = Output::Append(path.into());
        self.stdout(output.clone()).stderr(output)
    }

    /// How long it has to end by itself after SIGTERM (5 s by default).
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// What messages call the process.
    pub fn name(&self) -> &str {
        &self.name
    }
}
