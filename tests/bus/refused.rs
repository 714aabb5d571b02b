//! Brokers that refuse: credentials, subjects, long messages; and TLS.

use super::*;

/// The local service of a server goes on, whatever its broker says.
fn assert_serves(server: &RxWsServer<WsStr>) {
    let heard = Recorder::on(connected(server, "/local", WsStr));
    server.send(TaggedData::new("/local", "x")).unwrap();
    assert_eq!(heard.item(), "x");
}

fn on(path: &str, data: impl Into<WsText>) -> TaggedData<WsText> {
    TaggedData::new(path, data.into())
}

const SECRET: &str = "wohlgehütet";

#[test]
#[ignore = "needs nats-server"]
fn wrong_credentials_are_told_without_the_credentials() {
    let broker = NatsServer::start("authorization { user: me, password: right }");
    let with = |password: &str| RxBus::builder(broker.url(), WsStr).user_and_password("me", password);
    assert!(!format!("{:?}", with(SECRET)).contains(SECRET));
    let bus = with(SECRET).connect().unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(&bus).bind().unwrap();
    let (error, text) = bus_event(&bus, |event| match &event {
        BusEvent::ConnectFailed { error, .. } => Some((error.clone(), format!("{event:?}"))),
        _ => None,
    })();
    let WsError::BrokerRefused(name) = error else { panic!("{error}") };
    assert_eq!(name, format!("127.0.0.1:{}", broker.port));
    assert!(!text.contains(SECRET));
    assert_serves(&server);
    with("right").connect().unwrap().wait_connected(PATIENCE).unwrap();
    let in_address = format!("nats://me:right@127.0.0.1:{}", broker.port);
    RxBus::connect(in_address, WsStr).unwrap().wait_connected(PATIENCE).unwrap();
}

#[test]
#[ignore = "needs nats-server"]
fn refused_credentials_end_a_bus_that_gives_up() {
    let broker = NatsServer::start("authorization { token: right }");
    let with = |token: &str| {
        let retry = RetryPolicy::default().on_rejected(OnRejected::GiveUp);
        RxBus::builder(broker.url(), WsStr).token(token).retry(retry).connect().unwrap()
    };
    let (_, end) = Recorder::on(with("wrong")).to_the_end();
    let Heard::Error(error) = end else { panic!("{end:?}") };
    assert!(error.contains("refused the credentials"), "{error}");
    with("right").wait_connected(PATIENCE).unwrap();
}

#[test]
#[ignore = "needs nats-server"]
fn refused_subject_is_told_and_others_go_on() {
    let config = r#"authorization { users: [
        { user: me, password: x, permissions: { publish: { deny: ["rx.secret"] }, subscribe: { deny: ["rx.hidden"] } } }
    ] }"#;
    let broker = NatsServer::start(config);
    let bus = || RxBus::builder(broker.url(), WsStr).user_and_password("me", "x").connect().unwrap();
    let (here, there) = (bus(), bus());
    let denied = |bus: &RxBus<WsStr>, denied: &'static str| {
        bus_event(bus, move |event| match event {
            BusEvent::Unroutable { path, why, .. } if path == denied => Some(why),
            _ => None,
        })
    };
    let heard = ["/open", "/hidden"].map(|path| Recorder::on(there.path(path)));
    let (publish, subscribe) = (denied(&here, "/secret"), denied(&there, "/hidden"));
    there.wait_connected(PATIENCE).unwrap();
    here.next(on("/secret", "x"));
    here.next(on("/hidden", "x"));
    here.next(on("/open", "y"));
    assert_eq!(heard[0].item(), on("/open", "y"));
    assert_eq!(&*publish(), "the broker does not let this bus publish to rx.secret");
    assert_eq!(&*subscribe(), "the broker does not let this bus subscribe to rx.hidden");
    assert_eq!(heard[1].rest(), []);
}

#[test]
#[ignore = "needs nats-server"]
fn broker_that_does_not_let_itself_be_asked_confirms_all_the_same() {
    let config = r#"authorization { users: [
        { user: me, password: x, permissions: { publish: ["rx.>"], subscribe: ["rx.>", "_INBOX.>"] } }
    ] }"#;
    let broker = NatsServer::start(config);
    let bus = RxBus::builder(broker.url(), WsStr).user_and_password("me", "x").connect().unwrap();
    bus.wait_connected(PATIENCE).unwrap();
    bus.next(on("/a", "x"));
    bus.clone().complete();
    assert_eq!(bus.wait_closed(PATIENCE).unwrap().unsent, 0);
}

