//! Random sequences of what can happen to a client and its connections, over real sockets: the accounting equation holds
//! after every step, and at the end everything is told and every observer has heard the Rx grammar.

use futures::FutureExt;
use proptest::{prelude::*, test_runner::TestRunner};

use super::*;

const CASES: u32 = 2000;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Waits for a connection, so that not everything happens before the first one.
    Connected,
    ToServer(usize),
    ToClient(usize),
    End(End),
    /// The server closes the connections, with this code.
    Close(u16),
    Reconnect,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Connected),
        4 => (1..20usize).prop_map(Step::ToServer),
        4 => (1..20usize).prop_map(Step::ToClient),
        1 => prop_oneof![Just(Step::End(End::Fin)), Just(Step::End(End::Reset))],
        1 => prop_oneof![Just(1000), Just(1001), Just(1011), Just(4000)].prop_map(Step::Close),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Clear),
    ]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    prop_oneof![Just(Overflow::Disconnect), Just(Overflow::DropOldest), Just(Overflow::DropLatest)]
}

#[derive(Clone, Debug)]
struct Case {
    steps: Vec<Step>,
    overflow: Overflow,
    /// How many messages the outboxes hold.
    bound: usize,
    greets: bool,
    fails: bool,
}

prop_compose! {
    fn case()(
        connects in prop_oneof![3 => Just(true), 1 => Just(false)],
        steps in prop::collection::vec(step(), 1..16),
        overflow in overflow(),
        bound in prop_oneof![5..10usize, 1000..1001usize],
        greets: bool,
        fails: bool,
    ) -> Case {
        let first = connects.then_some(Step::Connected);
        Case { steps: first.into_iter().chain(steps).collect(), overflow, bound, greets, fails }
    }
}

/// What all cases share: starting threads for each would take more time than the cases.
struct World {
    server: RxWsServer<WsStr>,
    heard: Recorder<TaggedData<WsText>>,
    proxy: Proxy,
    runtime: IoRuntime,
}

impl World {
    fn new() -> Self {
        let server =
            RxWsServer::builder("ws://127.0.0.1:0", WsStr).outbox(50, 1 << 20, Overflow::DropOldest).bind().unwrap();
        let heard = Recorder::on(server.clone());
        let proxy = Proxy::to(server.local_addr());
        Self { server, heard, proxy, runtime: IoRuntime::new("random").unwrap() }
    }

    fn client(&self, case: &Case) -> RxWsClient<WsStr> {
        let at_once = RetryPolicy::exponential().first_delay(Duration::ZERO).max_delay(Duration::from_millis(1));
        let builder = RxWsClient::builder(self.proxy.url("/path"), WsStr)
            .runtime(&self.runtime)
            .retry(at_once)
            .ping_interval(Duration::from_millis(2))
            .outbox(case.bound, 1 << 20, case.overflow);
        let greets = case.greets;
        builder.greeting(move |_| greets.then_some("greeting")).connect().unwrap()
    }

    fn take(&self, client: &RxWsClient<WsStr>, step: Step, numbers: &mut impl Iterator<Item = u64>) {
        match step {
            // It may have ended with its outbox full.
            Step::Connected => drop(client.wait_connected(PATIENCE)),
            Step::ToServer(count) => numbers.take(count).for_each(|number| client.next(number.to_string())),
            Step::ToClient(count) => {
                numbers.take(count).for_each(|number| self.server.next(TaggedData::new("/path", number.to_string())));
            }
            Step::End(end) => self.proxy.end(end),
            Step::Close(code) => {
                let connections = Recorder::on(self.server.connections());
                until("a connection, or its end", || {
                    client.closed().now_or_never().is_some() || self.server.connection_count() > 0
                });
                for heard in connections.rest() {
                    let Heard::Item(connection) = heard else { continue };
                    connection.close(code, "").unwrap();
                }
            }
            Step::Reconnect => client.reconnect(),
            Step::Clear => client.clear_outbox(),
        }
    }

    fn play(&self, case: &Case) {
        let client = self.client(case);
        let (heard, events, states) =
            (Recorder::on(client.clone()), Recorder::on(client.events()), Recorder::on(client.state()));
        let mut numbers = 0..;
        for step in &case.steps {
            self.take(&client, *step, &mut numbers);
            assert_accounted(client.stats().sent);
            assert_accounted(self.server.stats().sent);
        }
        if case.fails {
            client.clone().error(WsError::application("as asked"));
        } else {
            client.clone().complete();
        }
        assert_accounted(client.stats().sent);
        let report = client.wait_closed(PATIENCE).unwrap();
        until("the server's noticing", || self.server.connection_count() == 0);
        assert_accounted(self.server.stats().sent);
        self.check(case, &client, report, (heard, events, states));
    }

    fn check(
        &self,
        case: &Case,
        client: &RxWsClient<WsStr>,
        report: CloseReport,
        (heard, events, states): (Recorder<WsText>, Recorder<ClientEvent>, Recorder<ConnectionState>),
    ) {
        let (received, end) = heard.to_the_end();
        let (events, end_of_events) = events.to_the_end();
        let (states, end_of_states) = states.to_the_end();
        let overflown = events.iter().any(|event| matches!(event, ClientEvent::Failed { .. }));
        match end {
            Heard::Complete => assert!(!case.fails && !overflown),
            Heard::Error(error) => {
                assert!((case.fails && error == "as asked") || (overflown && error.contains("outbox")))
            }
            Heard::Item(_) => unreachable!("it is the end"),
        }
        assert!(end_of_events.is_complete() && end_of_states.is_complete());
        assert_eq!(states.last(), Some(&ConnectionState::Closed));
        assert!(matches!(events.last(), Some(ClientEvent::Closed(last)) if *last == report));
        assert_ascending(&as_numbers(received.iter().map(|text| &**text)));

        let sent = client.stats().sent;
        let (dropped, unconfirmed) = announced_by_client(&events);
        assert_accounted(sent);
        assert_eq!((sent.queued, sent.dropped.total()), (Tally::default(), dropped));
        assert!(report.unsent <= dropped.messages);
        let delivered: Vec<_> = self
            .heard
            .rest()
            .into_iter()
            .map(|heard| match heard {
                Heard::Item(tagged) => tagged.data,
                end => panic!("the server ended: {end:?}"),
            })
            .collect();
        assert_ascending(&as_numbers(delivered.iter().map(|text| &**text)));
        let delivered = delivered.len() as u64;
        assert!(delivered <= sent.written.messages && sent.written.messages - delivered <= unconfirmed);
    }
}

fn as_numbers<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<u64> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

#[test]
fn whatever_happens_the_sums_are_exact_and_the_grammar_is_kept() {
    let world = World::new();
    let config = ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(CASES) };
    let begun = Instant::now();
    TestRunner::new(config)
        .run(&case(), |case| {
            world.play(&case);
            Ok(())
        })
        .unwrap();
    println!("{CASES} cases in {:?}, {} links, {:?}", begun.elapsed(), world.proxy.links(), world.server.stats().sent);
    world.server.complete();
}
