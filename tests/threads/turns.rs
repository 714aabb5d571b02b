//! A thread that has sockets looks at them after a share of work, however much there is and whoever pushed it.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use tokio::runtime::Builder;
use tungstenite::{Message, WebSocket};

use super::*;

/// How many deliveries a thread may make between two looks at its sockets, at the utmost: a few turns.
const FEW_TURNS: usize = 4 * 256;

/// At which delivery a message is put into a socket of the thread.
const SENT_AT: usize = 500;

/// A server whose thread delivers something else as well, and a client of it.
struct Busy {
    runtime: IoRuntime,
    server: RxWsServer<WsStr>,
    client: Mutex<WebSocket<TcpStream>>,
    delivered: AtomicUsize,
    heard_at: Mutex<Receiver<usize>>,
}

/// The kinds of runtime, each with one thread.
pub(crate) fn runtimes() -> [IoRuntime; 4] {
    let (single, several) = (Builder::new_current_thread(), Builder::new_multi_thread());
    let foreign = |mut builder: Builder| {
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        IoRuntime::from_tokio(handle)
    };
    let [own, threads] = [IoRuntime::new("busy").unwrap(), IoRuntime::with_threads("busy", 1).unwrap()];
    [own, threads, foreign(single), foreign(several)]
}

/// A peer that is not ours.
pub(crate) fn peer_of(server: &RxWsServer<WsStr>) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.local_addr()).unwrap();
    tungstenite::client::client(format!("ws://{}/", server.local_addr()), stream).unwrap().0
}

impl Busy {
    fn new() -> Arc<Self> {
        Self::on(IoRuntime::new("busy").unwrap())
    }

    fn on(runtime: IoRuntime) -> Arc<Self> {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        let client = Mutex::new(peer_of(&server));
        let (say, heard_at) = mpsc::channel();
        let busy =
            Arc::new(Self { runtime, server, client, delivered: AtomicUsize::new(0), heard_at: Mutex::new(heard_at) });
        let of = Arc::downgrade(&busy);
        busy.server.clone().log_errors().subscribe(move |_| {
            let delivered = of.upgrade().map_or(0, |busy| busy.delivered.load(SeqCst));
            say.send(delivered).unwrap_or(());
        });
        busy
    }

    fn scheduler(&self) -> IoScheduler {
        IoScheduler::on(&self.runtime)
    }

    /// Observes one item, on the server's thread.
    fn observe(&self) {
        if self.delivered.fetch_add(1, SeqCst) + 1 == SENT_AT {
            self.send();
        }
    }

    /// Puts a message into the server's socket.
    fn send(&self) {
        self.client.lock().unwrap().send(Message::text("here")).unwrap();
    }

    /// Checks that the message was heard a few turns after it was put into the socket.
    fn check(&self) {
        let waited = hear(&self.heard_at.lock().unwrap()) - SENT_AT;
        assert!(waited <= FEW_TURNS, "it was heard {waited} deliveries later");
    }
}

#[test]
fn message_beside_a_delivery_of_many_items_is_heard_within_a_few_turns() {
    for busy in runtimes().map(Busy::on) {
        let (source, observer) = (Numbers::new(), busy.clone());
        let held = hold_io(&busy.scheduler());
        Io::new(source.clone()).deliver_on(&busy.scheduler()).subscribe(move |_| observer.observe());
        (0..20_000).for_each(|n| source.next(n));
        held.send(()).unwrap();
        busy.check();
    }
}

#[test]
fn message_beside_many_deliveries_is_heard_within_a_few_turns() {
    let (busy, source) = (Busy::new(), Numbers::new());
    let held = hold_io(&busy.scheduler());
    for _ in 0..50 {
        let observer = busy.clone();
        Io::new(source.clone()).deliver_on(&busy.scheduler()).subscribe(move |_| observer.observe());
    }
    (0..400).for_each(|n| source.next(n));
    held.send(()).unwrap();
    busy.check();
}

#[test]
fn message_beside_many_tasks_is_heard_within_a_few_turns() {
    let (busy, source) = (Busy::new(), Numbers::new());
    let observer = busy.clone();
    let held = hold_io(&busy.scheduler());
    Io::new(source.clone()).observe_on(busy.scheduler()).subscribe(move |_| observer.observe());
    (0..4_000).for_each(|n| source.next(n));
    held.send(()).unwrap();
    busy.check();
}

