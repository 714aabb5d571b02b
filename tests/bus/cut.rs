//! Links that break, on a network between a process and its broker.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    proxy::{Direction, End, Proxy},
    sums::Sums,
    *,
};

const CUTS: usize = 100;

/// Two buses, one of which is behind a proxy.
struct Cut {
    _broker: NatsServer,
    proxy: Proxy,
    behind: RxBus<WsStr>,
    other: RxBus<WsStr>,
}

impl Cut {
    fn start() -> Self {
        let broker = NatsServer::start("");
        let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], broker.port)));
        let bus = |url: String| {
            RxBus::builder(url, WsStr).retry(RetryPolicy::fixed(Duration::from_millis(5))).connect().unwrap()
        };
        let behind = bus(proxy.url("").replace("ws://", "nats://"));
        let other = bus(broker.url());
        Self { _broker: broker, proxy, behind, other }
    }

    /// Pushes numbers while the link behind the proxy is cut again and again. Returns how many.
    fn push_and_cut(&self, from: &RxBus<WsStr>, direction: Direction, sums: &Sums) -> u64 {
        // The first number that a receiver hears tells it where to begin.
        let mut sent = 1;
        from.next(TaggedData::new("/a", "1"));
        until("the first", || sums.total() == 1);
        for cut in 0..CUTS {
            let links = self.behind.stats().reconnects;
            let end = if cut % 2 == 0 { End::Reset } else { End::Fin };
            // From the middle of the first message on, to behind the last one.
            self.proxy.cut_after(direction, 1 + cut * 131, end);
            while self.behind.stats().reconnects == links {
                for _ in 0..100 {
                    sent += 1;
                    from.send(TaggedData::new("/a", WsText::from(sent.to_string()))).unwrap();
                }
                until("a new link, or room", || {
                    self.behind.stats().reconnects > links || from.stats().sent.queued.messages < 1_000
                });
            }
            self.behind.wait_connected(PATIENCE).unwrap();
        }
        until("confirmation", || from.stats().sent.queued.messages == 0);
        sent
    }
}

#[test]
#[ignore = "needs nats-server"]
fn publisher_whose_link_is_cut_at_any_byte_loses_and_doubles_nothing() {
    let cut = Cut::start();
    let sums = Sums::on(&cut.other, "/a");
    [&cut.behind, &cut.other].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    let sent = cut.push_and_cut(&cut.behind, Direction::Up, &sums);
    until("all of them", || sums.total() == sent);
    assert_eq!(sums.missed.load(Relaxed), 0);
}

#[test]
#[ignore = "needs nats-server"]
fn receiver_whose_link_is_cut_at_any_byte_knows_exactly_what_it_has_missed() {
    let cut = Cut::start();
    let sums = Sums::on(&cut.behind, "/a");
    [&cut.behind, &cut.other].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    let sent = cut.push_and_cut(&cut.other, Direction::Down, &sums);
    until("all sums", || sums.total() == sent);
}

/// What a client hears: numbers, of each of two servers.
type Numbers = Arc<Mutex<[Vec<u64>; 2]>>;

fn numbers_on(client: RxWsClient<WsStr>) -> Numbers {
    let numbers = Numbers::default();
    let noting = numbers.clone();
    client.log_errors().subscribe(move |text| {
        let (server, number) = text.split_once(' ').unwrap();
        noting.lock().unwrap()[server.parse::<usize>().unwrap()].push(number.parse().unwrap());
    });
    numbers
}

