//! The validating webhook. `review` and `credentials` are pure; `handler` asks the API server; `tls` and `server` carry it.

pub mod certificate;
pub mod credentials;
pub mod handler;
pub mod review;
pub mod server;
