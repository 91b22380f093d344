//! Running pgBackRest for one cluster.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bounds;
use super::config::{self, Config, Instance, Layout, STANZA};
use super::info::{self, Stanza};
use crate::process::{Account, Launch, Spawner, shell_line};
use crate::redact::{redact, register};

/// How long a command may take that only reads or writes a few small objects. pgBackRest retries within it.
const COMMAND: Duration = Duration::from_mins(1);
/// How long a backup may take. Without `start-fast` it waits for a spread checkpoint, which takes minutes.
const BACKUP: Duration = Duration::from_mins(10);

/// How the options end whose values pgBackRest never prints.
const SECRETS: [&str; 7] = [
    "-s3-key",
    "-s3-key-secret",
    "-s3-token",
    "-cipher-pass",
    "-azure-key",
    "-gcs-key",
    "-sftp-private-key-passphrase",
];

/// A pgBackRest command that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("command terminated with exit code {code}: {output}")]
pub struct Failure {
    /// Its exit code: 39 for an answer of S3 that is not a success, 29 for a bad option, …; -1 when it did not end by
    /// itself.
    pub code: i32,
    /// What it wrote, without secrets.
    pub output: String,
}

/// The `pgbackrest` program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its file, which PostgreSQL's user can execute.
    pub path: PathBuf,
    /// What it needs in its environment, such as `LD_LIBRARY_PATH`.
    pub environment: BTreeMap<String, String>,
}

/// What a [`Repository`] is made of.
#[derive(Clone)]
pub struct Options {
    /// The program.
    pub program: Program,
    /// Starts it.
    pub spawner: Spawner,
    /// Whom it runs as: PostgreSQL's user, whose files it reads.
    pub account: Option<Account>,
    /// A directory of its own, which it makes and fills.
    pub directory: PathBuf,
    /// The PostgreSQL that is backed up.
    pub instance: Instance,
}

/// pgBackRest for one cluster. A cheap handle.
#[derive(Clone)]
pub struct Repository {
    options: Options,
}

impl Repository {
    /// Makes the directories. Nothing is configured yet, but [`Self::archive_command`] is final.
    ///
    /// # Errors
    /// A directory cannot be made or given to the account.
    pub fn create(options: Options) -> io::Result<Self> {
        let repository = Self { options };
        let layout = repository.layout();
        for directory in layout.directories() {
            repository.directory(&directory)?;
        }
        if !layout.instance().exists() {
            repository.refuse("it is not configured yet")?;
        }
        Ok(repository)
    }

    /// The data directory of the PostgreSQL that is backed up.
    pub fn data(&self) -> &Path {
        &self.options.instance.data
    }

