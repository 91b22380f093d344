//! The names of everything that belongs to a `DittoServer`, in one place.

/// Percona's user that the server logs in as.
pub const DATABASE_USER: &str = "dittofs";

/// Value of `app.kubernetes.io/managed-by`, field manager and reporting controller.
pub const OPERATOR: &str = "dittofs-operator";

/// Name of the CRD of [`super::PerconaPGCluster`].
pub const PERCONA_CRD: &str = "perconapgclusters.pgv2.percona.com";

/// What the name of a cluster ends in.
pub const CLUSTER_SUFFIX: &str = "-postgres";

/// Pod annotation that holds the digest of the database credentials.
pub const DIGEST_ANNOTATION: &str = "dittofs.dittofs.com/database-digest";

/// The container that runs DittoFS.
pub const CONTAINER: &str = "dittofs";

/// The init container that waits for the database.
pub const INIT_CONTAINER: &str = "wait-for-postgres";

/// The `PerconaPGCluster` of a server.
pub fn cluster(server: &str) -> String {
    format!("{server}{CLUSTER_SUFFIX}")
}

/// The Secret in which Percona keeps the credentials of [`DATABASE_USER`].
pub fn user_secret(server: &str) -> String {
    format!("{}-pguser-{DATABASE_USER}", cluster(server))
}

/// The Service that governs the StatefulSet.
pub fn headless_service(server: &str) -> String {
    format!("{server}-headless")
}

/// The Service of the control plane's API.
pub fn api_service(server: &str) -> String {
    format!("{server}-api")
}
