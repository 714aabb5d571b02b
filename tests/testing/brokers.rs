//! Brokers that are away, and what waits for them.

use super::*;

/// Some buses on a broker in this process, on the clock of a network.
struct Buses {
    network: TestNetwork,
    broker: LocalBroker,
}

impl Buses {
    fn seeded(seed: u64) -> Self {
        Self { network: TestNetwork::seeded(seed), broker: LocalBroker::new() }
    }

    fn builder(&self) -> BusBuilder<WsStr> {
        RxBus::builder(&self.broker, WsStr).runtime(self.network.runtime())
    }

    fn bus(&self) -> RxBus<WsStr> {
        self.builder().connect().unwrap()
    }

    /// Lets the broker be away for so long.
    async fn outage(&self, time: Duration, meanwhile: impl FnOnce()) {
        self.broker.stop();
        self.network.advance(time / 2).await;
        meanwhile();
        self.network.advance(time / 2).await;
        self.broker.start();
    }
}

fn on_a(n: usize) -> TaggedData<WsText> {
    TaggedData::new("/a", n.to_string().into())
}

/// How many of 20 messages that a bus sends during an outage reach each of the others.
async fn heard_after(outage: Duration, seed: u64) -> Vec<usize> {
    let buses = Buses::seeded(seed);
    let here = buses.bus();
    let others = [0; 3].map(|_| buses.bus());
    let heard = others.each_ref().map(|bus| buses.network.record(bus.path("/a")));
    buses.network.advance(SECOND).await;
    buses.outage(outage, || (0..20).for_each(|n| here.send(on_a(n)).unwrap())).await;
    buses.network.advance(MINUTE).await;
    heard.iter().map(|heard| heard.items().len()).collect()
}

/// With the default options each comes back at a time of its own. It was chance who heard them: on average 4 in 10.
#[tokio::test(start_paused = true)]
async fn what_is_sent_during_an_outage_reaches_also_those_who_come_back_later() {
    for outage in [SECOND / 10, SECOND, 3 * SECOND, MINUTE] {
        for seed in 0..10 {
            assert_eq!(heard_after(outage, seed).await, [20; 3], "{outage:?}, seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bus_that_is_back_waits_for_the_others_before_it_publishes() {
    let buses = Buses::seeded(0);
    let retry = RetryPolicy::fixed(SECOND);
    let [here, there] = [0; 2].map(|_| buses.builder().retry(retry.clone()).connect().unwrap());
    let [own, others] = [&here, &there].map(|bus| buses.network.record(bus.path("/a")));
    buses.network.advance(SECOND).await;
    here.next(on_a(1));
    buses.network.advance(SECOND).await;
    buses.outage(SECOND / 2, || here.next(on_a(2))).await;
    buses.network.advance(SECOND).await;
    here.next(on_a(3));
    buses.network.advance(MINUTE).await;
    here.next(on_a(4));
    buses.network.advance(SECOND).await;
    let logs = [&own, &others].map(|heard| heard.log());
    assert_eq!(logs[0], ["1s next 1", "2.25s next 2", "3.5s next 3", "63.5s next 4"].map(quoted), "at once");
    // The link was lost after 2 s, and the next one made a second later.
    assert_eq!(logs[1], ["1s next 1", "4.25s next 2", "4.25s next 3", "63.5s next 4"].map(quoted));
}

/// Each new link begins the wait anew, or two restarts in a row would lose what the first one kept: but not forever.
#[tokio::test(start_paused = true)]
async fn bus_whose_links_all_break_publishes_after_ten_seconds_of_them() {
    let buses = Buses::seeded(0);
    let here = buses.builder().retry(RetryPolicy::fixed(2 * SECOND)).connect().unwrap();
    let there = buses.builder().retry(RetryPolicy::fixed(SECOND / 100)).connect().unwrap();
    let heard = buses.network.record(there.path("/a"));
    buses.network.advance(SECOND).await;
    // Links at 3 s, 6 s and so on, each for a second.
    buses.outage(SECOND / 100, || here.next(on_a(1))).await;
    for _ in 0..20 {
        buses.network.advance(3 * SECOND).await;
        buses.outage(SECOND / 100, || {}).await;
    }
    assert_eq!(heard.log(), [quoted("31s next 1")]);
}

/// Also the very first link, if it needed more than one attempt.
#[tokio::test(start_paused = true)]
async fn only_a_first_attempt_that_succeeds_publishes_at_once() {
    let buses = Buses::seeded(0);
    buses.broker.stop();
    let early = buses.builder().retry(RetryPolicy::fixed(SECOND)).connect().unwrap();
    early.next(on_a(1));
    buses.network.advance(SECOND / 2).await;
    buses.broker.start();
    let late = buses.bus();
    let heard = [&early, &late].map(|bus| buses.network.record(bus.path("/a")));
    late.next(on_a(2));
    buses.network.advance(MINUTE).await;
    assert_eq!(heard[1].log(), ["500ms next 2", "2.25s next 1"].map(quoted));
    assert_eq!(heard[0].log(), [] as [String; 0], "it was not there yet");
}

#[tokio::test(start_paused = true)]
async fn bus_that_is_completed_waits_for_nobody() {
    let buses = Buses::seeded(0);
    let here = buses.bus();
    let there = buses.builder().retry(RetryPolicy::fixed(SECOND / 100)).connect().unwrap();
    let heard = buses.network.record(there.path("/a"));
    buses.network.advance(SECOND).await;
    buses.outage(SECOND, || here.next(on_a(1))).await;
    let states = buses.network.record(here.state());
    while states.items().last() != Some(&ConnectionState::Connected) {
        buses.network.advance(SECOND / 100).await;
    }
    let completed = buses.network.elapsed();
    here.clone().complete();
    assert_eq!(here.closed().await.unsent, 0);
    assert!(buses.network.elapsed() - completed < SECOND / 10);
    assert_eq!(heard.items(), [on_a(1)]);
}

/// Nobody hears of the last number who is away when it is told.
#[tokio::test(start_paused = true)]
async fn bus_that_was_away_is_told_what_it_has_missed_though_no_message_follows() {
    for away in [6 * SECOND, 30 * SECOND, 3 * MINUTE, 10 * MINUTE] {
        let buses = Buses::seeded(0);
        let [here, there] =
            [SECOND / 100, away].map(|delay| buses.builder().retry(RetryPolicy::fixed(delay)).connect().unwrap());
        let heard = buses.network.record(there.path("/a"));
        let gaps = buses.network.record(there.events().filter_map(|event| match event {
            BusEvent::Gap { missed, .. } => Some(missed),
            _ => None,
        }));
        buses.network.advance(SECOND).await;
        here.next(on_a(1));
        buses.network.advance(SECOND).await;
        buses.outage(SECOND / 10, || {}).await;
        buses.network.advance(SECOND).await;
        (2..=10).for_each(|n| here.next(on_a(n)));
        buses.network.advance(away).await;
        assert_eq!((gaps.items(), there.stats().reconnects), (vec![], 1), "{away:?}");
        buses.network.advance(2 * away).await;
        assert_eq!((heard.items(), gaps.items()), (vec![on_a(1)], vec![9]), "{away:?}");
    }
}

/// A line of a recording, with the number as it is printed there.
fn quoted(line: &str) -> String {
    let (begin, number) = line.rsplit_once(' ').unwrap();
    format!("{begin} {:?}", on_a(number.parse().unwrap()))
}