    /// Writes the configuration, in place of an earlier one. Commands that run already keep what they have read. With one
    /// that leads out of the double's own directories all commands fail.
    ///
    /// # Errors
    /// A file cannot be written, or given to the account; or it would not lie where the others do.
    pub fn configure(&self, config: &Config) -> io::Result<()> {
        for secret in secrets(config) {
            register(&secret);
        }
        if let Some(reason) = bounds::refusal(config) {
            return self.refuse(&reason);
        }
        let layout = self.layout();
        let files = config::files(config, &self.options.instance, &layout);
        let files = files.map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
        for volume in config.volumes.values() {
            self.directory(volume)?;
        }
        self.write(&files)?;
        match fs::remove_file(layout.refusal()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets all commands fail, for this reason.
    fn refuse(&self, reason: &str) -> io::Result<()> {
        let layout = self.layout();
        fs::write(layout.refusal(), reason)?;
        self.write(&config::refused(&layout))
    }

    /// Makes these the files of the include directory.
    fn write(&self, files: &BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
        let include = self.layout().include();
        remove_others(&include, Path::new(""), files)?;
        for (name, content) in files {
            let mut directory = include.clone();
            for part in name.parent().into_iter().flat_map(Path::components) {
                directory.push(part);
                self.directory(&directory)?;
            }
            let mut file = tempfile::NamedTempFile::new_in(&self.options.directory)?;
            file.write_all(content)?;
            file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
            own(file.path(), self.options.account)?;
            file.persist(include.join(name))?;
        }
        Ok(())
    }

    /// Makes a directory of the account's, unless it is there.
    fn directory(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        own(path, self.options.account)
    }

    fn layout(&self) -> Layout {
        Layout(self.options.directory.clone())
    }

    /// The value of PostgreSQL's `archive_command`.
    pub fn archive_command(&self) -> String {
        format!("{} \"%p\"", self.shell_command("archive-push"))
    }

    /// A command in the words of a shell, to be run by PostgreSQL.
    fn shell_command(&self, command: &str) -> String {
        let Program { path, environment } = &self.options.program;
        let words = environment
            .iter()
            .map(|(variable, value)| format!("{variable}={value}"))
            .chain([path.to_string_lossy().into_owned()])
            .chain(self.arguments(command));
        format!("/usr/bin/env {}", shell_line(words))
    }

    /// Makes the stanza in every repository, or brings it up to date, as Percona does.
    pub async fn stanza_create(&self) -> Result<(), Failure> {
        let Err(created) = self.run("stanza-create", &[], COMMAND).await else { return Ok(()) };
        let Err(upgraded) = self.run("stanza-upgrade", &[], COMMAND).await else { return Ok(()) };
        Err(Failure { code: upgraded.code, output: created.output + &upgraded.output })
    }

    /// Makes a backup, with options as Percona's Jobs have them in `COMMAND_OPTS` (without `--stanza`). Returns the log.
    pub async fn backup(&self, options: &[&str]) -> Result<String, Failure> {
        let log = std::iter::once("--log-level-console=info");
        // Percona's Jobs run a shell, which takes the quotes away.
        let options: Vec<String> = log.chain(options.iter().copied()).map(|option| option.replace('"', "")).collect();
        self.run("backup", &options, BACKUP).await
    }

    /// Removes what the retention no longer keeps. (Every backup does so at its end.)
    pub async fn expire(&self) -> Result<(), Failure> {
        self.run("expire", &[], COMMAND).await.map(drop)
    }

    /// Makes the instance's data of a backup; PostgreSQL replays the WAL when it starts. `options` are as in the
    /// specification of the cluster. What a restore that fails has made is removed.
    pub async fn restore(&self, repo: &str, options: &[&str]) -> Result<(), Failure> {
        let data = &self.options.instance.data;
        let made = self.directory(data);
        made.map_err(|error| Failure { code: -1, output: format!("cannot make {}: {error}", data.display()) })?;
        // Taken as it is into postgresql.auto.conf, between single quotes.
        let command = format!("{} %f \"%p\"", self.shell_command("archive-get")).replace('\'', "''");
        let get = format!("--recovery-option=restore_command={command}");
        let number = format!("--repo={}", repo.trim_start_matches("repo"));
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).chain([number, get]).collect();
        let restored = self.run("restore", &options, BACKUP).await.map(drop);
        if restored.is_err() {
            // What cannot be removed now makes the next try fail, which then says why.
            let _ = fs::remove_dir_all(data);
        }
        restored
    }

    /// The stanza and its backups; `None` when pgBackRest knows nothing of it.
    pub async fn info(&self) -> Result<Option<Stanza>, Failure> {
        let output = self.run("info", &["--output=json".to_owned()], COMMAND).await?;
        info::parse(&output).map_err(|error| Failure { code: -1, output: format!("info is no JSON: {error}") })
    }

    /// Removes the stanza, with all backups and WAL, from a repository, as the finalizer `percona.com/delete-backups`
    /// does. PostgreSQL may run, but must not archive any more.
    pub async fn stanza_delete(&self, repo: &str) -> Result<(), Failure> {
        self.run("stop", &[], COMMAND).await?;
        let number = repo.trim_start_matches("repo");
        let deleted = self.run("stanza-delete", &[format!("--repo={number}"), "--force".to_owned()], COMMAND).await;
        // In Percona the mark that `stop` leaves goes with the pod.
        self.run("start", &[], COMMAND).await?;
        deleted.map(drop)
    }

    fn arguments(&self, command: &str) -> [String; 4] {
        let include = self.layout().include();
        [
            "--no-config".to_owned(),
            format!("--config-include-path={}", include.display()),
            format!("--stanza={STANZA}"),
            command.to_owned(),
        ]
    }

    async fn run(&self, command: &str, options: &[String], limit: Duration) -> Result<String, Failure> {
        let moved = options.iter().find(|option| bounds::moves_a_repository(option));
        let moved = moved.map(|option| format!("the option {option} says what a repository is, or where"));
        if let Some(reason) = fs::read_to_string(self.layout().refusal()).ok().or(moved) {
            return Err(Failure { code: -1, output: format!("the double does not run pgBackRest: {reason}") });
        }
        let launch = Launch::new(format!("pgbackrest {command}"), &self.options.program.path)
            .args(self.arguments(command))
            .args(options)
            .env("PATH", "/usr/bin:/bin")
            .env("TZ", "UTC")
            .envs(&self.options.program.environment)
            .directory(&self.options.directory)
            .account(self.options.account);
        let completed = self.options.spawner.complete(&launch, limit).await;
        let completed = completed.map_err(|error| Failure { code: -1, output: redact(&error.to_string()) })?;
        match completed.status.code() {
            Some(0) => Ok(completed.stdout),
            // Errors go to the console, which is standard output.
            code => Err(Failure { code: code.unwrap_or(-1), output: redact(&(completed.stdout + &completed.stderr)) }),
        }
    }
}

/// The values of the options that pgBackRest itself never prints: keys, passphrases, tokens.
fn secrets(config: &Config) -> Vec<String> {
    let is_secret = |key: &str| SECRETS.iter().any(|end| key.trim().ends_with(end));
    let mut found: Vec<String> =
        config.global.iter().filter(|(key, _)| is_secret(key)).map(|(_, value)| value.trim().to_owned()).collect();
    for content in config.files.values() {
        let text = String::from_utf8_lossy(content);
        let options = text.lines().filter_map(|line| line.split_once('='));
        found.extend(options.filter(|(key, _)| is_secret(key)).map(|(_, value)| value.trim().to_owned()));
    }
    found
}

/// Removes everything from a directory but `files`, whose paths begin where `prefix` is the directory's.
fn remove_others(directory: &Path, prefix: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = prefix.join(entry.file_name());
        let is_directory = entry.file_type()?.is_dir();
        if is_directory && files.keys().any(|file| *file != name && file.starts_with(&name)) {
            remove_others(&entry.path(), &name, files)?;
        } else if is_directory {
            fs::remove_dir_all(entry.path())?;
        } else if !files.contains_key(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn own(path: &Path, account: Option<Account>) -> io::Result<()> {
    account.map_or(Ok(()), |Account { uid, gid }| std::os::unix::fs::chown(path, Some(uid), Some(gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_the_projected_files_and_in_the_spec() {
        let global = [("repo1-s3-key-secret", "in-the-spec"), ("repo2-azure-key", "azure"), ("repo1-path", "/backups")];
        let config = Config {
            global: global.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            files: [("s3.conf".to_owned(), b"[global]\nrepo1-cipher-pass = in a file\nstart-fast=y\n".to_vec())].into(),
            ..Config::default()
        };
        assert_eq!(secrets(&config), ["in-the-spec", "azure", "in a file"]);
    }

    #[test]
    fn what_is_not_projected_any_more_goes_with_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        for file in ["s3.conf", "old", "both/kept/ca.crt", "both/old", "gone/deep/file", "was/a/directory"] {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let files = ["s3.conf", "both/kept/ca.crt", "new/file", "was"].map(|file| (PathBuf::from(file), Vec::new()));
        let files = BTreeMap::from(files);
        remove_others(directory.path(), Path::new(""), &files).unwrap();
        let is = |path: &str| directory.path().join(path).exists();
        assert_eq!(["s3.conf", "both/kept/ca.crt"].map(is), [true; 2]);
        assert_eq!(["old", "both/old", "gone", "was", "new"].map(is), [false; 5]);
    }
}
