//! Brokers that die, stand still, or are not there.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use super::{sums::Sums, *};

#[test]
#[ignore = "needs nats-server"]
fn heard_and_announced_are_all_that_was_sent_to_a_broker_killed_50_times() {
    let mut server = NatsServer::that_goes_down();
    let retry = || RetryPolicy::fixed(Duration::from_millis(20));
    let [here, there] = [0, 1].map(|_| RxBus::builder(server.url(), WsStr).retry(retry()).connect().unwrap());
    let paths = ["/a", "/b"];
    let sums = paths.map(|path| Sums::on(&there, path));
    there.wait_connected(PATIENCE).unwrap();
    let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let push =
        |n: u64| paths.iter().for_each(|path| here.send(TaggedData::new(*path, WsText::from(n.to_string()))).unwrap());
    // As fast as a debug build on a busy machine, or the outbox would be full after some outages.
    let waiting = || here.stats().sent.queued.messages;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                if waiting() < 20_000 {
                    (0..20).for_each(|_| push(sent.fetch_add(1, Relaxed) + 1));
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        until("the first message", || sums.iter().all(|sums| sums.total() > 0));
        for _ in 0..50 {
            let (links, received) = ([&here, &there].map(|bus| bus.stats().reconnects), sums[0].received.load(Relaxed));
            server.kill();
            server.restart();
            until("both links", || [&here, &there].map(|bus| bus.stats().reconnects) > links);
            [&here, &there].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
            until("more messages", || sums[0].received.load(Relaxed) > received);
        }
        is_over.store(true, Relaxed);
    });
    // A beat tells of the last ones, if they are missing.
    until("all sums", || sums.iter().all(|sums| sums.total() == sent.load(Relaxed)));
    assert_eq!(here.stats().sent.dropped.total().messages, 0);
}

/// With the default options each bus comes back at a time of its own.
#[test]
#[ignore = "needs nats-server"]
fn what_was_pushed_while_the_broker_was_away_reaches_all_once_it_is_back() {
    let mut server = NatsServer::that_goes_down();
    let buses = [0; 4].map(|_| RxBus::connect(server.url(), WsStr).unwrap());
    let sums = buses[1..].iter().map(|bus| Sums::on(bus, "/a")).collect::<Vec<_>>();
    let push = |n: u64| buses[0].send(TaggedData::new("/a", WsText::from(n.to_string()))).unwrap();
    buses.iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    push(1);
    until("the first message", || sums.iter().all(|sums| sums.total() == 1));
    server.kill();
    for n in 2..=1_000 {
        push(n);
        thread::sleep(Duration::from_millis(1));
    }
    server.restart();
    until("the others", || sums.iter().all(|sums| sums.total() == 1_000));
    assert!(sums.iter().all(|sums| sums.missed.load(Relaxed) == 0));
}

/// The library would connect again by itself: the client of a link must end with it.
#[test]
#[ignore = "needs nats-server"]
fn nothing_is_left_of_links_that_are_gone() {
    let mut server = NatsServer::that_goes_down();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (shared, metrics) = (IoRuntime::from_tokio(runtime.handle().clone()), runtime.handle().metrics());
    let retry = RetryPolicy::fixed(Duration::from_millis(20));
    let bus = RxBus::builder(server.url(), WsStr).retry(retry).runtime(&shared).connect().unwrap();
    let _heard = Recorder::on(bus.clone());
    bus.wait_connected(PATIENCE).unwrap();
    let tasks = metrics.num_alive_tasks();
    for links in 1..=5 {
        server.kill();
        server.restart();
        until("a new link", || bus.stats().reconnects == links);
        bus.wait_connected(PATIENCE).unwrap();
    }
    until("the end of the old ones", || metrics.num_alive_tasks() <= tasks);
    assert_eq!(server.subscriptions(), ["rx.>"]);
    bus.clone().complete();
    bus.wait_closed(PATIENCE).unwrap();
    until("the end of all", || metrics.num_alive_tasks() == 0);
}

