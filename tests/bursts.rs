//! A reader is slow when its socket takes nothing, never because whoever pushes is ahead of the I/O thread: plain and over TLS,
//! on all three kinds of runtime.

mod support;

use std::{
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use rxplus::prelude::*;
use support::{PATIENCE, Recorder, foreign::foreign_client, until};

/// Where a server runs, and what is spoken below it.
struct Site {
    name: String,
    tls: Tls,
    runtime: Option<IoRuntime>,
    /// Lives as long as what runs on it.
    _tokio: Option<tokio::runtime::Runtime>,
}

#[cfg(feature = "tls")]
type Tls = Option<(ServerTls, ClientTls)>;
#[cfg(not(feature = "tls"))]
type Tls = Option<()>;

#[cfg(feature = "tls")]
fn transports() -> [Tls; 2] {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
    let server = ServerTls::from_pem(cert.pem(), signing_key.serialize_pem()).unwrap();
    [None, Some((server, ClientTls::with_roots_pem(cert.pem()).unwrap()))]
}

#[cfg(not(feature = "tls"))]
fn transports() -> [Tls; 1] {
    [None]
}

impl Site {
    fn new(tls: Tls, kind: &str) -> Self {
        let name = format!("{kind}, {}", if tls.is_some() { "TLS" } else { "TCP" });
        let site = |runtime, tokio| Self { name, tls, runtime, _tokio: tokio };
        match kind {
            "own thread" => site(None, None),
            "several threads" => site(Some(IoRuntime::with_threads("several", 3).unwrap()), None),
            _ => {
                let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
                site(Some(IoRuntime::from_tokio(tokio.handle().clone())), Some(tokio))
            }
        }
    }

    fn server(&self) -> ServerBuilder<WsStr> {
        let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr);
        let builder = match &self.runtime {
            Some(runtime) => builder.runtime(runtime),
            None => builder,
        };
        match &self.tls {
            #[cfg(feature = "tls")]
            Some((server, _)) => builder.tls(server.clone()),
            _ => builder,
        }
    }

    fn client(&self, server: &RxWsServer<WsStr>) -> ClientBuilder<WsStr> {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let builder = RxWsClient::builder(format!("{scheme}://{}/", server.local_addr()), WsStr);
        match &self.tls {
            #[cfg(feature = "tls")]
            Some((_, client)) => builder.tls(client.clone()),
            _ => builder,
        }
    }
}

fn everywhere(test: impl Fn(&Site)) {
    for kind in ["own thread", "several threads", "the program's own"] {
        for tls in transports() {
            let site = Site::new(tls, kind);
            println!("{}", site.name);
            test(&site);
        }
    }
}

/// All of the first `count` numbers, in order.
fn hears_them_all(heard: &Recorder<WsText>, count: usize, site: &Site) {
    for number in 0..count {
        assert_eq!(heard.item(), number.to_string(), "{}", site.name);
    }
}

fn nothing_was_lost(server: &RxWsServer<WsStr>) {
    assert_eq!(server.stats().sent.dropped.total(), Tally::default());
}

#[test]
fn snapshot_pushed_while_the_connection_is_emitted_arrives_whole() {
    everywhere(|site| {
        for (bound, count) in [(None, 20_000), (Some(64), 5_000)] {
            let server = site.server();
            let server = match bound {
                Some(messages) => server.outbox(messages, 1 << 20, Overflow::Disconnect),
                None => server,
            };
            let server = server.bind().unwrap();
            server.connections().subscribe(move |connection| {
                (0..count).for_each(|number| connection.send(number.to_string()).unwrap());
            });
            let client = site.client(&server).connect().unwrap();
            hears_them_all(&Recorder::on(client.clone()), count, site);
            nothing_was_lost(&server);
            server.complete();
        }
    });
}

#[test]
fn loop_of_pushes_to_a_path_reaches_all_its_good_readers() {
    const COUNT: usize = 30_000;
    everywhere(|site| {
        let server = site.server().bind().unwrap();
        let clients = [(); 3].map(|()| site.client(&server).connect().unwrap());
        let heard = clients.each_ref().map(|client| Recorder::on(client.clone()));
        clients.iter().for_each(|client| client.wait_connected(PATIENCE).unwrap());
        (0..COUNT).for_each(|number| server.send(TaggedData::new("/", number.to_string())).unwrap());
        heard.iter().for_each(|heard| hears_them_all(heard, COUNT, site));
        nothing_was_lost(&server);
        server.complete();
    });
}

