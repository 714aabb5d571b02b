//! TLS for both sides, over rustls: [`ServerTls`] and [`ClientTls`].

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, OnceLock},
};

use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        AlertDescription, CertificateError, ClientConfig, ConfigBuilder, Error, RootCertStore, ServerConfig,
        client::{WantsClientCert, WebPkiServerVerifier},
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use self::verifier::OwnRoots;
use crate::{
    ConnConfig, WsError,
    transport::{
        Transport,
        raw::Raw,
        sealed::{Sealed, Sleeve},
    },
};

mod verifier;

/// The protocol above TLS (RFC 7301): not HTTP/2, which has a WebSocket of its own.
const ALPN: &[u8] = b"http/1.1";

/// A server's certificate and key. Cheap to clone.
///
/// ```no_run
/// use rxplus::prelude::*;
///
/// let tls = ServerTls::from_pem_files("fullchain.pem", "privkey.pem")?;
/// let server = RxWsServer::builder("wss://0.0.0.0:8443", WsStr).tls(tls).bind()?;
/// # Ok::<(), WsError>(())
/// ```
///
/// `From<Arc<rustls::ServerConfig>>` takes anything else that rustls can do: client certificates, several names, another
/// provider of cryptography. TLS 1.2 and 1.3 are spoken.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl ServerTls {
    /// Reads the certificate, followed by the certificates between it and the root, and its key from files in PEM format.
    ///
    /// # Errors
    ///
    /// [`WsError::TlsSetup`] when a file cannot be read, or as [`from_pem`](Self::from_pem).
    pub fn from_pem_files(certificates: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, WsError> {
        Self::from_pem(read(certificates.as_ref())?, read(key.as_ref())?)
    }

    /// As [`from_pem_files`](Self::from_pem_files), from memory.
    ///
    /// # Errors
    ///
    /// [`WsError::TlsSetup`] when the input holds no certificate or no key, or they do not belong together.
    pub fn from_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, WsError> {
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| unusable("ring", error))?;
        let mut config = builder
            .with_no_client_auth()
            .with_single_cert(certificates_in(certificates.as_ref())?, key_in(key.as_ref())?)
            .map_err(|error| unusable("this certificate with this key", error))?;
        config.alpn_protocols = vec![ALPN.into()];
        Ok(Self(Arc::new(config)))
    }

    /// Makes the TLS handshake with a client, or returns the reason why not.
    pub(crate) async fn accept(&self, stream: Raw) -> Result<Transport, String> {
        match TlsAcceptor::from(self.0.clone()).accept(Sleeve::from(stream)).await {
            Ok(stream) => Ok(Transport::Tls(Box::new(Sealed::new(stream.into(), self.0.max_fragment_size)))),
            Err(error) => Err(match reason(&error) {
                Some(Error::InvalidMessage(_)) => "the client speaks no TLS; it must connect with wss://".into(),
                Some(Error::AlertReceived(alert)) => format!("the client refuses the server's certificate: {alert:?}"),
                _ => format!("the TLS handshake failed: {error}"),
            }),
        }
    }
}

impl From<Arc<ServerConfig>> for ServerTls {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self(config)
    }
}

/// The certificates that a client trusts, and its own. Cheap to clone.
///
/// A `wss://` address alone trusts whom the system trusts. For a server with a certificate of your own:
///
/// ```no_run
/// use rxplus::prelude::*;
///
/// let tls = ClientTls::with_roots_pem(std::fs::read("my-root.pem").unwrap())?;
/// let client = RxWsClient::builder("wss://robot.local:8443", WsStr).tls(tls).connect()?;
/// # Ok::<(), WsError>(())
/// ```
///
/// `From<Arc<rustls::ClientConfig>>` takes anything else that rustls can do. TLS 1.2 and 1.3 are spoken.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Trusts whom the operating system trusts. The default.
    ///
    /// The system's certificates are read once per process, in some milliseconds; as long as there are none, the next call
    /// looks again.
    ///
    /// # Errors
    ///
    /// [`WsError::TlsSetup`] when the system has none.
    pub fn system() -> Result<Self, WsError> {
        static SYSTEM: OnceLock<ClientTls> = OnceLock::new();
        if let Some(found) = SYSTEM.get() {
            return Ok(found.clone());
        }
        let found = Self::of(builder(system_roots()?)?.with_no_client_auth());
        Ok(SYSTEM.get_or_init(|| found).clone())
    }

    /// Trusts these root certificates, in PEM format, and no others. A self-signed certificate is its own root, even if it
    /// is marked as an authority's, as `openssl req -x509` makes it; its name and dates are checked like those of any other.
    /// The names are those in its `subjectAltName`.
    ///
    /// # Errors
    ///
    /// [`WsError::TlsSetup`] when the input holds no certificate.
    pub fn with_roots_pem(roots: impl AsRef<[u8]>) -> Result<Self, WsError> {
        Ok(Self::of(builder(roots_in(roots.as_ref())?)?.with_no_client_auth()))
    }

    /// As [`system`](Self::system), and shows the client's own certificate to a server that asks for one.
    ///
    /// `certificates` begins with the client's own, followed by the certificates between it and the root.
    ///
    /// # Errors
    ///
    /// [`WsError::TlsSetup`] when the input holds no certificate or no key, or they do not belong together.
    pub fn system_with_identity_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, WsError> {
        Self::identified(system_roots()?, certificates.as_ref(), key.as_ref())
    }

    /// As [`with_roots_pem`](Self::with_roots_pem), and shows the client's own certificate to a server that asks for one.
    ///
    /// # Errors
    ///
    /// As [`system_with_identity_pem`](Self::system_with_identity_pem).
    pub fn with_roots_and_identity_pem(
        roots: impl AsRef<[u8]>,
        certificates: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self, WsError> {
        Self::identified(roots_in(roots.as_ref())?, certificates.as_ref(), key.as_ref())
    }

    fn identified(roots: Roots, certificates: &[u8], key: &[u8]) -> Result<Self, WsError> {
        let identity = builder(roots)?.with_client_auth_cert(certificates_in(certificates)?, key_in(key)?);
        identity.map(Self::of).map_err(|error| unusable("this certificate with this key", error))
    }

    fn of(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![ALPN.into()];
        Self { config: Arc::new(config) }
    }

    /// The same for a protocol that is not HTTP.
    #[cfg(feature = "nats")]
    pub(crate) fn without_alpn(&self) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols.clear();
        config
    }

    /// Makes the TLS handshake with a server.
    pub(crate) async fn connect(&self, stream: Raw, endpoint: &ConnConfig) -> Result<Transport, WsError> {
        let name = ServerName::try_from(endpoint.host_without_zone().to_owned())
            .map_err(|error| unusable(format!("the host {}", endpoint.host()), error))?;
        match TlsConnector::from(self.config.clone()).connect(name, Sleeve::from(stream)).await {
            Ok(stream) => Ok(Transport::Tls(Box::new(Sealed::new(stream.into(), self.config.max_fragment_size)))),
            Err(error) => Err(certificate_failure(endpoint, &error)
                .unwrap_or_else(|| WsError::Tls { endpoint: endpoint.clone(), source: Arc::new(error) })),
        }
    }
}

