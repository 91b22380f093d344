//! Object storage that speaks S3 over TLS: a server in this process, or MinIO as a child process, and the client.
//!
//! Parts layer; uses `https`, `pki`, `process`, `redact`. Nothing here knows Kubernetes or pgBackRest: a bucket belongs to whoever
//! asked for it.

mod backend;
mod client;
mod endpoint;
mod gate;
mod server;
mod store;
#[cfg(test)]
mod tests;

pub use backend::Minio;
pub use client::{Client, ClientError, Object};
pub use endpoint::Endpoint;
pub use server::{Options, Server, ServerError};
