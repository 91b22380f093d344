//! Where a repository (`spec.backups.pgbackrest.repos[]`) is, and what a `PerconaPGBackup` and the status say of that.
//!
//! Pure. Source: Percona 2.8.2, `percona/controller/pgbackup/controller.go` and `internal/pgbackrest/util.go`.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A sort of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// S3, or what speaks its protocol.
    S3,
    /// Google's.
    Gcs,
    /// Azure's.
    Azure,
    /// A volume of the repository host.
    Volume,
    /// The repository does not say; Percona takes it for a volume and makes none.
    Unnamed,
}

impl Storage {
    /// The storage of a repository.
    pub(super) fn of(repo: &Value) -> Self {
        [("s3", Self::S3), ("azure", Self::Azure), ("gcs", Self::Gcs), ("volume", Self::Volume)]
            .into_iter()
            .find(|(field, _)| repo[*field].is_object())
            .map_or(Self::Unnamed, |(_, storage)| storage)
    }

    /// `status.storageType` of a `PerconaPGBackup`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
            Self::Volume | Self::Unnamed => "filesystem",
        }
    }

    /// Whether the double runs pgBackRest with it.
    pub(super) fn is_usable(self) -> bool {
        matches!(self, Self::S3 | Self::Volume)
    }
}

/// `status.destination` of a `PerconaPGBackup`, where the option `repoN-path` is `path`. On a volume it has none.
pub(super) fn destination(repo: &Value, path: &str) -> Option<String> {
    let (scheme, place) = match Storage::of(repo) {
        Storage::S3 => ("s3", &repo["s3"]["bucket"]),
        Storage::Gcs => ("gs", &repo["gcs"]["bucket"]),
        Storage::Azure => ("azure", &repo["azure"]["container"]),
        Storage::Volume | Storage::Unnamed => return None,
    };
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = std::iter::once(place.as_str().unwrap_or_default()).chain(parts).collect();
    Some(format!("{scheme}://{}", parts.join("/")))
}

/// `status.pgbackrest.repos[].repoOptionsHash`: what of a repository's options makes another repository of it. A volume has
/// no such options.
pub(super) fn options_hash(repo: &Value) -> Option<String> {
    let (field, options): (&str, &[&str]) = match Storage::of(repo) {
        Storage::S3 => ("s3", &["bucket", "endpoint", "region"]),
        Storage::Gcs => ("gcs", &["bucket"]),
        Storage::Azure => ("azure", &["container"]),
        Storage::Volume | Storage::Unnamed => return None,
    };
    let values: Vec<&str> = options.iter().map(|option| repo[field][*option].as_str().unwrap_or_default()).collect();
    Some(hash(&values))
}

/// Tells for which repository the Job of a first backup was made; a volume by its name.
pub(super) fn repo_hash(repo: &Value) -> String {
    options_hash(repo).unwrap_or_else(|| hash(&[repo["name"].as_str().unwrap_or_default()]))
}

fn hash(parts: &[&str]) -> String {
    hex::encode(Sha256::digest(parts.join("\n")))[..9].to_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({ "s3": { "bucket": "b" } }), "/pgbackrest/a/demo", "s3", Some("s3://b/pgbackrest/a/demo"))]
    #[case(json!({ "s3": { "bucket": "b" } }), "", "s3", Some("s3://b"))]
    #[case(json!({ "s3": { "bucket": "b" } }), "a//./b/", "s3", Some("s3://b/a/b"))]
    #[case(json!({ "gcs": { "bucket": "b" } }), "/p", "gcs", Some("gs://b/p"))]
    #[case(json!({ "azure": { "container": "c" } }), "/p", "azure", Some("azure://c/p"))]
    #[case(json!({ "volume": { "volumeClaimSpec": {} } }), "/p", "filesystem", None)]
    #[case(json!({ "name": "repo1" }), "/p", "filesystem", None)]
    fn a_backup_says_where_it_is(
        #[case] repo: Value,
        #[case] path: &str,
        #[case] name: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(Storage::of(&repo).name(), name);
        assert_eq!(destination(&repo, path).as_deref(), expected);
    }

    #[test]
    fn another_bucket_is_another_repository_and_another_schedule_is_not() {
        let repo = |bucket: &str, schedule: &str| {
            let s3 = json!({ "bucket": bucket, "endpoint": "e", "region": "r" });
            json!({ "name": "repo1", "s3": s3, "schedules": { "full": schedule } })
        };
        assert_eq!(repo_hash(&repo("b", "1")), repo_hash(&repo("b", "2")));
        assert_ne!(repo_hash(&repo("b", "1")), repo_hash(&repo("c", "1")));
        assert_eq!(options_hash(&repo("b", "1")), Some(repo_hash(&repo("b", "1"))));
    }

    #[test]
    fn volumes_differ_by_their_names_only() {
        let repo = |name: &str| json!({ "name": name, "volume": { "volumeClaimSpec": {} } });
        assert_eq!(options_hash(&repo("repo1")), None);
        assert_ne!(repo_hash(&repo("repo1")), repo_hash(&repo("repo2")));
    }
}
