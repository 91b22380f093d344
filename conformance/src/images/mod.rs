//! The container images that an environment of real containers needs, as archives for `kind load image-archive`.
//!
//! Parts layer: uses `tools` and `process`. Programs are built outside and copied by `ci/Dockerfile`; offline, everything
//! else is made of Debian packages and Go modules. What has a public name is only ever written into an archive: the
//! user's Docker never holds a stand-in under such a name. Two images stay in it as a cache, under names of our own:
//! `dittofs-conformance/base` and `dittofs-conformance/minio`.

mod archive;
mod bundle;
mod context;
mod debian;
mod docker;
mod names;
mod offline;
mod prepare;

pub use bundle::Bundle;
pub use docker::TEMPORARY;
pub use prepare::{Archive, Images, Programs, Source, load, minio, prepare};