#[test]
fn message_beside_a_burst_of_a_callback_is_heard_within_a_few_turns() {
    for busy in runtimes().map(Busy::on) {
        let (burst, observer) = (Numbers::new(), busy.clone());
        Io::new(burst.clone()).subscribe(move |_| observer.observe());
        busy.scheduler().schedule(async move { (0..20_000).for_each(|n| burst.next(n)) }, None);
        busy.check();
    }
}

#[test]
fn message_beside_callbacks_that_push_to_each_other_without_end_is_heard_within_a_few_turns() {
    let (busy, ping, pong) = (Busy::new(), Numbers::new(), Numbers::new());
    let (observer, back) = (busy.clone(), ping.clone());
    Io::new(ping.clone()).take(20_000).merge_into(&pong);
    Io::new(pong).subscribe(move |n| {
        observer.observe();
        back.next(n);
    });
    busy.scheduler().schedule(async move { ping.next(0) }, None);
    busy.check();
}

/// A burst of messages of one peer, each of which makes the program push many items into a subject of its own.
#[test]
fn message_beside_callbacks_that_each_push_many_is_heard_within_a_few_turns() {
    for busy in runtimes().map(Busy::on) {
        let (items, observer) = (Numbers::new(), busy.clone());
        Io::new(items.clone()).subscribe(move |_| observer.observe());
        let greedy = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&busy.runtime).bind().unwrap();
        greedy.clone().log_errors().subscribe(move |_| (0..400).for_each(|n| items.next(n)));
        let mut peer = peer_of(&greedy);
        (0..100).for_each(|_| peer.write(Message::text("")).unwrap());
        peer.flush().unwrap();
        busy.check();
    }
}

/// How many items more than its observer has heard a subject was given, at the utmost.
#[derive(Default)]
pub(crate) struct Backlog {
    pushed: AtomicUsize,
    heard: AtomicUsize,
    longest: AtomicUsize,
}

impl Backlog {
    /// A subject whose backlog is counted.
    fn of_subject() -> (Arc<Self>, Numbers) {
        Self::of_slow_subject(Duration::ZERO)
    }

    /// As [`of_subject`](Self::of_subject). Each delivery takes `time`.
    pub(crate) fn of_slow_subject(time: Duration) -> (Arc<Self>, Numbers) {
        let (backlog, subject) = (Arc::<Self>::default(), Numbers::new());
        let counted = backlog.clone();
        Io::new(subject.clone()).subscribe(move |_| {
            let began = Instant::now();
            while began.elapsed() < time {}
            counted.heard.fetch_add(1, SeqCst);
        });
        (backlog, subject)
    }

    pub(crate) fn push(&self, subject: &Numbers, items: usize) {
        (0..items).for_each(|n| subject.next(n));
        let pushed = self.pushed.fetch_add(items, SeqCst) + items;
        self.longest.fetch_max(pushed.saturating_sub(self.heard.load(SeqCst)), SeqCst);
    }

    fn wait_for(&self, items: usize) {
        let began = Instant::now();
        while self.heard.load(SeqCst) < items {
            assert!(began.elapsed() < LONG_PATIENCE, "{} of {items} are heard", self.heard.load(SeqCst));
            thread::yield_now();
        }
    }

    /// Waits until so many items are heard, and checks that they were not kept waiting.
    pub(crate) fn check(&self, items: usize) {
        self.wait_for(items);
        let longest = self.longest.load(SeqCst);
        assert!(longest < items / 2, "{longest} of {items} items were waiting");
    }
}

#[test]
fn what_callbacks_of_a_fast_peer_push_does_not_pile_up() {
    let two = IoRuntime::with_threads("two", 2).unwrap();
    for runtime in runtimes().into_iter().chain([two]) {
        for items in [10, 2_000] {
            let (backlog, subject) = Backlog::of_subject();
            let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
            let pushing = backlog.clone();
            server.clone().log_errors().subscribe(move |_| pushing.push(&subject, items));
            let messages = 60_000 / items;
            let mut peer = peer_of(&server);
            (0..messages).for_each(|_| peer.write(Message::text("")).unwrap());
            peer.flush().unwrap();
            backlog.check(messages * items);
        }
    }
}

#[test]
fn what_the_observer_of_a_delivery_pushes_does_not_pile_up() {
    for runtime in runtimes() {
        for items in [10, 2_000] {
            let (backlog, subject) = Backlog::of_subject();
            let (pushing, source) = (backlog.clone(), Numbers::new());
            let scheduler = IoScheduler::on(&runtime);
            Io::new(source.clone()).deliver_on(&scheduler).subscribe(move |_| pushing.push(&subject, items));
            (0..60_000 / items).for_each(|n| source.next(n));
            backlog.check(60_000);
        }
    }
}

