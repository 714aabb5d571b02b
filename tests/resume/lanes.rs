//! A session whose client comes back on another thread of the server than the one that serves it.

use std::{collections::BTreeSet, sync::mpsc};

use rxplus::prelude::*;

use super::{
    sessions::Pair,
    support::{
        proxy::{Direction, End},
        *,
    },
};

const THREADS: usize = 3;
const BREAKS: usize = 20;
const MESSAGES: usize = 50;

/// The threads on which clients come.
type Arrivals = mpsc::Receiver<String>;

fn on_threads(address: &str) -> (ServerBuilder<WsStr>, Arrivals) {
    let (arrive, arrivals) = mpsc::channel();
    let builder = RxWsServer::builder(address, WsStr).name("moved").threads(THREADS).resumable(Resume::new());
    let authorize = move |_: UpgradeRequest| {
        arrive.send(thread_name()).unwrap();
        async { Ok(()) }
    };
    (builder.authorize(authorize), arrivals)
}

/// The first thread has the session and one connection more, so the client comes back to another one.
fn session_stays_on_its_thread(pair: &Pair, arrivals: &Arrivals, join: impl Fn() -> RxWsClient<WsStr>) {
    let _others: Vec<_> = (0..THREADS).map(|_| join()).collect();
    assert_eq!(arrivals.try_iter().count(), 1 + THREADS);
    let (on_message, threads) = answers(|_: WsText| thread_name());
    pair.connection.clone().log_errors().subscribe(on_message);
    for n in 0..BREAKS {
        let direction = if n % 2 == 0 { Direction::Up } else { Direction::Down };
        pair.proxy.cut_after(direction, 10 * n, if n % 3 == 0 { End::Fin } else { End::Reset });
        for text in texts(n * MESSAGES..(n + 1) * MESSAGES) {
            pair.client.send(&*text).unwrap();
            pair.connection.send(text).unwrap();
        }
        assert_eq!(pair.resumed(), 0);
    }
    assert_eq!(pair.up.items(BREAKS * MESSAGES), texts(0..BREAKS * MESSAGES));
    assert_eq!(pair.down.items(BREAKS * MESSAGES), texts(0..BREAKS * MESSAGES));
    assert_eq!(threads.try_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["rxplus-moved".to_owned()]));
    assert!(arrivals.try_iter().any(|thread| thread != "rxplus-moved"));
    pair.server.clone().complete();
    pair.server.wait_closed(PATIENCE).unwrap();
}

#[test]
fn session_stays_on_its_thread_whichever_its_client_comes_back_to() {
    let (builder, arrivals) = on_threads("ws://127.0.0.1:0");
    let pair = Pair::of(builder.bind().unwrap());
    session_stays_on_its_thread(&pair, &arrivals, || connected(&pair.server, "/", WsStr));
}

#[cfg(feature = "tls")]
#[test]
fn session_over_tls_stays_on_its_thread_whichever_its_client_comes_back_to() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let trust = || ClientTls::with_roots_pem(&certificate).unwrap();
    let (builder, arrivals) = on_threads("wss://127.0.0.1:0");
    let server = builder.tls(ServerTls::from_pem(&certificate, key).unwrap()).bind().unwrap();
    let address = format!("wss://{}/", server.local_addr());
    let proxy = proxy::Proxy::on(std::net::Ipv4Addr::LOCALHOST.into(), server.local_addr());
    let url = proxy.url("/").replace("ws://", "wss://");
    let pair = Pair::through(proxy, &url, server, |builder| builder.tls(trust()));
    session_stays_on_its_thread(&pair, &arrivals, || {
        let client = RxWsClient::builder(&*address, WsStr).tls(trust()).connect().unwrap();
        client.wait_connected(PATIENCE).unwrap();
        client
    });
}
