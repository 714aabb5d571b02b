//! One connection of a hundred reads 1 KB/s: what that costs the others, its server, and itself.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use super::*;

const FAST: usize = 99;
const MESSAGE_LEN: usize = 4 * 1024;
/// The feed's rate is a hundred messages a second: one that a machine with other things to do can keep, too.
const INTERVAL: Duration = Duration::from_millis(10);
const MESSAGES: usize = 150;
/// How much the outbox of each connection holds.
const BOUND: Tally = tally(64, 1024 * 1024);

/// A server that feeds 99 clients which take all they can.
struct Feed {
    server: RxWsServer<WsBytes>,
    heard: Arc<AtomicUsize>,
    _clients: Vec<RxWsClient<WsBytes>>,
}

impl Feed {
    fn new(overflow: Overflow) -> Self {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes)
            .outbox(BOUND.messages as usize, BOUND.len as usize, overflow)
            .bind()
            .unwrap();
        let runtime = IoRuntime::new("fast-readers").unwrap();
        let heard = Arc::new(AtomicUsize::new(0));
        let clients = (0..FAST).map(|_| {
            let client = RxWsClient::builder(url(&server, "/feed"), WsBytes).runtime(&runtime).connect().unwrap();
            let heard = heard.clone();
            client.clone().log_errors().subscribe(move |_| {
                heard.fetch_add(1, SeqCst);
            });
            client
        });
        let clients = clients.collect();
        until("connecting", || server.connection_count() == FAST);
        Self { server, heard, _clients: clients }
    }

    /// Pushes at the feed's rate, and returns how many messages the fast ones have heard when its time is over.
    fn run(&self, after_each: impl Fn()) -> usize {
        let message = Bytes::from(vec![7; MESSAGE_LEN]);
        let (begun, before) = (Instant::now(), self.heard.load(SeqCst));
        for number in 1..=MESSAGES as u32 {
            self.server.next(TaggedData::new("/feed", message.clone()));
            after_each();
            thread::sleep((begun + number * INTERVAL).saturating_duration_since(Instant::now()));
        }
        let heard = self.heard.load(SeqCst) - before;
        until("hearing the rest", || self.heard.load(SeqCst) - before == FAST * MESSAGES);
        heard
    }
}

/// The one that reads slowly, by way of a proxy, and its connection on the server's side.
struct Slow {
    proxy: Proxy,
    client: RxWsClient<WsBytes>,
    connection: Connection<WsBytes>,
    events: Recorder<ServerEvent>,
}

impl Slow {
    fn join(feed: &Feed) -> Self {
        let proxy = Proxy::to(feed.server.local_addr());
        let connections = Recorder::on(feed.server.connections());
        let policy = RetryPolicy::exponential().max_retries(0);
        let client =
            RxWsClient::builder(proxy.url("/feed?slow"), WsBytes).retry(policy).discard_inbound().connect().unwrap();
        let connection = connections.find(|connection| connection.query().is_some().then_some(connection));
        let events = Recorder::on(connection.events());
        client.wait_connected(PATIENCE).unwrap();
        proxy.throttle(1000);
        let slow = Self { proxy, client, connection, events };
        slow.fill();
        slow
    }

    /// Sends it what the systems' buffers hold, which at the feed's rate would take long.
    fn fill(&self) {
        let is_written = || self.connection.stats().sent.queued.messages == 0;
        loop {
            self.connection.send(vec![7; 64 * 1024]).unwrap();
            let patience = Instant::now() + Duration::from_millis(100);
            while !is_written() {
                if Instant::now() > patience {
                    return;
                }
                thread::yield_now();
            }
        }
    }

    fn assert_bounded(&self) {
        let sent = self.connection.stats().sent;
        assert_accounted(sent);
        assert!(sent.queued.messages <= BOUND.messages && sent.queued.len <= BOUND.len, "{sent:?}");
    }

    /// Lets it read what is there for it, ends it, and holds what it missed against what was announced.
    fn assert_told_of_every_loss(self) -> Tally {
        self.proxy.throttle(None);
        until("reading the rest", || self.connection.stats().sent.queued.messages == 0);
        self.connection.clone().complete();
        self.connection.wait_closed(PATIENCE).unwrap();
        let sent = self.connection.stats().sent;
        let (dropped, unconfirmed) = announced_by_server(&self.events.to_the_end().0);
        self.client.clone().complete();
        self.client.wait_closed(PATIENCE).unwrap();
        let received = self.client.stats().received.messages;
        assert_accounted(sent);
        assert_eq!(sent.dropped.total(), dropped);
        assert!(received <= sent.written.messages);
        assert!(received + dropped.messages + unconfirmed >= sent.accepted.messages);
        dropped
    }
}

/// Feeds the fast ones alone, and then with the slow one among them; more than once only on a machine that was too busy.
fn fast_ones_keep_their_rate(overflow: Overflow) {
    // One feed at a time has the machine to itself, as far as it does.
    static FEEDING: Mutex<()> = Mutex::new(());
    let _feeding = FEEDING.lock().unwrap_or_else(PoisonError::into_inner);
    let feed = Feed::new(overflow);
    for _ in 0..5 {
        let alone = feed.run(|| ());
        let slow = Slow::join(&feed);
        let beside = feed.run(|| slow.assert_bounded());
        let dropped = slow.assert_told_of_every_loss();
        let kept = beside as f64 / alone as f64;
        println!("{overflow:?}: {:.1} % of the rate kept; the slow one missed {dropped:?}, announced", 100.0 * kept);
        assert!(dropped.messages > 0, "it was slow, and still missed nothing");
        if kept >= 0.95 {
            return;
        }
    }
    panic!("a slow reader cost the others more than 5 % of their rate");
}

#[test]
fn one_slow_reader_costs_the_others_nothing_under_disconnect() {
    fast_ones_keep_their_rate(Overflow::Disconnect);
}

#[test]
fn one_slow_reader_costs_the_others_nothing_under_drop_oldest() {
    fast_ones_keep_their_rate(Overflow::DropOldest);
}

#[test]
fn one_slow_reader_costs_the_others_nothing_under_drop_latest() {
    fast_ones_keep_their_rate(Overflow::DropLatest);
}
