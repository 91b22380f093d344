//! What can go wrong between an application and PostgreSQL.

use std::error::Error as _;

use crate::redact::redact;

/// A connection or a statement failed. No variant ever holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The URI cannot be used.
    #[error("not a usable PostgreSQL URI: {0}")]
    Uri(String),
    /// No TCP connection: nobody listens, or the name is unknown.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// Why, in the words of the operating system.
        reason: String,
    },
    /// The TLS handshake failed, or the server does not offer TLS although the URI requires it.
    #[error("no TLS session with {address}: {reason}")]
    Tls {
        /// Host and port.
        address: String,
        /// Why.
        reason: String,
    },
    /// PostgreSQL answered with an error.
    #[error("{severity} {sqlstate}: {message}")]
    Server {
        /// Five characters, such as `28P01` (wrong password) or `42501` (insufficient privilege).
        sqlstate: String,
        /// `FATAL`, `ERROR`, …
        severity: String,
        /// PostgreSQL's own text.
        message: String,
    },
    /// The connection broke, or the server spoke something else than PostgreSQL's protocol.
    #[error("the connection to {address} broke: {reason}")]
    Broken {
        /// Host and port.
        address: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// The SQLSTATE, when PostgreSQL itself refused.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    pub(super) fn of(error: &tokio_postgres::Error, address: &str) -> Self {
        if let Some(refusal) = error.as_db_error() {
            return Self::Server {
                sqlstate: refusal.code().code().to_owned(),
                severity: refusal.severity().to_owned(),
                message: redact(refusal.message()),
            };
        }
        // `tokio_postgres::Error` names its kind only in its text; the cause stands in the source.
        let text = error.to_string();
        let reason = redact(&error.source().map_or_else(|| text.clone(), ToString::to_string));
        let address = address.to_owned();
        if text.starts_with("error performing TLS handshake") {
            Self::Tls { address, reason }
        } else {
            Self::Broken { address, reason }
        }
    }
}
