//! Rule 6: readers that take nothing, or 1 KB/s of what a hundred are fed: what becomes of them, and what they cost the others
//! and the server.

use std::sync::{
    PoisonError,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use support::proxy::Proxy;

use super::*;

#[test]
fn slow_reader_is_told_1013_and_its_queue_is_dropped() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).outbox(4, 1 << 30, Overflow::Disconnect);
    let server = server.bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut slow = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    let events = Recorder::on(connection.events());
    let message = Bytes::from(vec![7; 1 << 20]);
    while connection.send(message.clone()).is_ok() {
        // Four more than the system takes at once come sooner or later.
        thread::yield_now();
    }
    // It reads after all, before the second is over.
    let mut messages = 0;
    let close = loop {
        match slow.read() {
            Ok(tungstenite::Message::Close(frame)) => break frame,
            Ok(message) => messages += u64::from(message.is_binary()),
            Err(error) => panic!("{error} instead of a close frame, after {messages} messages"),
        }
    };
    assert_eq!(close.map(|frame| u16::from(frame.code)), Some(1013));
    while slow.read().is_ok() {}
    connection.wait_closed(PATIENCE).unwrap();
    let sent = connection.stats().sent;
    assert_accounted(sent);
    assert_eq!(sent.written.messages, messages);
    assert_eq!(announced_by_server(&events.to_the_end().0).0, sent.dropped.total());
    server.complete();
}

#[test]
fn slow_reader_that_stays_slow_is_reset_within_about_a_second() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).outbox(4, 1 << 30, Overflow::Disconnect);
    let server = server.bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut slow = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    let events = Recorder::on(connection.events());
    while connection.send(vec![7; 1 << 20]).is_ok() {
        thread::yield_now();
    }
    let overflown = Instant::now();
    connection.wait_closed(PATIENCE).unwrap();
    let told = events.to_the_end().0.pop();
    assert!(
        matches!(told, Some(ServerEvent::Disconnected { error: Some(WsError::ClosingTimedOut { .. }), .. })),
        "{told:?}"
    );
    assert!(overflown.elapsed() < Duration::from_secs(3), "{:?}", overflown.elapsed());
    // What the system still held for it is gone too.
    let reset = loop {
        if let Err(error) = slow.read() {
            break error;
        }
    };
    let is_reset =
        matches!(&reset, tungstenite::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset);
    assert!(is_reset, "{reset}");
    assert_accounted(connection.stats().sent);
    server.complete();
}

#[test]
fn slow_reader_hears_the_newest_under_drop_oldest() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).outbox(10, 1 << 20, Overflow::DropOldest);
    let server = server.bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut slow = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    // Until the system takes no more: then something waits for longer than it takes to be written.
    let long = "long ".repeat(10_000);
    loop {
        connection.send(long.as_str()).unwrap();
        let patience = Instant::now() + Duration::from_millis(100);
        let waits = || connection.stats().sent.queued.messages > 0;
        while waits() && Instant::now() < patience {
            thread::yield_now();
        }
        if waits() {
            break;
        }
    }
    (0..1000).for_each(|number| connection.next(number.to_string()));
    let sent = connection.stats().sent;
    assert_accounted(sent);
    connection.clone().complete();
    let (texts, code) = read_to_the_end(&mut slow);
    let newest: Vec<u64> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    // One place is taken by the long one of which a part was written.
    assert_eq!((newest, code), ((991..1000).collect(), Some(1000)));
    server.complete();
}

#[test]
fn client_that_reads_nothing_is_dropped_and_the_others_lose_nothing() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsBytes).unwrap();
    let (events, connections) = (Recorder::on(server.events()), Recorder::on(server.connections()));
    let client = connected(&server, "/video", WsBytes);
    let heard = Recorder::on(client.clone());
    connections.item();
    let _deaf = foreign_client(server.local_addr(), "/video");
    let dropped = Recorder::on(connections.item());
    let picture = Bytes::from(vec![7; 1024 * 1024]);
    // More than its outbox of 16 MiB and the socket's buffers hold.
    for _ in 0..64 {
        server.next(TaggedData::new("/video", picture.clone()));
        assert_eq!(heard.item(), picture);
    }
    let lost = events.find(|event| match event {
        ServerEvent::Dropped { reason: DropReason::Overflow, dropped, .. } => Some(dropped),
        _ => None,
    });
    assert!(lost.messages > 1, "{lost:?}");
    assert!(matches!(dropped.hear(), Heard::Error(_)));
    assert_eq!(server.connection_count(), 1);
}

