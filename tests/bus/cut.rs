//! Links that break, on a network between a process and its broker.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed};

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