#[test]
#[ignore = "needs nats-server"]
fn message_that_is_longer_than_the_broker_has_come_to_allow_is_heard_here_alone() {
    let broker = NatsServer::start("max_payload: 100000");
    let retry = RetryPolicy::fixed(Duration::from_millis(20));
    let [here, there] = [0, 1].map(|_| RxBus::builder(broker.url(), WsStr).retry(retry.clone()).connect().unwrap());
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(&here).bind().unwrap();
    let (own, others) = (Recorder::on(here.path("/a")), Recorder::on(there.path("/a")));
    [&here, &there].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    let long = "x".repeat(50_000);
    here.send(on("/a", long.as_str())).unwrap();
    assert_eq!((own.item(), others.item()), (on("/a", long.as_str()), on("/a", long.as_str())));

    let told = bus_event(&here, |event| match event {
        BusEvent::Unencodable { path, error, .. } => Some((path, error.to_string())),
        _ => None,
    });
    broker.reload("max_payload: 10000");
    until("a refusal", || matches!(here.send(on("/a", long.as_str())), Err(SendError::Encode(..))));
    here.next(on("/a", long.as_str()));
    let (path, why) = told();
    assert!(path == "/a" && why.contains("50000 bytes"), "{path}: {why}");
    assert!(matches!(server.send(on("/a", long.as_str())), Err(SendError::Encode(..))), "nobody is here");
    assert_serves(&server);
    here.next(on("/a", "short"));
    others.find(|item| (item == on("/a", "short")).then_some(()));
}

/// A broker that wants TLS, and its certificate.
fn broker_with_tls() -> (NatsServer, String) {
    let key = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let folder = std::env::temp_dir().join(format!("rxplus-nats-tls-{:?}", std::thread::current().id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, private) = (write("cert.pem", key.cert.pem()), write("key.pem", key.signing_key.serialize_pem()));
    let broker = NatsServer::start(&format!("tls {{ cert_file: {certificate:?}, key_file: {private:?} }}"));
    std::fs::remove_dir_all(folder).unwrap();
    (broker, key.cert.pem())
}

fn fails_to_connect(builder: BusBuilder<WsStr>) -> String {
    let bus = builder.connect().unwrap();
    bus_event(&bus, |event| match event {
        BusEvent::ConnectFailed { error, .. } => Some(chain(&error)),
        _ => None,
    })()
}

#[test]
#[ignore = "needs nats-server"]
fn bus_speaks_tls_with_a_broker_whose_certificate_it_trusts_and_no_other() {
    let (broker, certificate) = broker_with_tls();
    let address = format!("tls://localhost:{}", broker.port);
    let trusting = |certificate: &str| {
        let trusted = ClientTls::with_roots_pem(certificate).unwrap();
        RxBus::builder(address.as_str(), WsStr).tls(trusted)
    };
    trusting(&certificate).connect().unwrap().wait_connected(PATIENCE).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    for distrusting in [trusting(&other.cert.pem()), RxBus::builder(address.as_str(), WsStr)] {
        let why = fails_to_connect(distrusting);
        assert!(why.contains("certificate"), "{why}");
    }
}

#[test]
#[ignore = "needs nats-server"]
fn bus_fails_to_connect_when_only_one_side_wants_tls() {
    let (broker, _) = broker_with_tls();
    fails_to_connect(RxBus::builder(format!("nats://localhost:{}", broker.port), WsStr));
    let broker = NatsServer::start("");
    fails_to_connect(RxBus::builder(format!("tls://127.0.0.1:{}", broker.port), WsStr));
    RxBus::connect(broker.url(), WsStr).unwrap().wait_connected(PATIENCE).unwrap();
}

#[test]
fn address_or_prefix_that_is_none_is_an_error_without_a_password() {
    for address in ["http://me:secret@host", "nats://", "nats://a,,", ""] {
        let error = RxBus::connect(address, WsStr).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = RxBus::builder("nats://127.0.0.1", WsStr).prefix("a.>").connect().unwrap_err();
    assert!(error.to_string().starts_with("cannot make a bus with the prefix \"a.>\": use letters"), "{error}");
    let address = BusAddress::try_from("nats://me:secret@host").unwrap();
    assert_eq!(format!("{address:?}"), "BusAddress(host:4222)");
}
