//! What happens to many endpoints at the same instant happens in the same order each time.

use std::{
    sync::{Arc, Mutex},
    thread::sleep,
};

use tokio::{io::AsyncReadExt, runtime::Builder};

use super::*;

/// How often each story is told.
const TIMES: usize = 8;

/// One log of several endpoints, in the order in which it was told.
#[derive(Clone)]
struct Log {
    network: TestNetwork,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn new(network: &TestNetwork) -> Self {
        Self { network: network.clone(), lines: Arc::default() }
    }

    fn note(&self, line: &str) {
        let line = format!("{:?} {line}", self.network.elapsed());
        self.lines.lock().unwrap().push(line);
    }

    /// Takes down all that a server, its connections and its messages tell.
    fn of_server(&self, server: &RxWsServer<WsStr>) {
        let [events, connections, items] = [(); 3].map(|()| self.clone());
        server.events().subscribe(move |event| events.note(&format!("server {event:?}")));
        server.connections().subscribe(move |connection| {
            connections.note(&format!("connection {}", connection.path()));
            let (end, path) = (connections.clone(), connection.path().clone());
            connection.log_errors().on_complete(move || end.note(&format!("{path} ended"))).subscribe(drop);
        });
        server.clone().log_errors().subscribe(move |item| items.note(&format!("server {} {}", item.tag, item.data)));
    }

    /// Takes down all that a client tells.
    fn of_client(&self, name: &str, client: &RxWsClient<WsStr>) {
        let [events, items] = [(); 2].map(|()| (self.clone(), name.to_string()));
        client.events().subscribe(move |event| events.0.note(&format!("{} {event:?}", events.1)));
        client.clone().log_errors().subscribe(move |item| items.0.note(&format!("{} {item}", items.1)));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

/// Fails with the first line that differs.
fn assert_same(log: &[String], first: &[String]) {
    let differing = log.iter().zip(first).find(|(line, first)| line != first);
    assert_eq!((differing, log.len()), (None, first.len()));
}

/// Twenty clients that hear the last of their server at the same instant, and find that out and come back together.
async fn stall() -> Vec<String> {
    let network = TestNetwork::seeded(1);
    let log = Log::new(&network);
    let builder = RxWsServer::unbound(WsStr).ping_interval(None);
    let server = network.server(ROBOT, builder).unwrap();
    log.of_server(&server);
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let builder = network.client(&format!("{ROBOT}/x"), WsStr).ping_interval(10 * SECOND);
            let builder = builder.ping_timeout(10 * SECOND).retry(RetryPolicy::fixed(SECOND).jitter(false));
            builder.connect().unwrap()
        })
        .collect();
    clients.iter().enumerate().for_each(|(n, client)| log.of_client(&format!("client {n}"), client));
    network.advance(MINUTE).await;
    server.next(TaggedData::new("/x", "to all"));
    network.advance(SECOND).await;
    network.stall(ROBOT);
    clients.iter().for_each(|client| client.next("from stalled"));
    network.advance(3 * MINUTE).await;
    network.mend(ROBOT);
    network.advance(MINUTE).await;
    server.clone().complete();
    server.closed().await;
    network.advance(3 * SECOND).await;
    clients.into_iter().for_each(RxWsClient::complete);
    network.advance(MINUTE).await;
    log.take()
}

/// Runs a story on a runtime of its own, as a test has it.
fn run<T>(story: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(story)
}

#[test]
fn clients_that_find_a_stall_together_tell_it_in_the_same_order_each_time() {
    let first = run(stall());
    assert!(first.iter().filter(|line| line.starts_with("80s client")).count() >= 20, "they find it together");
    for _ in 1..TIMES {
        assert_same(&run(stall()), &first);
    }
}

/// A group whose clients become idle together, and are opened again, and end together.
async fn idleness() -> Vec<String> {
    let network = TestNetwork::new();
    let _server = echo_on(&network);
    let log = Log::new(&network);
    let group = network.group(ROBOT, WsStr).idle_timeout(MINUTE).build().unwrap();
    let (events, items) = (log.clone(), log.clone());
    group.events().subscribe(move |event| events.note(&format!("{event:?}")));
    group.clone().log_errors().subscribe(move |item| items.note(&format!("{} {}", item.tag, item.data)));
    for round in 0..2 {
        (0..20).for_each(|n| group.next(TaggedData::new(format!("/{n}"), round.to_string())));
        network.advance(MINUTE / 2 + MINUTE * (1 - round)).await;
    }
    group.complete();
    network.advance(MINUTE).await;
    log.take()
}

