//! `wss://` on both sides, with certificates made on the spot.

mod trust;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Instant,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rxplus::{prelude::*, rustls};

use crate::{
    ROOM, SOON, Site, alone,
    crowds::is_run_apart,
    memory,
    raw::{REQUEST, Raw},
    support::{PATIENCE, Recorder},
};

/// An issuer of certificates.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM format.
pub(crate) struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Issuers are told apart by their names.
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_with(CertificateParams::new(vec![name.into()]).unwrap())
    }

    fn issue_expired(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.into()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        self.issue_with(params)
    }

    fn issue_with(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// For a client that is not ours.
    fn config(&self) -> Arc<rustls::ClientConfig> {
        trusting(&self.pem)
    }

    fn trust(&self) -> ClientTls {
        ClientTls::with_roots_pem(&self.pem).unwrap()
    }
}

fn trusting(root: &str) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pem(root)).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn pem(text: &str) -> rustls::pki_types::CertificateDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(text.as_bytes()).unwrap()
}

fn key(text: &str) -> rustls::pki_types::PrivateKeyDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(text.as_bytes()).unwrap()
}

pub(crate) fn serve(identity: &Identity) -> Site {
    let tls = ServerTls::from_pem(&identity.certificate, &identity.key).unwrap();
    Site::over(|builder| builder.tls(tls))
}

/// The stream of a client that is not ours.
pub(crate) fn client_of(
    site: &Site,
    authority: &Authority,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    stream_to(site.addr(), authority.config())
}

fn stream_to(
    addr: SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let connection = rustls::ClientConnection::new(config, name).unwrap();
    rustls::StreamOwned::new(connection, TcpStream::connect(addr).unwrap())
}

fn wss(site: &Site, path: &str) -> String {
    format!("wss://127.0.0.1:{}{path}", site.addr().port())
}

fn client(site: &Site, tls: ClientTls) -> RxWsClient<WsStr> {
    RxWsClient::builder(wss(site, "/"), WsStr)
        .tls(tls)
        .retry(RetryPolicy::exponential().max_retries(0).on_rejected(OnRejected::GiveUp))
        .connect()
        .unwrap()
}

#[track_caller]
fn is_served(client: &RxWsClient<WsStr>) {
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");
}

/// Why the first attempt to connect failed.
fn failure(client: &RxWsClient<WsStr>) -> WsError {
    Recorder::on(client.events()).find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    })
}

/// Tells a test that it is run as the client, and where to connect.
const URL: &str = "RXPLUS_EDGE_URL";

/// Where the system of that client has its roots.
const ROOTS: &str = "SSL_CERT_FILE";

/// A file of this test process.
fn temporary(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("rxplus-edge-{name}-{}.pem", std::process::id()))
}

#[test]
fn messages_go_there_and_back_and_the_closing_handshake_too() {
    let authority = Authority::new();
    let site = serve(&authority.issue("127.0.0.1"));
    let client = client(&site, authority.trust());
    is_served(&client);
    let large = "x".repeat(900_000);
    let heard = Recorder::on(client.clone());
    client.next(&*large);
    assert!(heard.item() == *large);
    client.clone().complete();
    assert_eq!(client.wait_closed(PATIENCE).unwrap().unsent, 0);
    let ending = site.events.find(|event| match event {
        ServerEvent::Disconnected { code, error, .. } => Some((code, error.is_none())),
        _ => None,
    });
    assert_eq!(ending, (1000, true));
}

#[test]
fn long_and_short_messages_in_turn_come_through_whole_and_in_order() {
    let authority = Authority::new();
    let site = serve(&authority.issue("127.0.0.1"));
    let client = client(&site, authority.trust());
    let heard = Recorder::on(client.clone());
    // A server's payloads of 16 KiB and more are written from where they lie, several at once.
    let text = |n: usize| n.to_string().repeat([1, 20_000, 3, 5_000, 100_000, 0][n % 6]);
    (0..60).for_each(|n| client.next(text(n)));
    for n in 0..60 {
        assert!(heard.item() == *text(n), "message {n}");
    }
}

/// What TLS has taken of the client's is lost with the link, if the system has not.
#[test]
fn what_a_link_has_not_written_goes_over_the_next_one_and_once() {
    const COUNT: usize = 60_000;
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1");
    let tls = ServerTls::from_pem(&identity.certificate, &identity.key).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).tls(tls).ping_interval(None).bind().unwrap();
    let (hear, heard) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    server.clone().log_errors().subscribe(move |tagged| {
        hear.send(tagged.data.split_once(' ').unwrap().0.parse::<usize>().unwrap()).unwrap();
        // Nothing is read before the link has ended.
        let _ = gate.recv();
    });
    let url = format!("wss://{}/", server.local_addr());
    let client = RxWsClient::builder(url, WsStr).tls(authority.trust()).ping_interval(None).connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    // Of lengths that end anywhere in a record.
    (0..COUNT).for_each(|number| client.send(format!("{number} {}", "x".repeat(500 + number % 700))).unwrap());
    heard.recv_timeout(PATIENCE).unwrap();
    let written = || client.stats().sent.written.messages;
    let (mut before, mut since) = (written(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        std::thread::yield_now();
        if written() != before {
            (before, since) = (written(), Instant::now());
        }
    }
    assert!(client.stats().sent.queued.messages > 0, "the system has taken everything");
    let events = Recorder::on(client.events());
    client.reconnect();
    events.find(|event| matches!(event, ClientEvent::Disconnected { .. }).then_some(()));
    drop(open);
    let mut numbers: Vec<_> = (1..COUNT).map(|_| heard.recv_timeout(PATIENCE).expect("none is missing")).collect();
    client.complete();
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    numbers.extend(heard.try_iter());
    // The second link may be heard before the first one to its end.
    numbers.sort_unstable();
    assert_eq!(numbers, (1..COUNT).collect::<Vec<_>>());
}