#[test]
#[ignore = "needs nats-server"]
fn broker_that_stands_still_costs_bounded_memory_and_loses_nothing_that_was_accepted() {
    const ROOM: usize = 30_000;
    let server = NatsServer::start("");
    let here = RxBus::builder(server.url(), WsStr).outbox(ROOM, 64 << 20, Overflow::DropLatest).connect().unwrap();
    let there = RxBus::connect(server.url(), WsStr).unwrap();
    let heard = Recorder::on(there.path("/a"));
    [&here, &there].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    server.signal("-STOP");
    let local = Recorder::on(here.path("/a"));
    let payload = "x".repeat(1_000);
    let item = || TaggedData::new("/a", WsText::from(payload.as_str()));
    let accepted = (0..ROOM + 1_000).filter(|_| here.send(item()).is_ok()).count();
    assert_eq!((accepted, here.stats().sent.dropped.overflow.messages), (ROOM, 1_000));
    assert_eq!(local.items(ROOM + 1_000).len(), ROOM + 1_000, "here all is heard");
    server.signal("-CONT");
    assert_eq!(heard.items(ROOM).len(), ROOM);
    until("confirmation", || here.stats().sent.queued.messages == 0);
}

/// For half a minute, in which its link is given up and no other is made.
#[test]
#[ignore = "needs nats-server"]
fn broker_that_stands_still_for_long_is_left_and_found_again_and_the_sums_are_exact() {
    const STANDING: Duration = Duration::from_secs(30);
    const ROOM: u64 = 5_000;
    let server = NatsServer::start("");
    let bus = || RxBus::builder(server.url(), WsStr).retry(RetryPolicy::fixed(Duration::from_millis(50)));
    let here = bus().outbox(ROOM as usize, 64 << 20, Overflow::DropLatest).connect().unwrap();
    let there = bus().connect().unwrap();
    // Before anybody else subscribes to events, so that none has passed.
    let courses = [&here, &there].map(course);
    let (sums, own) = (Sums::on(&there, "/a"), Sums::on(&here, "/a"));
    [&here, &there].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    let (mut pushed, mut accepted) = (0, 0);
    let mut push = || {
        pushed += 1;
        accepted += u64::from(here.send(TaggedData::new("/a", WsText::from(format!("{pushed:01000}")))).is_ok());
        let queued = here.stats().sent.queued;
        assert!(queued.messages <= ROOM && queued.len <= ROOM * 1_000, "{queued:?}");
    };
    push();
    until("the first message", || sums.total() == 1);
    server.signal("-STOP");
    let since = Instant::now();
    while since.elapsed() < STANDING {
        (0..10).for_each(|_| push());
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(here.stats().sent.queued.messages, ROOM);
    server.signal("-CONT");
    [&here, &there].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    push();
    until("all sums", || sums.total() == accepted);
    until("confirmation", || here.stats().sent.queued.messages == 0);
    assert_eq!(here.stats().sent.dropped.overflow.messages, pushed - accepted);
    assert_eq!(own.total(), pushed, "here all is heard");
    for course in courses {
        let told = course.lock().unwrap().clone();
        assert_eq!(told, ["connected", "disconnected", "connected"]);
    }
}

/// What the links of a bus have come to.
fn course(bus: &RxBus<WsStr>) -> Arc<Mutex<Vec<&'static str>>> {
    let course = Arc::<Mutex<Vec<_>>>::default();
    let noting = course.clone();
    bus.events().subscribe(move |event| match event {
        BusEvent::Connected { .. } => noting.lock().unwrap().push("connected"),
        BusEvent::Disconnected { .. } => noting.lock().unwrap().push("disconnected"),
        _ => {}
    });
    course
}

#[test]
#[ignore = "needs nats-server"]
fn server_serves_its_clients_before_there_is_a_broker_and_all_hear_once_there_is() {
    let mut broker = NatsServer::that_goes_down();
    broker.kill();
    let bus =
        || RxBus::builder(broker.url(), WsStr).retry(RetryPolicy::fixed(Duration::from_millis(50))).connect().unwrap();
    let (here, there) = (bus(), bus());
    let failed = bus_event(&here, |event| match event {
        BusEvent::ConnectFailed { attempt: 1, error: WsError::Broker { server, .. } } => Some(server),
        _ => None,
    });
    let servers = [&here, &there].map(|bus| RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(bus).bind().unwrap());
    let heard = servers.each_ref().map(|server| Recorder::on(connected(server, "/a", WsStr)));
    assert_eq!(failed(), broker.url().strip_prefix("nats://").unwrap());
    servers[0].next(TaggedData::new("/a", "local"));
    assert_eq!(heard[0].item(), "local");
    broker.restart();
    there.wait_connected(PATIENCE).unwrap();
    here.wait_connected(PATIENCE).unwrap();
    servers[0].next(TaggedData::new("/a", "all"));
    // What was pushed before waited for the broker; whether the other had subscribed by then is chance.
    heard[1].find(|text| (text == "all").then_some(()));
}