/// A subject whose observer pushes so many items for each of its own into the one that is returned.
fn chained(subject: Numbers, backlog: &Arc<Backlog>, items: usize) -> Numbers {
    let (first, pushing) = (Numbers::new(), backlog.clone());
    Io::new(first.clone()).subscribe(move |_| pushing.push(&subject, items));
    first
}

#[test]
fn messages_whose_items_go_through_two_subjects_do_not_wait_for_anything() {
    let (backlog, subject) = Backlog::of_subject();
    let first = chained(subject, &backlog, 20);
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.clone().log_errors().subscribe(move |_| (0..300).for_each(|n| first.next(n)));
    let mut peer = peer_of(&server);
    // Each waited for a second once.
    for message in 1..=100 {
        peer.send(Message::text("")).unwrap();
        backlog.wait_for(message * 300 * 20);
    }
}

#[test]
fn what_callbacks_of_refused_peers_push_does_not_pile_up() {
    const PEERS: usize = 200;
    let (backlog, subject) = Backlog::of_subject();
    let (pushing, runtime) = (backlog.clone(), IoRuntime::new("refusing").unwrap());
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
    server.events().subscribe(move |_| pushing.push(&subject, 1_000));
    // All are there before the thread looks.
    let held = hold_io(&IoScheduler::on(&runtime));
    let peers = [(); PEERS].map(|()| {
        let mut peer = TcpStream::connect(server.local_addr()).unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        peer
    });
    held.send(()).unwrap();
    for mut peer in peers {
        peer.read_to_end(&mut Vec::new()).unwrap();
    }
    let longest = backlog.longest.load(SeqCst);
    // Each of them makes its deliveries while the others come.
    assert!(longest < PEERS * 1_000 * 3 / 4, "{longest} items were waiting");
}

#[test]
fn server_ends_in_time_though_subscribers_of_its_events_are_behind() {
    let (subject, (say, heard)) = (Numbers::new(), mpsc::channel());
    Io::new(subject.clone()).subscribe(|_| thread::sleep(Duration::from_millis(1)));
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    // All of them take half a minute.
    server.events().subscribe(move |_| {
        (0..30_000).for_each(|n| subject.next(n));
        say.send(()).unwrap_or(());
    });
    let mut refused = TcpStream::connect(server.local_addr()).unwrap();
    refused.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    hear(&heard);
    server.clone().complete();
    assert!(server.wait_closed(Duration::from_secs(15)).is_ok());
}

#[test]
fn items_of_a_delivery_that_go_through_two_subjects_do_not_pile_up() {
    for runtime in runtimes() {
        let (backlog, subject) = Backlog::of_subject();
        let (first, source) = (chained(subject, &backlog, 20), Numbers::new());
        let delivered = Io::new(source.clone()).deliver_on(&IoScheduler::on(&runtime));
        delivered.subscribe(move |_| (0..1_000).for_each(|n| first.next(n)));
        (0..30).for_each(|n| source.next(n));
        backlog.check(30 * 1_000 * 20);
    }
}

/// A subject whose emitting thread is in a callback until told, while more items wait than a task may be ahead.
pub(crate) fn stuck_subject() -> (Numbers, Sender<()>, thread::JoinHandle<()>) {
    let (subject, (begin, begun), (let_go, told)) = (Numbers::new(), mpsc::channel(), mpsc::channel::<()>());
    Io::new(subject.clone()).subscribe(move |n| {
        if n == 0 {
            begin.send(()).unwrap();
            told.recv().unwrap_or(());
        }
    });
    let emitting = subject.clone();
    let emitting = thread::spawn(move || emitting.next(0));
    hear(&begun);
    (1..2_000).for_each(|n| subject.next(n));
    (subject, let_go, emitting)
}

#[test]
fn callback_that_blocks_does_not_hold_up_those_who_push_to_it() {
    for runtime in runtimes() {
        let (subject, let_go, emitting) = stuck_subject();
        let (source, taken, into) = (Numbers::new(), Backlog::default(), subject.clone());
        let taken = Arc::new(taken);
        let (by_delivery, by_connection) = (taken.clone(), taken.clone());
        Io::new(source.clone()).deliver_on(&IoScheduler::on(&runtime)).subscribe(move |n| {
            into.next(n + 1);
            by_delivery.heard.fetch_add(1, SeqCst);
        });
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        server.clone().log_errors().subscribe(move |_| {
            subject.next(1);
            by_connection.heard.fetch_add(1, SeqCst);
        });
        let mut peer = peer_of(&server);
        for n in 0..1_000 {
            source.next(n);
            peer.write(Message::text("")).unwrap();
        }
        peer.flush().unwrap();
        taken.wait_for(2_000);
        let_go.send(()).unwrap();
        emitting.join().unwrap();
    }
}

