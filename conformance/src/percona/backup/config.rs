//! pgBackRest's configuration, as Percona writes it (`contract.md`, 3.1).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where Percona's containers see the projected Secrets. Options that name a file there are led to where it really is.
const MOUNT: &str = "/etc/pgbackrest/conf.d";

/// The stanza; Percona's operator has one name for all clusters.
pub(super) const STANZA: &str = "db";

/// A repository on S3 (`spec.backups.pgbackrest.repos[]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// `repo1` to `repo4`.
    pub name: String,
    /// Bucket, which must exist.
    pub bucket: String,
    /// `host` or `host:port`.
    pub endpoint: String,
    /// `host:port` where this machine finds it, when not under that name.
    pub here: Option<String>,
    /// Region.
    pub region: String,
}

/// What the cluster's spec and its Secrets say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The repositories.
    pub repos: Vec<Repo>,
    /// `spec.backups.pgbackrest.global`: wins over what Percona sets.
    pub global: BTreeMap<String, String>,
    /// The files that `spec.backups.pgbackrest.configuration` projects. pgBackRest reads those that end in `.conf`.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// The PostgreSQL that is backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Data directory.
    pub data: PathBuf,
    /// Directory of the Unix socket.
    pub socket: PathBuf,
    /// Port.
    pub port: u16,
    /// Superuser.
    pub user: String,
}

/// The directory in which one cluster's pgBackRest works.
#[derive(Clone, Debug)]
pub(super) struct Layout(pub(super) PathBuf);

impl Layout {
    pub(super) fn include(&self) -> PathBuf {
        self.0.join("conf.d")
    }

    fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }

    pub(super) fn directories(&self) -> [PathBuf; 5] {
        [self.0.clone(), self.include(), self.lock(), self.log(), self.spool()]
    }
}

/// Every file of the include directory, by name.
pub(super) fn files(config: &Config, instance: &Instance, layout: &Layout) -> BTreeMap<String, Vec<u8>> {
    let include = layout.include();
    let mut files: BTreeMap<String, Vec<u8>> = config.files.clone();
    for (_, content) in files.iter_mut().filter(|(name, _)| is_read(name)) {
        *content = String::from_utf8_lossy(content).replace(MOUNT, &include.to_string_lossy()).into_bytes();
    }
    files.insert("pgbackrest_instance.conf".to_owned(), render(config, instance, layout).into_bytes());
    files
}

/// Whether pgBackRest reads a file of the include directory by itself.
fn is_read(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "conf")
}

fn render(config: &Config, instance: &Instance, layout: &Layout) -> String {
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut global = BTreeMap::new();
    let mut set = |key: &str, value: String| global.insert(key.to_owned(), value);
    for Repo { name, bucket, endpoint, here, region } in &config.repos {
        set(&format!("{name}-path"), format!("/pgbackrest/{name}"));
        set(&format!("{name}-type"), "s3".to_owned());
        set(&format!("{name}-s3-bucket"), bucket.clone());
        set(&format!("{name}-s3-endpoint"), endpoint.clone());
        set(&format!("{name}-s3-region"), region.clone());
        if let Some(here) = here {
            set(&format!("{name}-storage-host"), here.clone());
        }
    }
    // With the default of 60 s and its retries, an S3 that is down would keep PostgreSQL from stopping for minutes.
    set("io-timeout", "10".to_owned());
    set("archive-timeout", "30".to_owned());
    let include = path(layout.include());
    for (key, value) in &config.global {
        set(key, value.replace(MOUNT, &include));
    }
    // These are the double's own, whatever the cluster says. Percona archives asynchronously; a process that outlives
    // its PostgreSQL for that would outlive a killed run too.
    set("archive-async", "n".to_owned());
    set("lock-path", path(layout.lock()));
    set("log-path", path(layout.log()));
    set("spool-path", path(layout.spool()));

    let mut text = String::from("[global]\n");
    for (key, value) in &global {
        writeln!(text, "{key}={value}").expect("a String takes everything");
    }
    let Instance { data, socket, port, user } = instance;
    write!(
        text,
        "\n[{STANZA}]\npg1-path={}\npg1-port={port}\npg1-socket-path={}\npg1-user={user}\n",
        data.display(),
        socket.display()
    )
    .expect("a String takes everything");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        let data = "/run/data".into();
        Instance { data, socket: "/run/socket".into(), port: 5432, user: "postgres".to_owned() }
    }

    fn config(global: &[(&str, &str)]) -> Config {
        let repo = Repo {
            name: "repo1".to_owned(),
            bucket: "backups".to_owned(),
            endpoint: "s3.tools.svc:9000".to_owned(),
            here: Some("localhost:9000".to_owned()),
            region: "eu-west-1".to_owned(),
        };
        let global = global.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Config { repos: vec![repo], global, ..Config::default() }
    }

    #[test]
    fn the_cluster_s_options_win_over_percona_s_and_lose_to_the_double_s() {
        let config = config(&[
            ("archive-async", "y"),
            ("repo1-path", "/pgbackrest/a/demo/repo1"),
            ("repo1-storage-ca-file", "/etc/pgbackrest/conf.d/ca.crt"),
            ("repo1-retention-full", "7"),
            ("start-fast", "y"),
        ]);
        insta::assert_snapshot!(render(&config, &instance(), &Layout("/run/backup".into())));
    }

    #[test]
    fn every_key_of_a_secret_becomes_a_file_and_only_conf_files_are_rewritten() {
        let mut config = config(&[]);
        let line = b"repo1-storage-ca-file=/etc/pgbackrest/conf.d/ca.crt\n".to_vec();
        config.files = [("s3.conf".to_owned(), line.clone()), ("note".to_owned(), line.clone())].into();
        let files = files(&config, &instance(), &Layout("/run/backup".into()));
        assert_eq!(files.keys().collect::<Vec<_>>(), ["note", "pgbackrest_instance.conf", "s3.conf"]);
        assert_eq!(files["s3.conf"], b"repo1-storage-ca-file=/run/backup/conf.d/ca.crt\n");
        assert_eq!(files["note"], line);
    }
}