/// Servers on both buses, the network between which is `parted` and then `joined` again, and a client of each.
fn clients_of_servers_that_lose_each_other(parted: impl FnOnce(&Proxy), joined: impl FnOnce(&Proxy)) {
    let cut = Cut::start();
    let buses = [&cut.behind, &cut.other];
    let servers = buses.map(|bus| RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(bus).bind().unwrap());
    let heard = servers.each_ref().map(|server| numbers_on(connected(server, "/a", WsStr)));
    let missed = buses.map(missed_by);
    let push = |from: u64, to: u64| {
        for (at, server) in servers.iter().enumerate() {
            (from..=to).for_each(|n| server.send(TaggedData::new("/a", WsText::from(format!("{at} {n}")))).unwrap());
        }
    };
    let hears = |client: usize, server: usize, numbers: &[u64]| heard[client].lock().unwrap()[server] == numbers;
    let all = |to: u64| (1..=to).collect::<Vec<_>>();
    buses.into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    push(1, 1);
    until("the first of both", || {
        [0, 1].iter().all(|client| [0, 1].iter().all(|server| hears(*client, *server, &[1])))
    });
    until("confirmation", || buses.iter().all(|bus| bus.stats().sent.queued.messages == 0));
    let ended = bus_event(&cut.behind, |event| matches!(event, BusEvent::Disconnected { .. }).then_some(()));
    parted(&cut.proxy);
    push(2, 1_000);
    until("their own", || hears(0, 0, &all(1_000)) && hears(1, 1, &all(1_000)));
    ended();
    until("confirmation of the other's", || cut.other.stats().sent.queued.messages == 0);
    assert!(hears(0, 1, &[1]) && hears(1, 0, &[1]), "and nothing else");
    joined(&cut.proxy);
    cut.behind.wait_connected(PATIENCE).unwrap();
    push(1_001, 1_001);
    until("what was kept for the other", || hears(1, 0, &all(1_001)));
    until("what comes behind the gap", || hears(0, 1, &[1, 1_001]));
    assert_eq!(missed.map(|missed| missed.load(Relaxed)), [999, 0]);
}

fn missed_by(bus: &RxBus<WsStr>) -> Arc<AtomicU64> {
    let missed = Arc::<AtomicU64>::default();
    let counting = missed.clone();
    bus.events().subscribe(move |event| {
        if let BusEvent::Gap { missed, .. } = event {
            counting.fetch_add(missed, Relaxed);
        }
    });
    missed
}

#[test]
#[ignore = "needs nats-server"]
fn server_that_cannot_reach_the_broker_tells_its_own_clients_and_the_others_later() {
    let parted = |proxy: &Proxy| {
        proxy.refuse(true);
        proxy.end(End::Reset);
    };
    clients_of_servers_that_lose_each_other(parted, |proxy| proxy.refuse(false));
}

#[test]
#[ignore = "needs nats-server"]
fn server_in_a_silent_network_tells_its_own_clients_and_the_others_later() {
    let parted = |proxy: &Proxy| {
        proxy.silence(true);
        // 5 s until the bus asks, and 10 s until it gives up its link.
        std::thread::sleep(Duration::from_secs(10));
    };
    clients_of_servers_that_lose_each_other(parted, |proxy| proxy.silence(false));
}

/// A network that passes nothing on and closes nothing.
#[test]
#[ignore = "needs nats-server"]
fn silent_network_is_noticed_and_nothing_is_lost_on_the_way_to_the_broker() {
    let cut = Cut::start();
    let heard = Recorder::on(cut.other.path("/a"));
    [&cut.behind, &cut.other].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    let lost = bus_event(&cut.behind, |event| match event {
        BusEvent::Disconnected { error: Some(error), unconfirmed, .. } => Some((chain(&error), unconfirmed)),
        _ => None,
    });
    cut.proxy.silence(true);
    cut.behind.next(TaggedData::new("/a", "x"));
    // 10 s and a second.
    std::thread::sleep(Duration::from_secs(6));
    let (error, unconfirmed) = lost();
    assert!(error.ends_with("it has confirmed nothing for 10s"), "{error}");
    assert_eq!(unconfirmed, 1);
    cut.proxy.silence(false);
    assert_eq!(heard.item().data, "x");
}

/// It has nothing that the broker could leave unconfirmed.
#[test]
#[ignore = "needs nats-server"]
fn bus_that_only_listens_notices_a_silent_network() {
    let cut = Cut::start();
    let heard = Recorder::on(cut.behind.path("/a"));
    [&cut.behind, &cut.other].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    let lost = bus_event(&cut.behind, |event| match event {
        BusEvent::Disconnected { error: Some(error), unconfirmed: 0, .. } => Some(chain(&error)),
        _ => None,
    });
    cut.proxy.silence(true);
    // 5 s until it asks, and 10 s.
    std::thread::sleep(Duration::from_secs(10));
    let error = lost();
    assert!(error.ends_with("it has confirmed nothing for 10s"), "{error}");
    cut.proxy.silence(false);
    cut.behind.wait_connected(PATIENCE).unwrap();
    cut.other.next(TaggedData::new("/a", "x"));
    assert_eq!(heard.item().data, "x");
}
