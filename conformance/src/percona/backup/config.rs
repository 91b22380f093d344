//! pgBackRest's configuration, as Percona writes it (`contract.md`, 3.1).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use super::bounds;

/// Where Percona's containers see the projected Secrets. Options that name a file there are led to where it really is.
const MOUNT: &str = "/etc/pgbackrest/conf.d";

/// The stanza; Percona's operator has one name for all clusters.
pub(super) const STANZA: &str = "db";

/// The file of the include directory that is not projected.
const INSTANCE: &str = "pgbackrest_instance.conf";

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
    /// The repositories on S3.
    pub repos: Vec<Repo>,
    /// The repositories on volumes of the repository host, by name: the directory that stands for the volume.
    pub volumes: BTreeMap<String, PathBuf>,
    /// Why there are repositories that the double cannot use. pgBackRest is not run then.
    pub unusable: Vec<String>,
    /// `spec.backups.pgbackrest.global`: wins over what Percona sets.
    pub global: BTreeMap<String, String>,
    /// The files that `spec.backups.pgbackrest.configuration` projects, by their paths in the volume. pgBackRest reads those
    /// that end in `.conf` and lie in no directory.
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

    /// The file that says why pgBackRest is not run, while it is not.
    pub(super) fn refusal(&self) -> PathBuf {
        self.0.join("refusal")
    }

    /// The file with the options of the double and of the spec.
    pub(super) fn instance(&self) -> PathBuf {
        self.include().join(INSTANCE)
    }

    /// The path of a repository that is nowhere: below a file, where nothing can be made.
    fn nowhere(&self, repo: &str) -> PathBuf {
        self.instance().join(repo)
    }

    /// The options that are the double's own, whatever the cluster says. Percona archives asynchronously; a process that
    /// outlives its PostgreSQL for that would outlive a killed run too.
    fn own(&self) -> [(&'static str, String); 4] {
        [
            ("archive-async", "n".to_owned()),
            ("lock-path", text(&self.lock())),
            ("log-path", text(&self.log())),
            ("spool-path", text(&self.spool())),
        ]
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Every file of the include directory, by path.
///
/// # Errors
/// A projected file would lie outside of it.
pub(super) fn files(
    config: &Config,
    instance: &Instance,
    layout: &Layout,
) -> Result<BTreeMap<PathBuf, Vec<u8>>, String> {
    let include = text(&layout.include());
    let mut files = BTreeMap::new();
    for (name, content) in &config.files {
        let path = inside(name).ok_or_else(|| format!("the path {name:?} leads out of the volume of pgBackRest"))?;
        let content = if is_read(name) {
            String::from_utf8_lossy(content).replace(MOUNT, &include).into_bytes()
        } else {
            content.clone()
        };
        files.insert(path, content);
    }
    files.insert(INSTANCE.into(), render(config, instance, layout).into_bytes());
    Ok(files)
}

/// The only file while pgBackRest is not run. PostgreSQL runs it all the same, to archive: without the path of the data that
/// fails.
pub(super) fn refused(layout: &Layout) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut global: BTreeMap<String, String> = layout.own().map(|(key, value)| (key.to_owned(), value)).into();
    global.insert("repo1-path".to_owned(), text(&layout.nowhere("repo1")));
    BTreeMap::from([(INSTANCE.into(), section(&global).into_bytes())])
}

/// Whether pgBackRest reads a projected file by itself.
pub(super) fn is_read(name: &str) -> bool {
    inside(name).is_some_and(|path| {
        path.components().count() == 1 && path.extension().is_some_and(|extension| extension == "conf")
    })
}

/// A path that stays within the directory from which it begins, without its detours; `None` for another one.
fn inside(path: &str) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => inside.push(part),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => return None,
        }
    }
    (!inside.as_os_str().is_empty()).then_some(inside)
}

/// Where a repository on a volume is that has this path in its container: always in the directory of the volume.
fn on_volume(volume: &Path, repo: &str, path: &str) -> PathBuf {
    let path = Path::new(path.trim());
    let path = path.strip_prefix(Path::new("/pgbackrest").join(repo)).unwrap_or(path);
    volume.components().chain(path.components().filter(|part| matches!(part, Component::Normal(_)))).collect()
}

