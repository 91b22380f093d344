//! What images are called. Pure.

use sha2::{Digest as _, Sha256};

/// How all names begin that the user's Docker may hold.
pub(super) const OURS: &str = "dittofs-conformance/";

/// The base of our images, offline.
pub(super) const BASE: &str = "dittofs-conformance/base";

/// MinIO.
pub(super) const MINIO: &str = "dittofs-conformance/minio";

/// The image of the init containers that wait for a database: what Kubernetes understands by `postgres:16-alpine`.
pub(super) const POSTGRES: &str = "docker.io/library/postgres:16-alpine";

/// A name of a program of ours that no registry answers to.
pub(super) fn local(program: &str, tag: &str) -> String {
    format!("localhost/{program}:{tag}")
}

/// A tag that says what an image is made of, and nothing else: no time, no machine, no path.
pub(super) fn tag<'a>(sources: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for source in sources {
        // With its length, so that the border between two sources counts.
        hasher.update(source.len().to_le_bytes());
        hasher.update(source);
    }
    hex::encode(&hasher.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_function_of_the_sources() {
        let of = |sources: &[&str]| tag(sources.iter().map(|source| source.as_bytes()));
        assert_eq!(of(&["program", "recipe"]), of(&["program", "recipe"]));
        assert_ne!(of(&["program", "recipe"]), of(&["program", "recipes"]));
        assert_ne!(of(&["program", "recipe"]), of(&["programrecipe"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["program"]).len(), 16);
    }
}