/// The answer that tells it so may still be on its way out of the server.
#[test]
fn client_that_has_just_connected_gets_a_loop_of_pushes_whole() {
    const COUNT: usize = 200;
    everywhere(|site| {
        let server = site.server().outbox(4, 1 << 20, Overflow::Disconnect).bind().unwrap();
        for number in 0..20 {
            let client = site.client(&server).connect().unwrap();
            let heard = Recorder::on(client.clone());
            client.wait_connected(PATIENCE).unwrap();
            (0..COUNT).for_each(|number| server.send(TaggedData::new("/", number.to_string())).unwrap());
            hears_them_all(&heard, COUNT, site);
            client.complete();
            // One that is on its way out takes nothing more.
            until("leaving", || server.connection_count() == 0);
            assert_eq!(server.stats().sent.dropped.overflow, Tally::default(), "client {number}");
        }
        server.complete();
    });
}

#[test]
fn burst_that_is_echoed_into_a_small_outbox_comes_back_whole() {
    const COUNT: usize = 3_000;
    everywhere(|site| {
        let server = site.server().outbox(8, 1 << 20, Overflow::Disconnect).bind().unwrap();
        server.connections().subscribe(|connection| {
            connection.clone().subscribe_with(connection);
        });
        let client = site.client(&server).connect().unwrap();
        let heard = Recorder::on(client.clone());
        (0..COUNT).for_each(|number| client.send(number.to_string()).unwrap());
        hears_them_all(&heard, COUNT, site);
        nothing_was_lost(&server);
        server.complete();
    });
}

#[test]
fn client_with_a_small_outbox_sends_a_loop_of_pushes_whole() {
    const COUNT: usize = 5_000;
    everywhere(|site| {
        let server = site.server().bind().unwrap();
        let heard = Recorder::on(server.clone().untag());
        let client = site.client(&server).outbox(8, 1 << 20, Overflow::Disconnect).connect().unwrap();
        client.wait_connected(PATIENCE).unwrap();
        (0..COUNT).for_each(|number| client.send(number.to_string()).unwrap());
        hears_them_all(&heard, COUNT, site);
        assert_eq!(client.stats().sent.dropped.total(), Tally::default());
        server.complete();
    });
}

#[test]
fn threads_that_push_into_one_small_outbox_lose_nothing_and_keep_their_order() {
    const THREADS: usize = 3;
    const EACH: usize = 2_000;
    everywhere(|site| {
        let server = site.server().outbox(4, 1 << 20, Overflow::Disconnect).bind().unwrap();
        let client = site.client(&server).connect().unwrap();
        let heard = Recorder::on(client.clone());
        client.wait_connected(PATIENCE).unwrap();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let server = &server;
                scope.spawn(move || {
                    for number in 0..EACH {
                        server.send(TaggedData::new("/", format!("{thread} {number}"))).unwrap();
                    }
                });
            }
        });
        let mut next = [0; THREADS];
        for _ in 0..THREADS * EACH {
            let text = heard.item();
            let (thread, number) = text.split_once(' ').unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(number, next.to_string(), "{}", site.name);
            *next += 1;
        }
        nothing_was_lost(&server);
        server.complete();
    });
}

/// Each connection's task pushes into the outboxes of all, its own among them.
#[test]
fn connections_that_push_to_each_other_from_their_callbacks_do_not_wait_for_each_other() {
    const CLIENTS: usize = 3;
    const EACH: usize = 500;
    everywhere(|site| {
        let server = site.server().outbox(4, 1 << 20, Overflow::Disconnect).bind().unwrap();
        server.clone().subscribe_with(server.clone());
        let clients = [(); CLIENTS].map(|()| site.client(&server).connect().unwrap());
        let heard = clients.each_ref().map(|client| Recorder::on(client.clone()));
        clients.iter().for_each(|client| client.wait_connected(PATIENCE).unwrap());
        for number in 0..EACH {
            clients.iter().for_each(|client| client.send(number.to_string()).unwrap());
        }
        heard.iter().for_each(|heard| drop(heard.items(CLIENTS * EACH)));
        nothing_was_lost(&server);
        server.complete();
    });
}

/// The thread that would hear of it is the one that pushes.
#[test]
fn socket_that_takes_something_again_is_written_to_within_the_same_callback() {
    let server =
        RxWsServer::builder("ws://127.0.0.1:0", WsBytes).outbox(4, 1 << 30, Overflow::DropLatest).bind().unwrap();
    let (full, is_full) = mpsc::channel();
    let (read, is_read) = mpsc::channel();
    let (accept, accepted) = mpsc::channel();
    let is_read = Mutex::new(is_read);
    server.connections().subscribe(move |connection| {
        let message = Bytes::from(vec![7; 64 * 1024]);
        while connection.send(message.clone()).is_ok() {}
        full.send(()).unwrap();
        is_read.lock().unwrap().recv().unwrap();
        accept.send(connection.send(message.clone()).is_ok()).unwrap();
    });
    let mut peer = foreign_client(server.local_addr(), "/");
    is_full.recv_timeout(PATIENCE).unwrap();
    // All that is whole: then the system has room for more than it asks for before it says so.
    peer.get_mut().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while peer.read().is_ok() {}
    read.send(()).unwrap();
    assert!(accepted.recv_timeout(PATIENCE).unwrap());
    server.complete();
}