#[test]
fn plain_http_on_a_tls_port_is_hung_up_on() {
    let authority = Authority::new();
    let site = serve(&authority.issue("127.0.0.1"));
    let mut raw = Raw::connect(site.addr());
    raw.ask(&REQUEST);
    raw.rest();
    assert!(site.refusal().1.contains("wss://"));
    is_served(&client(&site, authority.trust()));
}

#[test]
fn silence_in_the_tls_handshake_is_ended_by_the_handshake_limit() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1");
    let tls = ServerTls::from_pem(&identity.certificate, &identity.key).unwrap();
    let limits = Limits::server().handshake(std::time::Duration::from_millis(500));
    let site = Site::over(|builder| builder.tls(tls).limits(limits));
    let mut raw = Raw::connect(site.addr());
    raw.send(b"\x16\x03\x01");
    assert_eq!(raw.rest(), b"");
    assert!(site.refusal().1.contains("Limits::handshake"));
    is_served(&client(&site, authority.trust()));
}

#[test]
fn connection_cut_without_the_end_of_tls_is_an_abnormal_closure() {
    let authority = Authority::new();
    let site = serve(&authority.issue("127.0.0.1"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(site.addr()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let tls = tokio_rustls::TlsConnector::from(authority.config()).connect(name, tcp).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async("ws://127.0.0.1/", tls).await.unwrap();
        // Dropped, it says neither goodbye.
        drop(socket);
    });
    let (code, error) = site.failure();
    assert!(code == 1006 && error.contains("without a closing handshake"), "{error}");
}

#[test]
fn server_that_speaks_no_tls_has_a_clear_error() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("wss://{}", listener.local_addr().unwrap());
    let client = RxWsClient::builder(address, WsStr).tls(Authority::new().trust()).connect().unwrap();
    let mut plain = listener.accept().unwrap().0;
    std::io::Write::write_all(&mut plain, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    let error = failure(&client);
    assert!(matches!(error, WsError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("does it speak TLS"), "{error}");
}

/// Has 500 peers begin a TLS handshake, each with as much as there is to begin with, and serves a good one meanwhile.
fn half_open(site: &Site, trusting: ClientTls) {
    // A record of 16 KiB, whose message is said to have 60,000 bytes.
    let hello = [&b"\x16\x03\x01\x40\x00\x01\x00\xea\x60\x03\x03"[..], &[7; 16_000]].concat();
    let unfinished: Vec<_> = (0..500)
        .map(|_| {
            let mut raw = Raw::connect(site.addr());
            raw.send(&hello);
            raw
        })
        .collect();
    let began = Instant::now();
    let good = client(site, trusting);
    is_served(&good);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    good.complete();
    drop(unfinished);
    (0..500).for_each(|_| assert_eq!(site.refusal().0, None));
}

#[test]
fn unfinished_hellos_keep_nobody_out_and_their_memory_is_reused() {
    if is_run_apart("tls::unfinished_hellos_keep_nobody_out_and_their_memory_is_reused") {
        return;
    }
    let authority = Authority::new();
    let site = serve(&authority.issue("127.0.0.1"));
    let before = memory();
    half_open(&site, authority.trust());
    // The allocator keeps what rustls gives back, 15 MiB; a second wave must find it free.
    let kept = memory();
    (0..3).for_each(|_| half_open(&site, authority.trust()));
    println!("{} KiB after 500 hellos, {} KiB after 2,000", (kept - before) / 1024, (memory() - before) / 1024);
    assert!(memory() < kept + ROOM);
}

/// How much an idle connection over TLS may cost, as SECURITY.md has it.
const MOST_EACH: usize = 20 * 1024;

/// Tells the test below that it is run as the peers: how many they are.
const PEERS: &str = "RXPLUS_EDGE_TLS_PEERS";

/// Not a test: connections that are open until the other process lets go.
#[test]
fn idle_peers() {
    let Ok(count) = std::env::var(PEERS) else { return };
    let [addr, root] = [URL, ROOTS].map(|name| std::env::var(name).unwrap());
    let config = trusting(&std::fs::read_to_string(root).unwrap());
    let upgraded = |_| {
        let mut stream = stream_to(addr.parse().unwrap(), config.clone());
        let head: String = REQUEST.iter().map(|line| format!("{line}\r\n")).collect();
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        assert!(stream.read(&mut [0; 12]).unwrap() > 0);
        stream
    };
    let _peers: Vec<_> = (0..count.parse::<usize>().unwrap()).map(upgraded).collect();
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn idle_connections_over_tls_cost_at_most_20_kib_each() {
    const COUNT: usize = 400;
    let authority = Authority::new();
    let site = serve(&authority.issue("127.0.0.1"));
    let opened = || site.events.find(|event| matches!(event, ServerEvent::Connected { .. }).then_some(()));
    is_served(&client(&site, authority.trust()));
    opened();
    let root = temporary("idle");
    std::fs::write(&root, &authority.pem).unwrap();
    let before = memory();
    let mut peers = std::process::Command::new(std::env::current_exe().unwrap());
    peers.args(["--exact", "tls::idle_peers"]).env(PEERS, COUNT.to_string());
    peers.env(URL, site.addr().to_string()).env(ROOTS, &root);
    peers.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut peers = peers.spawn().unwrap();
    (0..COUNT).for_each(|_| opened());
    let each = memory().saturating_sub(before) / COUNT;
    println!("{COUNT} idle connections over TLS: {each} bytes each");
    drop(peers.stdin.take());
    peers.wait().unwrap();
    std::fs::remove_file(&root).unwrap();
    assert!(each <= MOST_EACH, "{each} bytes each");
}
