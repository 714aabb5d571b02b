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
        Self::retrying(RetryPolicy::fixed(SECOND / 100))
    }

    fn retrying(retry: RetryPolicy) -> Self {
        let (network, broker) = (TestNetwork::new(), LocalBroker::new());
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

/// The others have the time to answer before anything is emitted: the first state is no start from nobody.
#[tokio::test(start_paused = true)]
async fn first_state_is_that_of_all() {
    let pair = Pair::new();
    let _clients = [pair.client(), pair.client()];
    pair.network.advance(6 * SECOND).await;
    let counts = pair.counts();
    pair.network.advance(SECOND).await;
    assert_eq!(counts(), ["6.25s next 2"]);
    let later = pair.counts();
    pair.network.advance(SECOND / 2).await;
    assert_eq!(later(), ["7s next 2"], "it is known already");
}

/// What is pushed waits until the others are back, and the news of connections do not.
#[tokio::test(start_paused = true)]
async fn who_is_there_is_known_soon_after_an_outage() {
    let pair = Pair::retrying(RetryPolicy::fixed(2 * SECOND));
    let counts = pair.counts();
    pair.network.advance(SECOND).await;
    pair.broker.stop();
    let _client = pair.client();
    pair.network.advance(60 * SECOND).await;
    assert_eq!(counts(), ["250ms next 0"]);
    pair.broker.start();
    // Both are back, and wait for others before they publish.
    pair.network.advance(5 * SECOND / 2).await;
    assert_eq!(counts().len(), 1);
}

/// Each server counts its connections by itself, so both of these have the same id.
#[tokio::test(start_paused = true)]
async fn connection_of_a_member_is_that_of_its_own_server() {
    let (network, broker) = (TestNetwork::new(), LocalBroker::new());
    let servers = ["ada", "bob"].map(|name| {
        let bus = RxBus::builder(&broker, WsStr).runtime(network.runtime()).connect().unwrap();
        let builder = RxWsServer::unbound(WsStr).bus(&bus).member(move |_| Some(name.into()));
        network.server(&format!("ws://{name}"), builder).unwrap()
    });
    let clients = ["ada", "bob"].map(|name| {
        let client = network.client(&format!("ws://{name}/chat"), WsStr).connect().unwrap();
        (name, network.record(client.clone()), client)
    });
    let seen = network.record(servers[0].presence());
    network.advance(6 * SECOND).await;
    let members = seen.items().pop().unwrap().data.members;
    assert_eq!((members.len(), members[0].id), (2, members[1].id));
    for member in members.iter() {
        let held = servers.each_ref().map(|server| server.connection_of(member));
        assert_eq!(held.iter().flatten().count(), 1, "{member:?}");
        held.into_iter().flatten().for_each(|connection| connection.next(format!("for {}", member.name)));
    }
    network.advance(SECOND).await;
    for (name, heard, _) in clients {
        assert_eq!(heard.items(), [format!("for {name}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_asks_anew_after_leaving_at_once_hears_who_is_there() {
    let pair = Pair::new();
    let _client = pair.client();
    pair.network.advance(6 * SECOND).await;
    pair.there.presence("/a").subscribe(|_| {}).unsubscribe();
    pair.network.advance(SECOND).await;
    let counts = pair.counts();
    pair.network.advance(SECOND).await;
    assert_eq!(counts(), ["7.25s next 1"]);
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
