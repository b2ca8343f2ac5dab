//! TLS on the public listener, from certificate files.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::Error::InvalidCertificate;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::clock::Timestamp;

/// What is spoken, the best first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// What a connection that speaks HTTP/2 agreed on.
pub(super) const H2: &[u8] = b"h2";

/// Where the certificates are, and how often it is looked whether they changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// How often their contents are compared with those in use.
    pub look_every: Duration,
}

/// Files, what they held, and what connections are opened with.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Where.
    pub files: Files,
    /// What they held.
    pub contents: Contents,
    /// Made of it.
    pub tls: Tls,
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Certificates that connections are opened with.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    validity: Option<Validity>,
}

/// From when until when a whole chain of certificates holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The latest beginning.
    pub from: Timestamp,
    /// The earliest end.
    pub until: Timestamp,
}

/// A certificate that ends this soon was not renewed: those who renew by themselves do so a month,
/// or a third of its time, before.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Validity {
    /// What is wrong at `now`, in a sentence; no client opens a connection with a certificate that
    /// does not hold.
    #[must_use]
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let Self { from, until } = *self;
        if now < from {
            let told = format!("holds from {from} on, not yet: look at the clock, or wait");
            return Some(told);
        }
        if now > until {
            return Some(format!("ended at {until}: no client connects until it is renewed"));
        }
        (now.after(ENDS_SOON) > until).then(|| format!("ends at {until}: renew it"))
    }

    fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let each = chain.iter().map(Self::of_one).collect::<Option<Vec<Self>>>()?;
        let (from, until) = (each.iter().map(|one| one.from), each.iter().map(|one| one.until));
        Some(Self { from: from.max()?, until: until.min()? })
    }

    /// Asks the verifier, which looks at these times first and names what it missed, about the
    /// beginning of time and its end.
    fn of_one(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        let fault = |at: u64| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &RootCertStore::empty(),
                &[],
                at,
                &[],
            )
        };
        let of = |time: UnixTime| Timestamp::from_millis(time.as_secs().saturating_mul(1000));
        let from = match fault(0) {
            Err(InvalidCertificate(CertificateError::NotValidYetContext {
                not_before, ..
            })) => of(not_before),
            // From before 1970 on.
            Ok(()) | Err(_) => Timestamp::from_millis(0),
        };
        match fault(FAR_SECONDS) {
            Err(InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                Some(Self { from, until: of(not_after) })
            }
            Ok(()) | Err(_) => None,
        }
    }
}

/// After the last second that a certificate can name, 9999-12-31T23:59:59Z (RFC 5280, 4.1.2.5).
const FAR_SECONDS: u64 = 253_402_300_800;

/// Why files cannot be used. Never says what a key file holds.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// The certificate file.
    #[error("names {file}, which {what}")]
    Certificate {
        /// Its path.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The key file.
    #[error("names {file}, which {what}")]
    Key {
        /// Its path.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// Each is well-formed, and both do not go together.
    #[error("does not go with the certificate: {0}")]
    Unusable(#[from] rustls::Error),
}

impl TlsFault {
    /// What to do.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => {
                "name a PEM file with the server's certificate first, then its chain"
            }
            Self::Key { .. } => "name a PEM file with the private key, without a passphrase",
            Self::Unusable(_) => "name the key that the first certificate was made for",
        }
    }
}

impl Files {
    /// Reads both and makes certificates of them.
    ///
    /// # Errors
    /// [`TlsFault`].
    pub fn open(self) -> Result<Opened, TlsFault> {
        let contents = self.read()?;
        let tls = self.tls(&contents)?;
        Ok(Opened { files: self, contents, tls })
    }

    /// Reads both.
    ///
    /// # Errors
    /// [`TlsFault`].
    pub fn read(&self) -> Result<Contents, TlsFault> {
        let unreadable = |cause: std::io::Error| format!("cannot be read: {cause}");
        let certificate = std::fs::read(&self.certificate);
        let key = std::fs::read(&self.key);
        Ok(Contents {
            certificate: certificate.map_err(|cause| self.of_certificate(unreadable(cause)))?,
            key: key.map_err(|cause| self.of_key(unreadable(cause)))?,
        })
    }

    /// Makes certificates of what they hold.
    ///
    /// # Errors
    /// [`TlsFault`].
    pub fn tls(&self, contents: &Contents) -> Result<Tls, TlsFault> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&contents.certificate).collect();
        let none = || self.of_certificate("holds no PEM certificate".to_owned());
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(none)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|_| self.of_key("holds no PEM private key".to_owned()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key)?;
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(Tls { config: Arc::new(config), validity: Validity::of(&chain) })
    }

    fn of_certificate(&self, what: String) -> TlsFault {
        TlsFault::Certificate { file: self.certificate.display().to_string(), what }
    }

    fn of_key(&self, what: String) -> TlsFault {
        TlsFault::Key { file: self.key.display().to_string(), what }
    }
}

impl Tls {
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// From when until when they hold; nothing when that cannot be told.
    #[must_use]
    pub const fn validity(&self) -> Option<Validity> {
        self.validity
    }

    /// What is wrong with their times at `now`.
    #[must_use]
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let told = self.validity.and_then(|validity| validity.warning(now))?;
        Some(format!("the certificate of server.tls {told}"))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

/// Never the bytes: some of them are a private key.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contents(…)")
    }
}
