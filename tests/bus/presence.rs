//! Who is where, on all servers.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use super::{
    support::foreign::{close, foreign_client},
    *,
};

over_both! {
    who_is_on_a_path_is_known_on_all_servers_and_by_programs_without_one,
    who_asks_late_hears_who_is_there,
    sessions_whose_clients_are_away_are_present,
    bus_that_ends_takes_its_connections_along_at_once,
    panic_in_the_name_of_a_member_harms_nobody,
    presence_equals_the_truth_after_a_thousand_joins_leaves_and_resets,
}

/// The presence on a path, as it was emitted last.
pub(crate) struct Seen(Arc<Mutex<Presence>>);

impl Seen {
    pub(crate) fn by(bus: &RxBus<WsStr>, path: &str) -> Self {
        let seen = Arc::new(Mutex::new(Presence::default()));
        let latest = seen.clone();
        bus.presence(path).subscribe(move |presence| *latest.lock().unwrap() = presence);
        Self(seen)
    }

    fn now(&self) -> Presence {
        self.0.lock().unwrap().clone()
    }

    /// Waits for so many connections, on so many servers, of members with these names.
    pub(crate) fn until(&self, connections: u64, servers: usize, names: &[&str]) {
        let is_so = || {
            let now = self.now();
            let mut has: Vec<_> = now.members.iter().map(|member| &*member.name).collect();
            has.sort_unstable();
            now.connections == connections && now.servers.len() == servers && has == names
        };
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(
                Instant::now() < deadline,
                "{connections} connections on {servers} servers: {names:?}, instead of {:?}",
                self.now()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A server whose connections are named by their query.
pub(crate) fn server_on(bus: &RxBus<WsStr>) -> RxWsServer<WsStr> {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("chat").bus(bus);
    server.member(|connection| connection.query().map(str::to_owned)).bind().unwrap()
}

fn who_is_on_a_path_is_known_on_all_servers_and_by_programs_without_one(joint: &Joint) {
    let buses = [joint.bus(), joint.bus()];
    let servers = buses.each_ref().map(server_on);
    let seen = [&buses[0], &buses[1], &joint.bus()].map(|bus| Seen::by(bus, "/a"));
    let ali = connected(&servers[0], "/a?Ali", WsStr);
    let zoe = connected(&servers[1], "/a?Zoe", WsStr);
    // Ali has two windows, somebody has no name, and somebody is elsewhere.
    let again = connected(&servers[1], "/a?Ali", WsStr);
    let nobody = connected(&servers[0], "/a", WsStr);
    let _elsewhere = connected(&servers[0], "/b?Eve", WsStr);
    seen.iter().for_each(|seen| seen.until(4, 2, &["Ali", "Ali", "Zoe"]));
    let now = seen[2].now();
    assert_eq!(now, seen[0].now());
    assert_eq!(now.names().into_iter().collect::<Vec<_>>(), ["Ali", "Zoe"]);
    assert!(now.servers.iter().all(|server| server.starts_with("chat@")) && now.servers[0] != now.servers[1]);
    ali.complete();
    seen.iter().for_each(|seen| seen.until(3, 2, &["Ali", "Zoe"]));
    nobody.complete();
    seen.iter().for_each(|seen| seen.until(2, 1, &["Ali", "Zoe"]));
    [again, zoe].into_iter().for_each(RxWsClient::complete);
    seen.iter().for_each(|seen| seen.until(0, 0, &[]));
}

fn who_asks_late_hears_who_is_there(joint: &Joint) {
    let bus = joint.bus();
    let server = server_on(&bus);
    let _clients = ["/a?Ali", "/a?Zoe"].map(|path| connected(&server, path, WsStr));
    let late = joint.bus();
    late.wait_connected(PATIENCE).unwrap();
    let seen = Seen::by(&late, "/a");
    seen.until(2, 1, &["Ali", "Zoe"]);
    // Where it is known already, it is the first that an observer hears.
    assert_eq!(Recorder::on(late.presence("/a")).item(), seen.now());
    assert_eq!(Recorder::on(late.presence("/b")).item(), Presence::default());
}

fn sessions_whose_clients_are_away_are_present(joint: &Joint) {
    let (bus, away) = (joint.bus(), joint.bus());
    let park = Resume::new().park(Duration::from_millis(500));
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).resumable(park).bus(&bus);
    let server = builder.member(|connection| connection.path().to_string()).bind().unwrap();
    let seen = Seen::by(&away, "/a");
    let client = RxWsClient::builder(url(&server, "/a"), WsStr).resumable(Resume::new()).connect().unwrap();
    seen.until(1, 1, &["/a"]);
    let states = Recorder::on(away.presence("/a"));
    client.reconnect();
    client.wait_connected(PATIENCE).unwrap();
    server.next(TaggedData::new("/a", "back"));
    assert_eq!(Recorder::on(client.clone()).item(), "back");
    client.complete();
    seen.until(0, 0, &[]);
    // It was there all the time.
    let connections = states.items(2).into_iter().map(|presence| presence.connections);
    assert_eq!(connections.collect::<Vec<_>>(), [1, 0]);
}

fn bus_that_ends_takes_its_connections_along_at_once(joint: &Joint) {
    let (bus, other) = (joint.bus(), joint.bus());
    let server = server_on(&bus);
    let _clients = ["/a?Ali", "/a?Zoe"].map(|path| connected(&server, path, WsStr));
    let (here, there) = (Recorder::on(bus.presence("/a")), Seen::by(&other, "/a"));
    there.until(2, 1, &["Ali", "Zoe"]);
    bus.complete();
    // Sooner than a bus that is only silent.
    there.until(0, 0, &[]);
    assert!(here.to_the_end().1.is_complete());
    assert_eq!(server.stats().connections, 2);
}

fn panic_in_the_name_of_a_member_harms_nobody(joint: &Joint) {
    let bus = joint.bus();
    let name = |connection: &Connection<WsStr>| match connection.query() {
        Some("bad") => panic!("no name for this one"),
        name => name.map(str::to_owned),
    };
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(&bus).member(name).bind().unwrap();
    let events = Recorder::on(server.events());
    let seen = Seen::by(&bus, "/a");
    let _clients = ["/a?Ali", "/a?bad", "/a?Zoe"].map(|path| connected(&server, path, WsStr));
    seen.until(3, 1, &["Ali", "Zoe"]);
    events.find(|event| matches!(event, ServerEvent::SubscriberPanicked).then_some(()));
}

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn presence_equals_the_truth_after_a_thousand_joins_leaves_and_resets(joint: &Joint) {
    const PATHS: [&str; 3] = ["/a", "/b", "/c"];
    let buses = [joint.bus(), joint.bus(), joint.bus()];
    let servers = buses.each_ref().map(server_on);
    let seen = buses.each_ref().map(|bus| PATHS.map(|path| Seen::by(bus, path)));
    let (mut dice, mut open) = (Dice(7), Vec::new());
    for step in 1..=1_000 {
        if open.len() < 10 || (open.len() < 40 && dice.roll(2) == 0) {
            let (server, path) = (dice.roll(3), dice.roll(3));
            let request = format!("{}?{step:04}", PATHS[path]);
            let peer = foreign_client(servers[server].local_addr(), &request);
            open.push((path, server, format!("{step:04}"), peer));
        } else {
            let (.., peer) = open.swap_remove(dice.roll(open.len()));
            match dice.roll(2) {
                0 => close(peer, 1000),
                _ => socket2::SockRef::from(peer.get_ref()).set_linger(Some(Duration::ZERO)).unwrap(),
            }
        }
        if step % 100 == 0 {
            for (path, seen) in (0..3).flat_map(|path| seen.iter().map(move |seen| (path, &seen[path]))) {
                let here = || open.iter().filter(|(on, ..)| *on == path);
                let mut names: Vec<_> = here().map(|(_, _, name, _)| &**name).collect();
                names.sort_unstable();
                let servers: std::collections::BTreeSet<_> = here().map(|(_, server, ..)| server).collect();
                seen.until(names.len() as u64, servers.len(), &names);
            }
        }
    }
}

/// A runtime of its own, which ends without any farewell.
#[test]
#[ignore = "takes 15 s"]
fn process_that_dies_is_gone_within_fifteen_seconds() {
    let broker = LocalBroker::new();
    let other = RxBus::connect(&broker, WsStr).unwrap();
    let seen = Seen::by(&other, "/a");
    other.wait_connected(PATIENCE).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let shared = IoRuntime::from_tokio(runtime.handle().clone());
    let bus = RxBus::builder(&broker, WsStr).runtime(&shared).connect().unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&shared).bus(&bus).bind().unwrap();
    let _client = connected(&server, "/a", WsStr);
    seen.until(1, 1, &[]);
    let died = Instant::now();
    runtime.shutdown_background();
    while seen.now().connections > 0 {
        assert!(died.elapsed() < Duration::from_millis(15_500), "it is still there");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(died.elapsed() > Duration::from_secs(8), "a beat that is late is no death");
}

#[test]
#[ignore = "needs nats-server"]
fn presence_is_right_again_after_the_broker_was_killed() {
    let mut broker = NatsServer::that_goes_down();
    let bus =
        || RxBus::builder(broker.url(), WsStr).retry(RetryPolicy::fixed(Duration::from_millis(20))).connect().unwrap();
    let buses = [bus(), bus()];
    let servers = buses.each_ref().map(server_on);
    let seen = buses.each_ref().map(|bus| Seen::by(bus, "/a"));
    let mut clients = std::collections::VecDeque::new();
    for round in 0..20 {
        clients.push_back(connected(&servers[round % 2], "/a?Ali", WsStr));
        clients.push_back(connected(&servers[round % 2], "/a?Zoe", WsStr));
        broker.kill();
        let gone = clients.pop_front();
        broker.restart();
        gone.into_iter().for_each(RxWsClient::complete);
        let present = clients.len() as u64;
        for seen in &seen {
            until(&format!("{present} connections"), || seen.now().connections == present);
        }
    }
}

#[test]
#[ignore = "needs nats-server"]
fn broker_that_does_not_allow_presence_is_told_of_once_and_the_rest_goes_on() {
    let broker = NatsServer::start(
        "authorization { users: [{ user: a, password: b, permissions: {
            publish: [\"rx.>\", \"$SYS.REQ.USER.INFO\"], subscribe: [\"rx.>\", \"_INBOX.>\"] } }] }",
    );
    let bus = || RxBus::builder(broker.url(), WsStr).user_and_password("a", "b").connect().unwrap();
    let (here, there) = (bus(), bus());
    let unroutable = bus_event(&here, |event| match event {
        BusEvent::Unroutable { path, .. } if path.starts_with("rx-p.") => Some(path),
        _ => None,
    });
    let server = server_on(&here);
    let _client = connected(&server, "/a?Ali", WsStr);
    unroutable();
    let heard = Recorder::on(there.path("/a"));
    there.wait_connected(PATIENCE).unwrap();
    server.next(TaggedData::new("/a", "x"));
    assert_eq!(heard.item(), TaggedData::new("/a", "x".into()));
    // What it has itself is known all the same.
    Seen::by(&here, "/a").until(1, 1, &["Ali"]);
}
