//! The certificate of the webhook: `tls.crt` and `tls.key` of a mounted Secret, read again when they change.
//!
//! Both files are looked at before each handshake. That costs two `stat`s, needs no watcher, and a renewed certificate is used
//! by the very next connection.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a file was like when it was read.
type Stamp = (SystemTime, u64);

struct Loaded {
    config: Arc<ServerConfig>,
    stamps: [Stamp; 2],
}

/// A directory with `tls.crt` and `tls.key`.
pub struct Certificate {
    directory: PathBuf,
    loaded: Mutex<Loaded>,
}

impl Certificate {
    /// Loads the certificate in `directory`, which must be usable now.
    pub fn load(directory: &Path) -> anyhow::Result<Self> {
        Ok(Self { directory: directory.to_owned(), loaded: Mutex::new(load(directory)?) })
    }

    /// The configuration for the next handshake. A new certificate that cannot be used is logged, and the old one kept.
    pub fn current(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps(&self.directory).is_ok_and(|stamps| stamps != loaded.stamps) {
            match load(&self.directory) {
                Ok(fresh) => {
                    tracing::info!(directory = %self.directory.display(), "webhook certificate loaded again");
                    *loaded = fresh;
                }
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "new webhook certificate not usable, keeping the old one"
                ),
            }
        }
        Arc::clone(&loaded.config)
    }
}

fn paths(directory: &Path) -> [PathBuf; 2] {
    [directory.join("tls.crt"), directory.join("tls.key")]
}

fn stamps(directory: &Path) -> std::io::Result<[Stamp; 2]> {
    let stamp = |path: &Path| -> std::io::Result<Stamp> {
        let metadata = path.metadata()?;
        Ok((metadata.modified()?, metadata.len()))
    };
    let [certificate, key] = paths(directory);
    Ok([stamp(&certificate)?, stamp(&key)?])
}

fn load(directory: &Path) -> anyhow::Result<Loaded> {
    let [certificate, key] = paths(directory);
    // Before the contents: a change in between is then found at the next handshake.
    let stamps = stamps(directory).with_context(|| format!("no tls.crt and tls.key in {}", directory.display()))?;
    let chain: Vec<_> = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("{} holds no PEM certificates", certificate.display()))?;
    if chain.is_empty() {
        bail!("{} holds no PEM certificates", certificate.display());
    }
    let key_der = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("{} holds no PEM key", key.display()))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .with_context(|| format!("{} and {} do not fit together", certificate.display(), key.display()))?;
    Ok(Loaded { config: Arc::new(config), stamps })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        // Of another length than the one before, for file systems with coarse times.
        let comment = "#".repeat(name.len());
        std::fs::write(directory.join("tls.crt"), format!("{comment}\n{}", made.cert.pem())).unwrap();
        std::fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    }

    fn load_with_ring(directory: &Path) -> anyhow::Result<Certificate> {
        rustls::crypto::ring::default_provider().install_default().ok();
        Certificate::load(directory)
    }

    #[test]
    fn a_new_certificate_is_used_by_the_next_handshake() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "a");
        let certificate = load_with_ring(directory.path()).unwrap();
        let first = certificate.current();
        assert!(Arc::ptr_eq(&first, &certificate.current()), "nothing changed");

        write(directory.path(), "bb");
        let second = certificate.current();
        assert!(!Arc::ptr_eq(&first, &second));

        std::fs::write(directory.path().join("tls.crt"), "half").unwrap();
        assert!(Arc::ptr_eq(&second, &certificate.current()), "a certificate that cannot be used is not used");
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = format!("{:#}", load_with_ring(directory.path()).err().unwrap());
        assert!(error.contains("no tls.crt and tls.key in"), "{error}");
    }
}
