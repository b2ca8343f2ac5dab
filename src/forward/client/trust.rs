//! Whose certificates a destination is believed by.

use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Certificate authorities.
#[derive(Clone, Debug, Default)]
pub struct Trust(Option<Arc<RootCertStore>>);

/// Why a file holds no authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustFault {
    /// It is no PEM, or has no certificate.
    #[error("holds no PEM certificate")]
    NoCertificate,
    /// One of its certificates is none of an authority.
    #[error("holds a certificate that cannot be read")]
    Unreadable,
}

impl Trust {
    /// Those of the file `pem`, and no others.
    ///
    /// # Errors
    /// [`TrustFault`].
    pub fn only(pem: &[u8]) -> Result<Self, TrustFault> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| TrustFault::NoCertificate)?;
            roots.add(certificate).map_err(|_| TrustFault::Unreadable)?;
        }
        if roots.is_empty() {
            Err(TrustFault::NoCertificate)
        } else {
            Ok(Self(Some(Arc::new(roots))))
        }
    }

    /// What a client that believes them is built with.
    #[must_use]
    pub fn config(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for the default versions");
        match &self.0 {
            Some(roots) => builder.with_root_certificates(Arc::clone(roots)).with_no_client_auth(),
            // Those that browsers trust.
            None => builder.with_webpki_roots().with_no_client_auth(),
        }
    }
}
