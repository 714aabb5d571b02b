//! [`OwnRoots`]: how a client checks a server's certificate.

use std::sync::Arc;

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// Checks certificates as rustls does, and also accepts a self-signed one that is marked as an authority's, which rustls
/// accepts for no server, if the program gave exactly this certificate.
///
/// The signature of the handshake proves that the server has the key, as with any other certificate.
#[derive(Debug)]
pub(super) struct OwnRoots {
    chains: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl OwnRoots {
    pub(super) fn new(chains: Arc<WebPkiServerVerifier>, own: Vec<CertificateDer<'static>>) -> Self {
        Self { chains, own }
    }

    /// Whether rustls checks the dates of a certificate before it checks that it is not an authority's. If so, a certificate
    /// that it rejects as an authority's is not out of date. Tried at the time of 1970: then rustls must find fault with the
    /// dates.
    fn looks_at_dates_first(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
        let epoch = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        matches!(
            self.chains.verify_server_cert(certificate, &[], name, &[], epoch),
            Err(Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }))
        )
    }
}

/// Whether a server shows the certificate of an authority as its own.
pub(super) fn is_authority_as_server(error: &CertificateError) -> bool {
    // An error of the crate below rustls, whose type rustls does not show.
    matches!(error, CertificateError::Other(error) if format!("{:?}", error.0) == "CaUsedAsEndEntity")
}

impl ServerCertVerifier for OwnRoots {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chains.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(error))
                if is_authority_as_server(&error)
                    && self.own.contains(certificate)
                    && self.looks_at_dates_first(certificate, name) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