const FAST: usize = 99;
const MESSAGE_LEN: usize = 4 * 1024;
/// The feed's rate is a hundred messages a second: one that a machine with other things to do can keep, too.
const INTERVAL: Duration = Duration::from_millis(10);
const MESSAGES: usize = 150;
/// How many messages are pushed at once where the feed has no rate of its own.
const BATCH: usize = 16;
/// How much the outbox of each connection holds.
const BOUND: Tally = tally(64, 1024 * 1024);

/// Clients at one path that take all they can.
struct Audience {
    path: &'static str,
    /// How many messages each of them has heard.
    heard: Arc<[AtomicUsize]>,
    /// Says that one of them has heard as many again as `BATCH`.
    beat: mpsc::Receiver<()>,
    _clients: Vec<RxWsClient<WsBytes>>,
}

impl Audience {
    fn join(server: &RxWsServer<WsBytes>, path: &'static str, count: usize) -> Self {
        let before = server.connection_count();
        let runtime = IoRuntime::new("fast-readers").unwrap();
        let heard: Arc<[AtomicUsize]> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let (beats, beat) = mpsc::channel();
        let clients = (0..count).map(|number| {
            let client = RxWsClient::builder(url(server, path), WsBytes).runtime(&runtime).connect().unwrap();
            let (heard, beats) = (heard.clone(), beats.clone());
            client.clone().log_errors().subscribe(move |_| {
                if heard[number].fetch_add(1, SeqCst) % BATCH == BATCH - 1 {
                    beats.send(()).unwrap_or(());
                }
            });
            client
        });
        let clients = clients.collect();
        until("connecting", || server.connection_count() == before + count);
        Self { path, heard, beat, _clients: clients }
    }

    fn heard(&self) -> Vec<usize> {
        self.heard.iter().map(|heard| heard.load(SeqCst)).collect()
    }
}

/// A server that feeds 99 clients which take all they can.
struct Feed {
    server: RxWsServer<WsBytes>,
    fast: Audience,
}