impl From<Arc<ClientConfig>> for ClientTls {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config }
    }
}

/// The fault of one side's certificate, if that is why TLS failed. A server reports a fault of the client's certificate only
/// after the client has finished its handshake.
pub(crate) fn certificate_failure(endpoint: &ConnConfig, error: &io::Error) -> Option<WsError> {
    let endpoint = endpoint.clone();
    Some(match reason(error)? {
        Error::InvalidCertificate(CertificateError::NotValidForName) => {
            WsError::CertificateName { endpoint, names: "others".into() }
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            let none = "none; a certificate has its names in its subjectAltName";
            let names = if presented.is_empty() { none.into() } else { presented.join(", ") };
            WsError::CertificateName { endpoint, names }
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            WsError::CertificateExpired(endpoint)
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => WsError::UnknownIssuer(endpoint),
        // Self-signed, and not one of the trusted certificates.
        Error::InvalidCertificate(error) if verifier::is_authority_as_server(error) => WsError::UnknownIssuer(endpoint),
        Error::InvalidCertificate(error) => WsError::Certificate { endpoint, reason: error.to_string() },
        Error::AlertReceived(AlertDescription::CertificateRequired) => WsError::CertificateRequired(endpoint),
        _ => return None,
    })
}

/// The error of rustls.
fn reason(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// ring, whatever other provider of cryptography the program has made the process-wide one.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates that a client trusts.
struct Roots {
    store: RootCertStore,
    /// The program's own certificates: a server may show one of them as its own.
    own: Vec<CertificateDer<'static>>,
}

fn builder(roots: Roots) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, WsError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| unusable("ring", error))?;
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots.store), provider()).build();
    let chains = chains.map_err(|error| unusable("the root certificates", error))?;
    let verifier = Arc::new(OwnRoots::new(chains, roots.own));
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn system_roots() -> Result<Roots, WsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(found.certs);
    match (usable, found.errors.first()) {
        (1.., _) => Ok(Roots { store, own: Vec::new() }),
        (0, Some(error)) => Err(unusable("the system's root certificates", error)),
        (0, None) => Err(unusable("the system's root certificates", "there are none; give some to ClientTls")),
    }
}

fn roots_in(pem: &[u8]) -> Result<Roots, WsError> {
    let (mut store, own) = (RootCertStore::empty(), certificates_in(pem)?);
    for certificate in &own {
        store.add(certificate.clone()).map_err(|error| unusable("a root certificate", error))?;
    }
    Ok(Roots { store, own })
}

fn certificates_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, WsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = found.map_err(|error| unusable("what was given as a certificate", error))?;
    if certificates.is_empty() {
        return Err(unusable("what was given as a certificate", "there is none in it, in PEM format"));
    }
    Ok(certificates)
}

fn key_in(pem: &[u8]) -> Result<PrivateKeyDer<'static>, WsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| unusable("what was given as a private key", error))
}

fn read(path: &Path) -> Result<Vec<u8>, WsError> {
    std::fs::read(path).map_err(|error| unusable(path.display(), error))
}

fn unusable(what: impl fmt::Display, reason: impl fmt::Display) -> WsError {
    WsError::TlsSetup { what: what.to_string(), reason: reason.to_string() }
}

/// The key is left out.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

/// The key is left out.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_refused_with_a_reason() {
        let error = ServerTls::from_pem("", "").unwrap_err().to_string();
        assert!(error.contains("certificate") && error.contains("there is none in it"), "{error}");
        let error = ClientTls::with_roots_pem("-----BEGIN CERTIFICATE-----").unwrap_err().to_string();
        assert!(error.contains("what was given as a certificate"), "{error}");
        let error = ServerTls::from_pem_files("/no/such.pem", "/no/such.pem").unwrap_err().to_string();
        assert!(error.contains("/no/such.pem"), "{error}");
    }
}
