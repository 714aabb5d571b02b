//! Echoes over TLS: our server with a certificate, the tuned one over tokio-rustls, the best one over rustls, and a load that
//! speaks TLS. Both sides of all use rustls with ring, and its defaults.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use rxplus::{
    prelude::*,
    rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tokio_rustls::TlsAcceptor;

use crate::{
    baseline::{self, Answer, tuned_connection},
    best,
    ours::{PING_INTERVAL, echo, stay},
    wire::connect_all_asking,
};

/// A certificate that is its own root, and its key, in PEM format.
pub(crate) struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).expect("a certificate can be made");
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// What a competitor is started with.
    pub(crate) fn args(&self) -> [String; 2] {
        [self.certificate.clone(), self.key.clone()]
    }

    /// As [`connect_all`](crate::wire::connect_all), over TLS.
    pub(crate) fn connect_all(&self, addr: SocketAddr, paths: impl Iterator<Item = String>) -> Vec<TlsStream> {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.certificate)).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("ring has them");
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        let wrap = |socket| {
            let tls = ClientConnection::new(config.clone(), addr.ip().into()).expect("a usable configuration");
            TlsStream { tls, socket }
        };
        connect_all_asking("", wrap, addr, paths)
    }
}

fn der(certificate: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")
}

/// Our echo. The arguments are those of an [`Identity`].
pub(crate) fn ours(args: &[String]) -> SocketAddr {
    let tls = ServerTls::from_pem(&args[0], &args[1]).expect("a certificate and its key");
    let server = RxWsServer::builder("wss://127.0.0.1:0", WsStr).ping_interval(PING_INTERVAL).tls(tls);
    stay(echo(server.bind().expect("a free port")))
}

/// What makes connections of sockets, in the servers that were written by hand.
fn acceptor(args: &[String]) -> TlsAcceptor {
    let key = PrivateKeyDer::from_pem_slice(args[1].as_bytes()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("ring has them").with_no_client_auth();
    let config = builder.with_single_cert(vec![der(&args[0])], key).expect("a certificate and its key");
    TlsAcceptor::from(Arc::new(config))
}

/// The best echo.
pub(crate) fn best(args: &[String]) -> SocketAddr {
    best::tls::echo(acceptor(args))
}

/// The tuned echo.
pub(crate) fn by_hand(args: &[String]) -> SocketAddr {
    let acceptor = acceptor(args);
    baseline::serve(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = Box::pin(acceptor.accept(socket)).await else { return };
            tuned_connection(stream, Answer::Echo).await;
        }
    })
}

/// The load's side of a connection. It makes the TLS handshake with its first reads.
pub(crate) struct TlsStream {
    tls: ClientConnection,
    socket: TcpStream,
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            unless_full(self.flush())?;
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if self.tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            self.tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let len = self.tls.writer().write(bytes)?;
        // The bytes are taken; the next call writes what the socket does not take now.
        unless_full(self.flush())?;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

fn unless_full(flushed: io::Result<()>) -> io::Result<()> {
    match flushed {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        flushed => flushed,
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