#[test]
#[ignore = "needs nats-server"]
fn interest_follows_the_clients() {
    let broker = NatsServer::start("");
    let bus = RxBus::connect(broker.url(), WsStr).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(&bus).bind().unwrap();
    let subjects = |subjects: &[&str]| until(&format!("{subjects:?}"), || broker.subscriptions() == subjects);
    bus.wait_connected(PATIENCE).unwrap();
    // Others may ask it who is here.
    subjects(&["rx-p.ask"]);
    let clients = ["/a", "/a", "/b/c"].map(|path| connected(&server, path, WsStr));
    subjects(&["rx-p.ask", "rx.a", "rx.b.c"]);
    clients[0].clone().complete();
    let all = bus.clone().log_errors().subscribe(|_| {});
    subjects(&["rx-p.ask", "rx.>", "rx.a", "rx.b.c"]);
    all.unsubscribe();
    clients.into_iter().for_each(RxWsClient::complete);
    // Ten seconds after the last.
    thread::sleep(Duration::from_secs(5));
    subjects(&["rx-p.ask", "rx.>", "rx.a", "rx.b.c"]);
    subjects(&["rx-p.ask"]);
}

/// The library has room for 65,536 messages of a subscription, and drops the others without a word.
#[test]
#[ignore = "needs nats-server"]
fn subscriber_that_blocks_lags_and_knows_exactly_what_it_has_missed() {
    const MESSAGES: u64 = 100_000;
    let server = NatsServer::start("");
    let here = RxBus::connect(server.url(), WsStr).unwrap();
    // Another thread takes what comes from the network meanwhile.
    let runtime = IoRuntime::with_threads("there", 2).unwrap();
    let there = RxBus::builder(server.url(), WsStr).runtime(&runtime).connect().unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let gate = there.path("/a").log_errors().subscribe(move |_| _ = wait.recv());
    let sums = Sums::on(&there, "/a");
    let lagging = bus_event(&there, |event| match event {
        BusEvent::Lagging { queued } => Some(queued),
        _ => None,
    });
    there.wait_connected(PATIENCE).unwrap();
    let push = |n: u64| {
        until("room", || here.stats().sent.queued.messages < 60_000);
        here.send(TaggedData::new("/a", WsText::from(n.to_string()))).unwrap();
    };
    (1..=MESSAGES).for_each(push);
    until("confirmation", || here.stats().sent.queued.messages == 0);
    drop(go);
    gate.unsubscribe();
    assert!(lagging() > 32_768);
    until("all sums", || sums.total() == MESSAGES);
}

/// The broker ends the link of a process that does not read.
#[test]
#[ignore = "needs nats-server"]
fn process_that_is_cut_off_for_being_slow_comes_back_and_knows_exactly_what_it_has_missed() {
    // More than the buffers of the operating system hold.
    const MESSAGES: u64 = 30_000;
    let server = NatsServer::start("max_pending: 1MB");
    let retry = || RetryPolicy::fixed(Duration::from_millis(20));
    let here = RxBus::builder(server.url(), WsStr).retry(retry()).connect().unwrap();
    let there = RxBus::builder(server.url(), WsStr).retry(retry()).connect().unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    // The thread that is to read.
    let gate = there.path("/a").log_errors().subscribe(move |_| _ = wait.recv());
    let course = course(&there);
    let sums = Sums::on(&there, "/a");
    [&here, &there].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    let push = |n: u64| here.send(TaggedData::new("/a", WsText::from(format!("{n:01000}")))).unwrap();
    (1..MESSAGES).for_each(push);
    until("confirmation", || here.stats().sent.queued.messages == 0);
    drop(go);
    gate.unsubscribe();
    until("a new link", || there.stats().reconnects == 1);
    there.wait_connected(PATIENCE).unwrap();
    push(MESSAGES);
    until("all sums", || sums.total() == MESSAGES);
    assert_ne!(sums.missed.load(Relaxed), 0);
    assert_eq!(*course.lock().unwrap(), ["connected", "disconnected", "connected"]);
}
