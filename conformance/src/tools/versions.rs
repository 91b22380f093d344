//! The versions of everything that is fetched or built: `versions.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// The file itself, as it was when this program was built.
const TEXT: &str = include_str!("../../versions.toml");

/// What `versions.toml` says.
///
/// # Panics
/// Never in a build that passed its tests: they read the file.
pub fn versions() -> &'static Versions {
    static VERSIONS: LazyLock<Versions> =
        LazyLock::new(|| toml::from_str(TEXT).unwrap_or_else(|error| panic!("conformance/versions.toml: {error}")));
    &VERSIONS
}

/// `versions.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Kubernetes.
    pub kubernetes: Kubernetes,
    /// etcd.
    pub etcd: Pinned,
    /// SHA-512 or SHA-256 of official downloads, by "archive version platform".
    pub digests: BTreeMap<String, String>,
    /// MinIO.
    pub minio: Pinned,
    /// kind.
    pub kind: AtLeast,
    /// Helm.
    pub helm: AtLeast,
    /// What images are made of, offline.
    pub images: Distribution,
    /// PostgreSQL.
    pub postgresql: Pinned,
    /// pgBackRest.
    pub pgbackrest: Packaged,
    /// Tools for development, which `ci/bootstrap` installs.
    pub development: BTreeMap<String, String>,
}

/// The Kubernetes versions that can be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// The minor that is used when none is asked for.
    pub default: String,
    /// Minor (`1.34`) to tag (`v1.34.4`).
    pub patches: BTreeMap<String, String>,
    /// Minor to the image of kind's nodes.
    pub nodes: BTreeMap<String, NodeImage>,
}

/// An image of a kind node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeImage {
    /// Its name with its tag.
    pub image: String,
    /// Its digest, `sha256:…`; empty when none is known.
    pub digest: String,
    /// Whether Percona Operator 2.8.2 was tested on this version, as its release notes say.
    pub percona_tested: bool,
}

impl NodeImage {
    /// How it is pulled: pinned, where a digest is known.
    pub fn reference(&self) -> String {
        if self.digest.is_empty() { self.image.clone() } else { format!("{}@{}", self.image, self.digest) }
    }
}

/// A program at one version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// The version.
    pub version: String,
}

/// A program that the machine may provide, else it is fetched or built.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtLeast {
    /// The version that is fetched or built.
    pub version: String,
    /// The oldest version of the machine that will do.
    pub minimum: String,
}

/// A Debian release whose packages images are made of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Distribution {
    /// The release.
    pub debian: String,
    /// The major version of its PostgreSQL clients.
    pub postgresql_client: u32,
}

/// A program that the machine, or a Debian release, provides.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packaged {
    /// The oldest version that will do.
    pub minimum: String,
    /// The Debian release that has one.
    pub debian: String,
}

impl Kubernetes {
    /// The tag that stands for `minor` (`1.34` or `v1.34`).
    ///
    /// # Errors
    /// A sentence that names the minors that are known.
    pub fn tag(&self, minor: &str) -> Result<&str, String> {
        let wanted = minor.strip_prefix('v').unwrap_or(minor);
        self.patches.get(wanted).map(String::as_str).ok_or_else(|| {
            let known: Vec<&str> = self.patches.keys().map(String::as_str).collect();
            format!("Kubernetes {minor} is not known; choose one of {}", known.join(", "))
        })
    }
}

/// The first version number in the output of a `--version` command: `etcd Version: 3.6.5`, `Kubernetes v1.34.4`,
/// `psql (PostgreSQL) 15.18 (Debian …)`, `pgBackRest 2.55.1`. Always three numbers, missing ones are 0.
pub fn parse(output: &str) -> Option<semver::Version> {
    output
        .split(|character: char| character.is_whitespace() || matches!(character, '(' | ')' | ','))
        .map(|word| word.strip_prefix('v').unwrap_or(word))
        .find_map(number)
}

fn number(word: &str) -> Option<semver::Version> {
    // What comes after the numbers (`16.15-1.pgdg12+1`, `2.57dev`) says nothing that is compared here.
    let end = word.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(word.len());
    let mut numbers = word[..end].trim_end_matches('.').split('.').map(|number| number.parse().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    let patch = numbers.next().unwrap_or(Some(0))?;
    Some(semver::Version::new(major, minor, patch))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_file_holds_every_minor_and_a_default_among_them() {
        let kubernetes = &versions().kubernetes;
        let known: Vec<&str> = kubernetes.patches.keys().map(String::as_str).collect();
        assert_eq!(known, ["1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]);
        for (minor, tag) in &kubernetes.patches {
            assert!(tag.starts_with(&format!("v{minor}.")), "{minor} = {tag}");
        }
        assert_eq!(kubernetes.tag(&kubernetes.default), Ok("v1.34.4"));
        assert_eq!(kubernetes.tag("v1.37"), Ok("v1.37.2"));
    }

    #[test]
    fn every_node_image_is_of_its_minor_and_pinned_or_says_that_it_is_not() {
        for (minor, node) in &versions().kubernetes.nodes {
            assert!(node.image.starts_with(&format!("kindest/node:v{minor}.")), "{minor} = {}", node.image);
            let digest = node.digest.strip_prefix("sha256:").map(hex::decode);
            assert!(node.digest.is_empty() || matches!(digest, Some(Ok(digest)) if digest.len() == 32), "{minor}");
        }
        assert!(versions().kubernetes.nodes.contains_key(&versions().kubernetes.default));
    }

    #[test]
    fn every_digest_is_a_sha256_or_a_sha512() {
        for (download, digest) in &versions().digests {
            let length = hex::decode(digest).map(|digest| digest.len());
            assert!(matches!(length, Ok(32 | 64)), "{download}: {digest}");
        }
    }

    #[test]
    fn an_unknown_minor_is_answered_with_the_known_ones() {
        let message = versions().kubernetes.tag("1.30").unwrap_err();
        assert!(message.ends_with("1.36, 1.37"), "{message}");
    }

    #[rstest]
    #[case("Kubernetes v1.34.4\n", "1.34.4")]
    #[case("etcd Version: 3.6.5\nGit SHA: Not provided\nGo Version: go1.26.8\n", "3.6.5")]
    #[case("psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18.0")]
    #[case("postgres (PostgreSQL) 16.15", "16.15.0")]
    #[case("pgBackRest 2.55.1", "2.55.1")]
    #[case("pgBackRest 2.57dev", "2.57.0")]
    fn a_version_is_found_in_what_programs_print(#[case] output: &str, #[case] expected: &str) {
        assert_eq!(parse(output).unwrap().to_string(), expected);
    }

    #[rstest]
    #[case("")]
    #[case("command not found")]
    #[case("usage: minio [2]")]
    fn no_version_is_made_up(#[case] output: &str) {
        assert_eq!(parse(output), None);
    }
}
