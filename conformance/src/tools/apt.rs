//! Debian packages, fetched and unpacked without installing anything and without being root.
//!
//! apt works on a private copy of its state, so the machine's is neither read nor changed; what it downloads is verified
//! by the signed metadata of the archive and a keyring of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::command::Workshop;
use super::error::ToolError;
use super::progress::Step;
use super::tool::on_path;
use crate::process::Launch;

/// Where Debian is when the machine names no mirror of it.
const DEBIAN: &str = "http://deb.debian.org/debian";

/// Where the package of Debian's keyring puts it, on Debian and on Ubuntu.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with a state of its own, which goes away with it.
pub(crate) struct Apt<'a> {
    workshop: &'a Workshop,
    scratch: tempfile::TempDir,
}

/// An archive of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirror {
    uri: String,
    keyring: Option<String>,
    /// Whether it has the component `main`, as a whole distribution has.
    main: bool,
}

impl<'a> Apt<'a> {
    /// Reads the package lists of Debian's `suite` (such as `trixie`); `None` is the release that this machine runs, which may
    /// be Ubuntu's.
    pub(crate) async fn open(workshop: &'a Workshop, suite: Option<&str>, step: &Step) -> Result<Self, ToolError> {
        for program in ["apt-get", "dpkg-deb"] {
            on_path(program).ok_or_else(|| unavailable(&format!("there is no {program} on the PATH")))?;
        }
        let Mirror { uri, keyring, .. } = mirror(&machine_sources(), suite);
        let keyring = usable(keyring, suite, |path| Path::new(path).exists())?;
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let suite = suite
            .or_else(|| codename(&release))
            .ok_or_else(|| unavailable("/etc/os-release has no VERSION_CODENAME"))?;
        let scratch = workshop.scratch()?;
        let directory = scratch.path();
        for part in ["state/lists/partial", "cache/archives/partial", "none"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(ToolError::file("create", path))?;
        }
        let signed = keyring.map(|keyring| format!("[signed-by={keyring}] ")).unwrap_or_default();
        for (file, text) in [("sources.list", format!("deb {signed}{uri} {suite} main\n")), ("status", String::new())] {
            fs::write(directory.join(file), text).map_err(ToolError::file("write", directory.join(file)))?;
        }
        let apt = Self { workshop, scratch };
        step.note(format!("reading the package lists of {suite} at {uri}"));
        // Without this option a mirror that cannot be reached is only a warning.
        let update = apt.command("apt-get").args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]);
        workshop.work(update, step).await?.map_err(|reason| unavailable(&reason))?;
        Ok(apt)
    }

    /// Names of the packages that match a regular expression.
    pub(super) async fn names(&self, pattern: &str) -> Result<Vec<String>, ToolError> {
        let search = self.command("apt-cache").args(["--names-only", "search", pattern]);
        let output = self.workshop.output(search).await?;
        Ok(output.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// Downloads packages and unpacks them below `directory`.
    pub(crate) async fn unpack(&self, packages: &[&str], directory: &Path, step: &Step) -> Result<(), ToolError> {
        let downloads = self.scratch.path().join("downloads");
        fs::create_dir(&downloads).map_err(ToolError::file("create", &downloads))?;
        let download = self.command("apt-get").args(["-q", "download"]).args(packages.iter().copied());
        let download = download.directory(&downloads);
        self.workshop.work(download, step).await?.map_err(|reason| unavailable(&reason))?;
        self.unpack_all(&downloads, directory, step).await
    }

    /// Downloads packages with all that they depend on, and unpacks them below `directory`. As in [`Apt::unpack`] none of
    /// their scripts runs.
    pub(crate) async fn unpack_with_dependencies(
        &self,
        packages: &[&str],
        directory: &Path,
        step: &Step,
    ) -> Result<(), ToolError> {
        let options = ["-q", "-y", "--no-install-recommends", "--download-only", "install"];
        let download = self.command("apt-get").args(options).args(packages.iter().copied());
        self.workshop.work(download, step).await?.map_err(|reason| unavailable(&reason))?;
        self.unpack_all(&self.scratch.path().join("cache/archives"), directory, step).await
    }

    async fn unpack_all(&self, downloads: &Path, directory: &Path, step: &Step) -> Result<(), ToolError> {
        let files = fs::read_dir(downloads).map_err(ToolError::file("list", downloads))?;
        let mut archives = files
            .map(|file| file.map(|file| file.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(ToolError::file("list", downloads))?;
        archives.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
        archives.sort();
        for archive in archives {
            let unpack = Workshop::launch("dpkg-deb", "dpkg-deb").arg("-x").arg(archive).arg(directory);
            self.workshop.work(unpack, step).await?.map_err(|reason| unavailable(&reason))?;
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Launch {
        let path = |part: &str| self.scratch.path().join(part).display().to_string();
        let options = [
            format!("Dir::State={}", path("state")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Cache={}", path("cache")),
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            format!("Dir::Etc::SourceParts={}", path("none")),
            // As root apt would change to a user that cannot enter our directories.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        Workshop::launch(program, program).args(options.into_iter().flat_map(|option| ["-o".to_owned(), option]))
    }
}

/// The directory with shared libraries in an unpacked package, if there is one.
pub(super) fn libraries(directory: &Path) -> Option<PathBuf> {
    fs::read_dir(directory.join("usr/lib")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-linux-gnu"))
    })
}

fn unavailable(reason: &str) -> ToolError {
    ToolError::Unavailable {
        what: "a Debian package".to_owned(),
        reason: reason.to_owned(),
        remedy: "install the program, or name one that is installed".to_owned(),
    }
}

fn codename(os_release: &str) -> Option<&str> {
    os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).map(|name| name.trim_matches('"'))
}

/// All of apt's sources on this machine.
fn machine_sources() -> Vec<String> {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = parts.collect();
    paths.sort();
    paths.insert(0, "/etc/apt/sources.list".into());
    paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// The mirror that the machine uses itself, in both formats of `sources.list(5)`: of Debian, when one of its suites is named,
/// else of what it runs. Ubuntu's has no suites of Debian.
fn mirror(sources: &[String], suite: Option<&str>) -> Mirror {
    sources
        .iter()
        .flat_map(|text| one_line(text).chain(stanzas(text)).collect::<Vec<_>>())
        .find(|mirror| {
            let path = mirror.uri.trim_end_matches('/');
            // A program's own repository may end like that, too.
            mirror.main && (path.ends_with("/debian") || (suite.is_none() && path.ends_with("/ubuntu")))
        })
        .unwrap_or_else(|| Mirror { uri: DEBIAN.to_owned(), keyring: Some(KEYRING.to_owned()), main: true })
}

/// The keyring to verify by; `None`: those that apt trusts on this machine.
///
/// # Errors
/// A suite of Debian is named, and neither the keyring that goes with its mirror nor Debian's own is there: another
/// distribution's apt trusts no key of Debian.
fn usable(
    keyring: Option<String>,
    suite: Option<&str>,
    exists: impl Fn(&str) -> bool,
) -> Result<Option<String>, ToolError> {
    match (keyring, suite) {
        (Some(keyring), _) if exists(&keyring) => Ok(Some(keyring)),
        (_, Some(_)) if exists(KEYRING) => Ok(Some(KEYRING.to_owned())),
        (Some(keyring), Some(suite)) => Err(unavailable(&format!(
            "the packages of Debian {suite} cannot be verified, there is no {keyring} (the package debian-archive-keyring \
             has {KEYRING}, on Ubuntu too: install it)"
        ))),
        _ => Ok(None),
    }
}

/// `deb [signed-by=…] URI suite component…`
fn one_line(text: &str) -> impl Iterator<Item = Mirror> {
    text.lines().filter_map(|line| {
        let line = line.trim().strip_prefix("deb ")?.trim();
        let (options, rest) = match line.strip_prefix('[') {
            Some(line) => line.split_once(']')?,
            None => ("", line),
        };
        let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace();
        let uri = words.next()?.to_owned();
        Some(Mirror { uri, keyring: keyring.map(str::to_owned), main: words.any(|word| word == "main") })
    })
}

/// Stanzas of `Types: deb`, `URIs: …`, `Signed-By: …`.
fn stanzas(text: &str) -> impl Iterator<Item = Mirror> {
    text.split("\n\n").filter_map(|stanza| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let uri = field("URIs:")?.split_whitespace().next()?.to_owned();
        let main =
            field("Components:").is_some_and(|components| components.split_whitespace().any(|word| word == "main"));
        let keyring = field("Signed-By:").filter(|path| path.starts_with('/')).map(str::to_owned);
        Some(Mirror { uri, keyring, main })
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const UBUNTU: &str = "Types: deb\nURIs: http://archive.ubuntu.com/ubuntu\nSuites: noble\nComponents: main universe\n\
                          Signed-By: /u.gpg\n";

    #[rstest]
    #[case::stanza(
        "Types: deb\n# a snapshot\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n\
         Signed-By: /k.gpg\n\nTypes: deb\nURIs: http://mirror.example/debian-security\nComponents: main\n",
        "http://mirror.example/debian",
        Some("/k.gpg")
    )]
    #[case::one_line(
        "# deb http://old/debian x main\ndeb https://example.org/x stable main\n\
         deb [arch=amd64 signed-by=/u.gpg] http://archive.ubuntu.com/ubuntu/ noble main\n",
        "http://archive.ubuntu.com/ubuntu/",
        Some("/u.gpg")
    )]
    #[case::inline_key(
        "Types: deb\nURIs: http://m/debian/\nComponents: main\nSigned-By:\n -----BEGIN\n",
        "http://m/debian/",
        None
    )]
    #[case::nothing("", DEBIAN, Some(KEYRING))]
    fn the_mirror_of_the_machine_is_used(#[case] text: &str, #[case] uri: &str, #[case] keyring: Option<&str>) {
        let expected = Mirror { uri: uri.to_owned(), keyring: keyring.map(str::to_owned), main: true };
        assert_eq!(mirror(&[text.to_owned()], None), expected);
    }

    #[rstest]
    #[case::ubuntu(&[UBUNTU], DEBIAN, Some(KEYRING))]
    #[case::both(&[UBUNTU, "deb [signed-by=/d.gpg] http://m/debian trixie main"], "http://m/debian", Some("/d.gpg"))]
    #[case::of_a_program(&["deb [signed-by=/v.gpg] https://download.virtualbox.org/virtualbox/debian noble contrib"], DEBIAN, Some(KEYRING))]
    #[case::debian(&["deb http://m/debian/ bookworm main"], "http://m/debian/", None)]
    fn a_suite_of_debian_is_at_a_mirror_of_debian(
        #[case] sources: &[&str],
        #[case] uri: &str,
        #[case] keyring: Option<&str>,
    ) {
        let sources: Vec<String> = sources.iter().map(|text| (*text).to_owned()).collect();
        let expected = Mirror { uri: uri.to_owned(), keyring: keyring.map(str::to_owned), main: true };
        assert_eq!(mirror(&sources, Some("trixie")), expected);
    }

    #[rstest]
    #[case::told(Some("/d.gpg"), &["/d.gpg", KEYRING], Some("/d.gpg"))]
    #[case::gone(Some("/d.gpg"), &[KEYRING], Some(KEYRING))]
    #[case::inline(None, &[KEYRING], Some(KEYRING))]
    #[case::trusted_anyway(None, &[], None)]
    fn a_suite_of_debian_is_verified_by_a_keyring_of_debian(
        #[case] told: Option<&str>,
        #[case] there: &[&str],
        #[case] expected: Option<&str>,
    ) {
        let found = usable(told.map(str::to_owned), Some("trixie"), |path| there.contains(&path)).unwrap();
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn a_keyring_that_is_missing_says_which_package_has_it() {
        let told = || Some(KEYRING.to_owned());
        let error = usable(told(), Some("trixie"), |_| false).unwrap_err().to_string();
        assert!(error.contains("Debian trixie") && error.contains("debian-archive-keyring has"), "{error}");
        assert_eq!(usable(told(), None, |_| false).unwrap(), None, "of its own release, the machine trusts the keys");
    }

    #[test]
    fn the_release_is_the_machine_s_codename() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(codename("ID=arch\n"), None);
    }
}
