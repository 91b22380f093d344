//! Certificate authorities of our own, and what they sign.
//!
//! Base layer. The control plane, every cluster of the Percona double, the object storage and the webhook each take an
//! [`Authority`] of their own, so that trusting one says nothing about the others. Keys are ECDSA P-256.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::redact;

/// A key or certificate could not be made, or is not one.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of {name} cannot be made: {source}")]
pub struct PkiError {
    name: String,
    source: rcgen::Error,
}

/// A certificate authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    /// PEM of the certificate alone: no chain, since every authority here is a root.
    pub certificate: String,
    /// PEM of the private key (PKCS #8), registered with [`redact`].
    pub key: String,
}

impl Authority {
    /// A new authority whose common name is `name`.
    pub fn create(name: &str) -> Result<Self, PkiError> {
        let failed = |source| PkiError { name: name.to_owned(), source };
        let mut params = params(name, []).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed)?;
        redact::register(&key.serialize_pem());
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// The authority with this certificate and key, as [`Self::certificate`] and [`Self::key`] gave them.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let failed = |source| PkiError { name: "a certificate authority".to_owned(), source };
        redact::register(key);
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key).map_err(failed)?).map_err(failed)?;
        Ok(Self { certificate: certificate.to_owned(), issuer })
    }

    /// PEM of the authority's certificate: what clients are to trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// PEM of the authority's private key.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server's certificate for `names`: DNS names and IP addresses. The first one is the common name.
    pub fn server<S: Into<String>>(&self, names: impl IntoIterator<Item = S>) -> Result<Identity, PkiError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let common = names.first().cloned().unwrap_or_default();
        let params = params(&common, names).map_err(|source| PkiError { name: common.clone(), source })?;
        self.issue(&common, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate. Kubernetes reads `name` as the user and `group` as its (one) group.
    pub fn client(&self, name: &str, group: Option<&str>) -> Result<Identity, PkiError> {
        let mut params = params(name, []).map_err(|source| PkiError { name: name.to_owned(), source })?;
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.issue(name, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        name: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, PkiError> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let issued = KeyPair::generate()
            .and_then(|key| Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem())))
            .map_err(|source| PkiError { name: name.to_owned(), source })?;
        redact::register(&issued.1);
        Ok(Identity { certificate: issued.0, key: issued.1 })
    }
}

impl Identity {
    /// Writes the certificate (0644) and the key (0600) to these two paths. Existing files must not be there.
    ///
    /// # Errors
    /// A file exists or cannot be written.
    pub fn write(&self, certificate: &Path, key: &Path) -> std::io::Result<()> {
        for (path, text, mode) in [(certificate, &self.certificate, 0o644), (key, &self.key, 0o600)] {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            file.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

fn params(name: &str, names: impl Into<Vec<String>>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    /// What a TLS client that trusts only `authority` says about a server `name` that shows `identity`.
    fn verify(authority: &Authority, identity: &Identity, name: &str) -> Result<(), rustls::Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let leaf = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        rustls::client::danger::ServerCertVerifier::verify_server_cert(
            verifier.as_ref(),
            &leaf,
            &[],
            &name,
            &[],
            UnixTime::now(),
        )
        .map(drop)
    }

    #[rstest::rstest]
    #[case("127.0.0.1", true)]
    #[case("demo-primary.a.svc", true)]
    #[case("other.a.svc", false)]
    fn a_server_is_trusted_under_its_names_only(#[case] name: &str, #[case] trusted: bool) {
        let authority = Authority::create("test").unwrap();
        let identity = authority.server(["demo-primary.a.svc", "127.0.0.1"]).unwrap();
        assert_eq!(verify(&authority, &identity, name).is_ok(), trusted);
    }

    #[test]
    fn an_authority_read_back_signs_for_those_who_trust_it() {
        let first = Authority::create("test").unwrap();
        let again = Authority::from_pem(first.certificate(), &first.key()).unwrap();
        verify(&first, &again.server(["localhost"]).unwrap(), "localhost").unwrap();
        let stranger = Authority::create("test").unwrap();
        verify(&stranger, &again.server(["localhost"]).unwrap(), "localhost").unwrap_err();
    }

    #[test]
    fn a_client_is_no_server_and_its_key_is_a_secret() {
        let authority = Authority::create("test").unwrap();
        let identity = authority.client("admin", Some("system:masters")).unwrap();
        verify(&authority, &identity, "admin").unwrap_err();
        assert!(redact::leaks(&identity.key));
    }
}