/// The section `[global]`.
fn section(options: &BTreeMap<String, String>) -> String {
    let mut text = String::from("[global]\n");
    for (key, value) in options {
        writeln!(text, "{key}={value}").expect("a String takes everything");
    }
    text
}

fn render(config: &Config, instance: &Instance, layout: &Layout) -> String {
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
    let include = text(&layout.include());
    for (key, value) in &config.global {
        set(key, value.replace(MOUNT, &include));
    }
    for (key, value) in layout.own() {
        set(key, value);
    }
    for (name, volume) in &config.volumes {
        let path = config.global.get(&format!("{name}-path")).map_or("", String::as_str);
        set(&format!("{name}-path"), text(&on_volume(volume, name, path)));
        set(&format!("{name}-type"), "posix".to_owned());
    }
    for name in bounds::elsewhere(config) {
        set(&format!("{name}-path"), text(&layout.nowhere(&name)));
    }

    let mut text = section(&global);
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
    use rstest::rstest;

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
        let files = files(&config, &instance(), &Layout("/run/backup".into())).unwrap();
        let names: Vec<_> = files.keys().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(names, ["note", "pgbackrest_instance.conf", "s3.conf"]);
        assert_eq!(files[Path::new("s3.conf")], b"repo1-storage-ca-file=/run/backup/conf.d/ca.crt\n");
        assert_eq!(files[Path::new("note")], line);
    }

    #[rstest]
    #[case("s3/ca.crt", Some("s3/ca.crt"))]
    #[case("./s3//ca.crt", Some("s3/ca.crt"))]
    #[case("s3/more.conf", Some("s3/more.conf"))]
    #[case("../ca.crt", None)]
    #[case("s3/../../ca.crt", None)]
    #[case("/etc/ca.crt", None)]
    #[case("", None)]
    fn a_projected_file_stays_in_the_volume(#[case] path: &str, #[case] expected: Option<&str>) {
        let mut config = config(&[]);
        config.files = [(path.to_owned(), b"/etc/pgbackrest/conf.d".to_vec())].into();
        let files = files(&config, &instance(), &Layout("/run/backup".into()));
        match expected {
            Some(expected) => assert_eq!(files.unwrap()[Path::new(expected)], b"/etc/pgbackrest/conf.d", "as it is"),
            None => assert!(files.unwrap_err().contains("leads out of the volume")),
        }
    }

    #[rstest]
    #[case(None, "/double/demo-repo1")]
    #[case(Some("/pgbackrest/repo1"), "/double/demo-repo1")]
    #[case(Some("/pgbackrest/repo1/a/demo"), "/double/demo-repo1/a/demo")]
    #[case(Some("/etc"), "/double/demo-repo1/etc")]
    #[case(Some("/pgbackrest/repo1/../../../etc"), "/double/demo-repo1/etc")]
    fn a_repository_on_a_volume_is_in_its_directory(#[case] path: Option<&str>, #[case] expected: &str) {
        let global = path.into_iter().map(|path| ("repo1-path".to_owned(), path.to_owned())).collect();
        let volumes = [("repo1".to_owned(), "/double/demo-repo1".into())].into();
        let config = Config { volumes, global, ..Config::default() };
        let text = render(&config, &instance(), &Layout("/run/backup".into()));
        assert!(text.contains(&format!("\nrepo1-path={expected}\nrepo1-type=posix\n")), "{text}");
    }

    #[test]
    fn a_repository_of_which_nobody_says_where_it_is_is_nowhere() {
        let mut config = config(&[]);
        config.files = [("s3.conf".to_owned(), b"repo2-s3-key=k\n".to_vec())].into();
        let layout = Layout("/run/backup".into());
        let text = render(&config, &instance(), &layout);
        assert!(text.contains("\nrepo2-path=/run/backup/conf.d/pgbackrest_instance.conf/repo2\n"), "{text}");
        let refused = refused(&layout);
        assert_eq!(refused.len(), 1);
        let text = String::from_utf8_lossy(&refused[Path::new(INSTANCE)]).into_owned();
        assert!(text.contains("\nrepo1-path=/run/backup/conf.d/pgbackrest_instance.conf/repo1\n"), "{text}");
        assert!(!text.contains("pg1-path"), "{text}");
    }
}
