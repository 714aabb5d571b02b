//! Who is where, at the very time.

use super::*;

/// A bus with a server, one that only wants to know who is there, and what joins them.
struct Pair {
    network: TestNetwork,
    broker: LocalBroker,
    here: RxBus<WsStr>,
    there: RxBus<WsStr>,
    _server: RxWsServer<WsStr>,
}

impl Pair {
    fn new() -> Self {
        let (network, broker) = (TestNetwork::new(), LocalBroker::new());
        let retry = RetryPolicy::fixed(SECOND / 100);
        let bus = || RxBus::builder(&broker, WsStr).retry(retry.clone()).runtime(network.runtime()).connect().unwrap();
        let (here, there) = (bus(), bus());
        let server = network.server(ROBOT, RxWsServer::unbound(WsStr).bus(&here)).unwrap();
        Self { network, broker, here, there, _server: server }
    }

    fn client(&self) -> RxWsClient<WsStr> {
        self.network.client("ws://robot/a", WsStr).connect().unwrap()
    }

    /// How many connections there are, as the other bus hears it from now on.
    fn counts(&self) -> impl Fn() -> Vec<String> + use<> {
        let counts = self.network.record(self.there.presence("/a").map(|presence| presence.connections));
        move || counts.log()
    }
}

/// As one who asks for the present state each second does.
#[tokio::test(start_paused = true)]
async fn one_who_asks_anew_after_leaving_at_once_hears_who_is_there() {
    let pair = Pair::new();
    let _client = pair.client();
    pair.network.advance(6 * SECOND).await;
    pair.there.presence("/a").take(1).subscribe(|_| {});
    pair.network.advance(SECOND).await;
    let counts = pair.counts();
    pair.network.advance(SECOND).await;
    // Without any time between, the first emission may have both.
    assert_eq!(counts().last().unwrap(), "7s next 1");
}

#[tokio::test(start_paused = true)]
async fn bus_that_is_completed_while_its_broker_is_away_is_gone_with_its_last_message() {
    let pair = Pair::new();
    let counts = pair.counts();
    let _client = pair.client();
    pair.network.advance(SECOND).await;
    pair.broker.stop();
    pair.here.next(TaggedData::new("/b", "last"));
    pair.here.clone().complete();
    pair.network.advance(SECOND).await;
    pair.broker.start();
    pair.network.advance(SECOND).await;
    assert_eq!(pair.here.closed().await.unsent, 0);
    let counts = counts();
    assert!(counts.last().unwrap().ends_with("next 0"), "{counts:?}");
}
