//! TLS below and above streams of the program.

use std::{io, sync::Arc};

use rxplus::{
    prelude::*,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tokio::{
    io::duplex,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    ROOM, close_code, echoes, memory, open, refusal, rest, run,
    support::{PATIENCE, Recorder, each_runtime, echoing},
    unbound_with,
};

/// A certificate for `robot`, which is its own root, and the key, in PEM format.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    key: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["robot".into()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    pub(crate) fn of_server(&self) -> ServerTls {
        ServerTls::from_pem(&self.certificate, &self.key).unwrap()
    }

    pub(crate) fn trust(&self) -> ClientTls {
        ClientTls::with_roots_pem(&self.certificate).unwrap()
    }

    /// TLS of a program that is not rxplus.
    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = (self.der(), PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap());
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()).into()
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth()).into()
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("robot").unwrap()
}

#[test]
fn stream_that_the_program_has_decrypted_is_served_by_a_server_without_tls() {
    let identity = Identity::new();
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime));
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            let (connector, acceptor) = (identity.connector(), identity.acceptor());
            let shaking = (connector.connect(name(), near), acceptor.accept(far));
            let (near, far) = tokio::join!(shaking.0, shaking.1);
            server.accept(far.unwrap());
            let mut peer = open(near.unwrap(), "/").await;
            echoes(&mut peer, "hello").await;
            echoes(&mut peer, &"long ".repeat(100_000)).await;
            server.clone().complete();
            assert_eq!(close_code(&mut peer).await, 1001);
            server.closed().await;
        });
    }
}

#[test]
fn server_with_tls_makes_the_tls_handshake_over_any_stream() {
    let identity = Identity::new();
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime).tls(identity.of_server()));
        run(async {
            let stream = identity.connector().connect(name(), memory(&server)).await.unwrap();
            let mut peer = open(stream, "/").await;
            echoes(&mut peer, "hello").await;
            echoes(&mut peer, &"long ".repeat(100_000)).await;
            server.clone().complete();
            assert_eq!(close_code(&mut peer).await, 1001);
        });
    }
}

#[test]
fn peer_without_tls_is_refused_as_on_the_servers_own_listener() {
    let identity = Identity::new();
    let server = echoing(RxWsServer::builder("ws://127.0.0.1:0", WsStr).tls(identity.of_server()).bind().unwrap());
    let events = Recorder::on(server.events());
    run(async {
        let addr = server.local_addr().as_tcp().unwrap();
        tokio_tungstenite::client_async("ws://robot/", TcpStream::connect(addr).await.unwrap()).await.unwrap_err();
        let expected = refusal(&events);
        assert!(expected.1.contains("wss://"), "{expected:?}");
        tokio_tungstenite::client_async("ws://robot/", memory(&server)).await.unwrap_err();
        assert_eq!(refusal(&events), expected);
    });
    server.complete();
}

#[test]
fn client_with_tls_on_a_server_without_it_is_told_so() {
    let identity = Identity::new();
    let server = unbound_with(|builder| builder);
    let events = Recorder::on(server.events());
    run(async {
        let error = identity.connector().connect(name(), memory(&server)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    });
    let (status, reason) = refusal(&events);
    assert!(status == Some(400) && reason.contains("speaks no TLS"), "{reason}");
    server.complete();
}

#[test]
fn adopted_stream_has_no_other_tls_than_its_own() {
    let identity = Identity::new();
    let server = unbound_with(|builder| builder.tls(identity.of_server()));
    run(async {
        let (near, far) = duplex(ROOM);
        server.adopt(far, rxplus::Adopted::new("/"));
        let role = tungstenite::protocol::Role::Client;
        echoes(&mut tokio_tungstenite::WebSocketStream::from_raw_socket(near, role, None).await, "plain").await;
    });
    server.complete();
}

#[test]
fn wss_address_has_tls_on_top_of_what_the_connector_gives() {
    let identity = Identity::new();
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.tls(identity.of_server()));
        let accepting = server.clone();
        let client = RxWsClient::builder("wss://robot/", WsStr)
            .runtime(runtime)
            .tls(identity.trust())
            .connector(move |_| {
                let stream = memory(&accepting);
                async { Ok(stream) }
            })
            .connect()
            .unwrap();
        let heard = Recorder::on(client.clone());
        for text in ["hello".to_owned(), "long ".repeat(100_000)] {
            client.next(&*text);
            assert!(heard.item() == *text);
        }
        client.clone().complete();
        assert_eq!(client.wait_closed(PATIENCE).unwrap().unsent, 0);
        server.complete();
    }
}

#[test]
fn certificate_of_another_name_is_refused_over_a_connector_too() {
    let identity = Identity::new();
    let server = unbound_with(|builder| builder.tls(identity.of_server()));
    let (accepting, events) = (server.clone(), Recorder::on(server.events()));
    let client = RxWsClient::builder("wss://another/", WsStr)
        .tls(identity.trust())
        .connector(move |_| {
            let stream = memory(&accepting);
            async { Ok(stream) }
        })
        .connect()
        .unwrap();
    let error = Recorder::on(client.events()).find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    });
    assert!(matches!(error, WsError::CertificateName { .. }), "{error:?}");
    client.complete();
    assert!(refusal(&events).1.contains("refuses the server's certificate"));
    server.complete();
}

#[test]
fn stream_that_is_dropped_in_the_tls_handshake_is_a_refusal() {
    let identity = Identity::new();
    let server = unbound_with(|builder| builder.tls(identity.of_server()));
    let events = Recorder::on(server.events());
    drop(memory(&server));
    let (status, reason) = refusal(&events);
    assert!(status.is_none() && !reason.is_empty(), "{reason}");
    run(async {
        let silent = memory(&server);
        server.clone().complete();
        assert_eq!(rest(silent).await, "");
    });
}