/// The paths in the lines that have `part`.
fn paths_of<'a>(log: &'a [String], part: &str) -> Vec<&'a str> {
    let path = |line: &'a String| line.split('"').nth(1);
    log.iter().filter(|line| line.contains(part)).filter_map(path).collect()
}

#[test]
fn clients_of_a_group_become_idle_and_end_in_the_order_in_which_they_were_opened() {
    let log = run(idleness());
    let opened: Vec<_> = (0..20).map(|n| format!("/{n}")).collect();
    assert_eq!(paths_of(&log, "Idle"), opened);
    // The event without a path is the group's own.
    assert_eq!(paths_of(&log, "Closed"), [&opened[..], &opened, &[String::new()]].concat());
    for _ in 1..TIMES {
        assert_same(&run(idleness()), &log);
    }
}

/// A burst that the test itself causes, in pipelines that belong to no endpoint.
async fn burst() -> Vec<String> {
    let network = TestNetwork::new();
    let log = Log::new(&network);
    let subject = || Io::from_parts(SerializedSubject::<u32>::new(), IoScheduler::on(network.runtime()));
    let (one, all) = (subject(), subject());
    let (pushed, noted) = (all.clone(), log.clone());
    one.clone().subscribe(move |n| (0..1000).for_each(|m| pushed.clone().next(1000 * n + m)));
    all.subscribe(move |n| noted.note(&n.to_string()));
    for n in 1..3 {
        one.clone().next(n);
        network.advance(SECOND).await;
    }
    log.take()
}

#[test]
fn burst_that_a_test_causes_is_delivered_on_its_thread_and_at_its_time() {
    let at = |second: u32, n: u32| format!("{:?} {n}", second * SECOND);
    let expected: Vec<_> = (0..2).flat_map(|n| (0..1000).map(move |m| at(n, 1000 * (n + 1) + m))).collect();
    for _ in 0..TIMES {
        assert_same(&run(burst()), &expected);
    }
}

/// Pushes into an outbox that was full a moment ago, and whose peer has read since. The program needs so much time in between.
async fn overflow(overflow: Overflow, busy: Duration) -> (Vec<bool>, SendStats) {
    let network = TestNetwork::new();
    let builder = RxWsServer::unbound(WsStr).ping_interval(None).outbox(4, 1 << 30, overflow);
    let server = network.server(ROBOT, builder).unwrap();
    let connections = network.record(server.connections());
    let stream = network.connect(&ROBOT.parse().unwrap()).unwrap();
    let (mut peer, _) = tokio_tungstenite::client_async(ROBOT, stream).await.unwrap();
    network.advance(SECOND).await;
    let connection = connections.items().remove(0);
    let long = "long".repeat(8 * 1024);
    let push = |_| connection.send(long.as_str()).is_ok();
    let mut taken: Vec<_> = (0..20).map(push).collect();
    sleep(Duration::from_millis(20));
    taken.push(push(20));
    // All that is there, without a turn for the server.
    peer.get_mut().read_buf(&mut Vec::with_capacity(1 << 20)).await.unwrap();
    sleep(busy);
    taken.extend((21..26).map(push));
    (taken, connection.stats().sent)
}

#[test]
fn what_a_full_outbox_drops_does_not_depend_on_the_time_that_the_test_takes() {
    for policy in [Overflow::DropOldest, Overflow::DropLatest] {
        let [quick, slow] = [0, 50].map(|millis| run(overflow(policy, Duration::from_millis(millis))));
        assert_eq!(quick, slow, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_is_completed_before_it_begins_goes_nowhere() {
    let network = TestNetwork::new();
    let server = echo_on(&network);
    let log = Log::new(&network);
    log.of_server(&server);
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    log.of_client("client", &client);
    client.clone().complete();
    client.closed().await;
    network.advance(MINUTE).await;
    assert_eq!(log.take(), ["0ns client Closed(CloseReport { unsent: 0, unsent_len: 0 })"]);
}

#[tokio::test(start_paused = true)]
async fn connection_made_in_the_moment_of_the_end_is_closed_as_any_other() {
    let network = TestNetwork::new();
    let server = echo_on(&network);
    let events = network.record(server.events());
    network.delay(ROBOT, SECOND);
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    network.advance(2 * SECOND).await;
    client.complete();
    network.advance(MINUTE).await;
    let ended = events.items().into_iter().find_map(|event| match event {
        ServerEvent::Disconnected { code, error, .. } => Some((code, error.is_none())),
        _ => None,
    });
    assert_eq!(ended, Some((1000, true)), "it was told, and did not just lose its client");
}