/// Two threads push, so that the one who emits always finds another item.
#[test]
fn what_an_observer_pushes_does_not_pile_up_behind_a_source_that_never_rests() {
    let ((backlog, subject), source) = (Backlog::of_subject(), Numbers::new());
    let pushing = backlog.clone();
    Io::new(source.clone()).subscribe(move |_| {
        pushing.push(&subject, 1);
        thread::yield_now();
    });
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..30_000).for_each(|n| source.next(n)));
        }
    });
    backlog.check(90_000);
}

#[test]
fn item_of_a_runtime_does_not_wait_for_a_callback_that_blocks_another_one_that_pushed_before() {
    let ((backlog, subject), blocked) = (Backlog::of_subject(), IoRuntime::new("blocked").unwrap());
    let free = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let held = hold_io(&IoScheduler::on(&blocked));
    let (pushing, into) = (backlog.clone(), subject.clone());
    IoScheduler::on(&blocked).schedule(async move { pushing.push(&into, 1_000) }, None);
    let ((begin, begun), (let_go, told)) = (mpsc::channel(), mpsc::channel::<()>());
    let block = async move {
        begin.send(()).unwrap();
        told.recv_timeout(LONG_PATIENCE).unwrap_or(());
    };
    // It begins before what the other one leaves can all be delivered.
    IoScheduler::on(&blocked).schedule(block, None);
    held.send(()).unwrap();
    hear(&begun);
    let pushing = backlog.clone();
    free.spawn(async move { pushing.push(&subject, 1) });
    backlog.wait_for(1_001);
    let_go.send(()).unwrap();
}

/// Keeps the scheduler's thread in a task until told.
fn hold_io(scheduler: &IoScheduler) -> Sender<()> {
    let (let_go, told) = mpsc::channel();
    scheduler.schedule(async move { told.recv_timeout(LONG_PATIENCE).unwrap_or(()) }, None);
    let_go
}

/// A feed that is ahead of its observer whoever emits: two threads push, and the observer waits for an item to come.
struct Endless {
    feed: Numbers,
    /// How many items certainly wait or are delivered.
    pushed: AtomicUsize,
    over: AtomicBool,
}

impl Endless {
    fn new() -> Arc<Self> {
        Arc::new(Self { feed: Numbers::new(), pushed: AtomicUsize::new(0), over: AtomicBool::new(false) })
    }

    /// Pushes until it is over, at most a thousand items ahead of what is `delivered`.
    fn push(&self, delivered: &AtomicUsize) {
        while !self.over.load(SeqCst) {
            if self.pushed.load(SeqCst) < delivered.load(SeqCst) + 1_000 {
                self.feed.next(0);
                self.pushed.fetch_add(1, SeqCst);
            }
            thread::yield_now();
        }
    }

    /// Waits until more was pushed than is `delivered`, so that the one who emits always finds another item.
    fn wait_for_more(&self, delivered: usize) {
        while self.pushed.load(SeqCst) <= delivered && !self.over.load(SeqCst) {
            thread::yield_now();
        }
    }
}

#[test]
fn callback_that_pushes_into_a_feed_without_end_is_not_caught_by_it() {
    let (busy, endless) = (Busy::new(), Endless::new());
    let (begin, begun) = mpsc::channel();
    let (observer, feed) = (busy.clone(), endless.clone());
    Io::new(endless.feed.clone()).subscribe(move |_| {
        begin.send(()).unwrap_or(());
        feed.wait_for_more(observer.delivered.fetch_add(1, SeqCst) + 1);
    });
    // The server's thread emits when the feed begins.
    let feed = endless.clone();
    endless.pushed.fetch_add(1, SeqCst);
    busy.scheduler().schedule(async move { feed.feed.next(0) }, None);
    hear(&begun);
    thread::scope(|scope| {
        (0..2).for_each(|_| _ = scope.spawn(|| endless.push(&busy.delivered)));
        busy.send();
        let heard = busy.heard_at.lock().unwrap().recv_timeout(LONG_PATIENCE);
        endless.over.store(true, SeqCst);
        assert!(heard.is_ok(), "the server's thread is caught");
    });
}