impl Feed {
    fn new(overflow: Overflow) -> Self {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes)
            .outbox(BOUND.messages as usize, BOUND.len as usize, overflow)
            .bind()
            .unwrap();
        let fast = Audience::join(&server, "/feed", FAST);
        Self { server, fast }
    }

    /// Pushes at the feed's rate, and returns how many messages the fast ones have heard when its time is over.
    fn run(&self, after_each: impl Fn()) -> usize {
        let message = Bytes::from(vec![7; MESSAGE_LEN]);
        let (begun, before) = (Instant::now(), self.heard());
        for number in 1..=MESSAGES as u32 {
            self.server.next(TaggedData::new("/feed", message.clone()));
            after_each();
            thread::sleep((begun + number * INTERVAL).saturating_duration_since(Instant::now()));
        }
        let heard = self.heard() - before;
        until("hearing the rest", || self.heard() - before == FAST * MESSAGES);
        heard
    }

    fn heard(&self) -> usize {
        self.fast.heard().iter().sum()
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

/// One feed at a time has the machine to itself, as far as it does.
static FEEDING: Mutex<()> = Mutex::new(());

/// Feeds the fast ones alone, and then with the slow one among them; more than once only on a machine that was too busy.
fn fast_ones_keep_their_rate(overflow: Overflow) {
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
#[ignore = "measures rates, for which it wants the machine for itself"]
fn one_slow_reader_costs_the_others_nothing_under_disconnect() {
    fast_ones_keep_their_rate(Overflow::Disconnect);
}

#[test]
#[ignore = "measures rates, for which it wants the machine for itself"]
fn one_slow_reader_costs_the_others_nothing_under_drop_oldest() {
    fast_ones_keep_their_rate(Overflow::DropOldest);
}

#[test]
#[ignore = "measures rates, for which it wants the machine for itself"]
fn one_slow_reader_costs_the_others_nothing_under_drop_latest() {
    fast_ones_keep_their_rate(Overflow::DropLatest);
}

/// The same without a rate of its own: as fast as the 99 take it.
#[cfg(target_os = "linux")] // measures by the processor's time of a thread
mod flat_out {
    use std::ops::AddAssign;

    use rustix::time::{ClockId, clock_gettime};
    use rxrust::{context::Context, scheduler::Scheduler};

    use super::*;

    const ROUNDS: usize = 5;
    const LAPS: usize = 8;
    const BATCHES: usize = 5;

    /// What laps took.
    #[derive(Default)]
    struct Cost {
        time: Duration,
        /// Of the processor, for pushing and for the server's thread.
        work: Duration,
    }

    impl AddAssign for Cost {
        fn add_assign(&mut self, other: Self) {
            self.time += other.time;
            self.work += other.work;
        }
    }

    fn own_work() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    impl Feed {
        fn work(&self) -> Duration {
            let (send, work) = mpsc::channel();
            self.server.scheduler().schedule(async move { send.send(own_work()).unwrap() }, None);
            work.recv_timeout(PATIENCE).unwrap()
        }

        /// Keeps the outboxes of an audience filled, and never full.
        fn lap(&self, audience: &Audience) -> Cost {
            let message = Bytes::from(vec![7; MESSAGE_LEN]);
            let before = audience.heard();
            let have_heard =
                |count| audience.heard().iter().zip(&before).all(|(heard, before)| heard - before >= count);
            let until_heard = |count| {
                while !have_heard(count) {
                    audience.beat.recv_timeout(PATIENCE).unwrap();
                }
            };
            let (begun, work, mut pushing) = (Instant::now(), self.work(), Duration::ZERO);
            for batch in 1..=BATCHES {
                let start = own_work();
                (0..BATCH).for_each(|_| self.server.next(TaggedData::new(audience.path, message.clone())));
                pushing += own_work() - start;
                until_heard(BATCH * batch.saturating_sub(2));
            }
            until_heard(BATCH * BATCHES);
            Cost { time: begun.elapsed(), work: self.work() - work + pushing }
        }
    }

    /// How much of a rate is kept by what takes longer: the median of all rounds, in per cent.
    fn kept(rounds: &[(Cost, Cost)], of: impl Fn(&Cost) -> Duration) -> f64 {
        let mut kept: Vec<_> =
            rounds.iter().map(|(normal, slow)| 100.0 * of(normal).as_secs_f64() / of(slow).as_secs_f64()).collect();
        kept.sort_by(f64::total_cmp);
        kept[kept.len() / 2]
    }

    /// A hundred that read alike, and 99 with a slow one among them, by turns so short that both meet the same machine.
    fn round(feed: &Feed, alike: &Audience) -> (Cost, Cost) {
        let slow = Slow::join(feed);
        let (mut normal, mut beside) = Default::default();
        for _ in 0..LAPS {
            normal += feed.lap(alike);
            beside += feed.lap(&feed.fast);
        }
        slow.assert_bounded();
        slow.assert_told_of_every_loss();
        (normal, beside)
    }

    /// By the clock, which is what the others notice, and by the processor's time, which they would notice were the server what
    /// limits them. More than once only on a busy machine.
    fn fast_ones_keep_their_rate(overflow: Overflow) {
        let _feeding = FEEDING.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = Feed::new(overflow);
        let alike = Audience::join(&feed.server, "/alike", FAST + 1);
        for _ in 0..5 {
            let rounds: Vec<_> = (0..ROUNDS).map(|_| round(&feed, &alike)).collect();
            let (rate, work) = (kept(&rounds, |cost| cost.time), kept(&rounds, |cost| cost.work));
            println!(
                "{overflow:?}, flat out: {rate:.1} % of the rate kept by the clock, {work:.1} % by the processor's time"
            );
            if rate >= 95.0 && work >= 95.0 {
                return;
            }
        }
        panic!("a slow reader cost the others more than 5 % of their rate");
    }

    #[test]
    fn feed_at_its_limit_keeps_its_rate_under_disconnect() {
        fast_ones_keep_their_rate(Overflow::Disconnect);
    }

    #[test]
    fn feed_at_its_limit_keeps_its_rate_under_drop_oldest() {
        fast_ones_keep_their_rate(Overflow::DropOldest);
    }

    #[test]
    fn feed_at_its_limit_keeps_its_rate_under_drop_latest() {
        fast_ones_keep_their_rate(Overflow::DropLatest);
    }
}
