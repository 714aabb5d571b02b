//! What a server does with its clients while its bus has no link.

use tokio::io::AsyncReadExt;

use super::*;

const AFTER: Duration = Duration::from_secs(5);
const CLOSING: BusLost = BusLost::CloseClients { after: AFTER };

/// A server on a bus, and its network and broker.
struct World {
    network: TestNetwork,
    broker: LocalBroker,
    bus: RxBus<WsStr>,
    server: RxWsServer<WsStr>,
}

impl World {
    fn new(reaction: BusLost) -> Self {
        Self::with(reaction, LocalBroker::new(), RetryPolicy::fixed(SECOND * 3 / 5), |server| server)
    }

    fn with(
        reaction: BusLost,
        broker: LocalBroker,
        retry: RetryPolicy,
        options: impl FnOnce(ServerBuilder<WsStr>) -> ServerBuilder<WsStr>,
    ) -> Self {
        let network = TestNetwork::new();
        let bus = RxBus::builder(&broker, WsStr).retry(retry).runtime(network.runtime()).connect().unwrap();
        let builder = RxWsServer::unbound(WsStr).bus(&bus).on_bus_lost(reaction);
        let server = network.server(ROBOT, options(builder)).unwrap();
        Self { network, broker, bus, server }
    }

    /// A client that tries again each second, and what happens to it.
    fn client(&self) -> (RxWsClient<WsStr>, impl Fn() -> Vec<String>) {
        let builder = self.network.client(ROBOT, WsStr).retry(RetryPolicy::fixed(SECOND));
        let client = builder.connect().unwrap();
        let events = self.network.record(client.events());
        (client, move || events.take().into_iter().filter_map(|(time, noted)| line(time, noted)).collect())
    }

    async fn advance(&self, seconds: u32) {
        self.network.advance(SECOND * seconds).await;
    }
}

fn line(time: Duration, noted: rxplus::testing::Noted<ClientEvent>) -> Option<String> {
    let rxplus::testing::Noted::Next(event) = noted else { return None };
    let what = match event {
        ClientEvent::Connected { .. } => "connected".into(),
        ClientEvent::Disconnected { code, .. } => format!("closed {code:?}"),
        ClientEvent::ConnectFailed { error: WsError::Rejected { status, .. }, .. } => format!("refused {status}"),
        _ => return None,
    };
    Some(format!("{time:?} {what}"))
}

#[tokio::test(start_paused = true)]
async fn clients_are_closed_with_1013_and_refused_until_the_bus_is_back() {
    let world = World::new(CLOSING);
    let (client, happened) = world.client();
    let heard = world.network.record(client.clone());
    world.advance(10).await;
    world.broker.stop();
    world.server.next(TaggedData::new("/", "local"));
    world.advance(7).await;
    world.network.advance(SECOND / 2).await;
    world.broker.start();
    world.advance(10).await;
    assert_eq!(happened(), ["0ns connected", "15s closed 1013", "16s refused 503", "17s refused 503", "18s connected"]);
    assert_eq!(heard.items(), ["local"]);
    assert_eq!(world.server.connection_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn bus_that_is_back_in_time_costs_no_client() {
    let world = World::new(CLOSING);
    let (_client, happened) = world.client();
    world.advance(1).await;
    for _ in 0..5 {
        world.broker.stop();
        world.advance(4).await;
        world.broker.start();
        world.advance(2).await;
    }
    assert_eq!(happened(), ["0ns connected"]);
}

#[tokio::test(start_paused = true)]
async fn without_that_option_a_server_keeps_its_clients() {
    let world = World::new(BusLost::default());
    let (_client, happened) = world.client();
    world.advance(1).await;
    world.broker.stop();
    world.network.advance(HOUR).await;
    assert_eq!(happened(), ["0ns connected"]);
}

#[tokio::test(start_paused = true)]
async fn server_serves_nobody_before_its_bus_has_a_first_link() {
    let broker = LocalBroker::new();
    broker.stop();
    let world = World::with(CLOSING, broker, RetryPolicy::fixed(SECOND), |server| server);
    let rejected = world.network.record(world.server.events());
    let (_client, happened) = world.client();
    world.network.advance(SECOND / 2).await;
    world.broker.start();
    world.advance(5).await;
    assert_eq!(happened(), ["0ns refused 503", "1s connected"]);
    let reason = rejected.items().into_iter().find_map(|event| match event {
        ServerEvent::Rejected { status: Some(503), reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("this server has no link to the others at present (BusLost::CloseClients)"));
}

#[tokio::test(start_paused = true)]
async fn server_whose_bus_is_completed_is_one_without_a_bus() {
    for after in [Duration::ZERO, AFTER] {
        // While it has its link, and while it has lost it.
        let world = World::new(BusLost::CloseClients { after });
        let (_client, happened) = world.client();
        world.advance(1).await;
        world.bus.clone().complete();
        world.advance(60).await;
        assert_eq!(happened(), ["0ns connected"]);

        let world = World::new(BusLost::CloseClients { after });
        world.advance(1).await;
        world.broker.stop();
        world.advance(9).await;
        world.bus.clone().complete();
        let (_client, happened) = world.client();
        world.advance(60).await;
        assert_eq!(happened(), ["10s connected"]);
    }
}

/// It will not be back.
#[tokio::test(start_paused = true)]
async fn server_whose_bus_has_failed_serves_nobody() {
    let retry = RetryPolicy::fixed(SECOND).max_retries(2);
    let world = World::with(CLOSING, LocalBroker::new(), retry, |server| server);
    let (client, happened) = world.client();
    world.advance(10).await;
    world.broker.stop();
    world.advance(6).await;
    assert!(world.network.record(world.bus.state()).items().contains(&ConnectionState::Closed));
    world.broker.start();
    world.advance(10).await;
    let happened = happened();
    assert_eq!(happened[..3], ["0ns connected", "15s closed 1013", "16s refused 503"]);
    assert!(happened[3..].iter().all(|line| line.ends_with("refused 503")), "{happened:?}");
    client.complete();
}

/// Their clients are to go elsewhere, where nobody knows them.
#[tokio::test(start_paused = true)]
async fn sessions_end_and_parked_ones_too() {
    let retry = RetryPolicy::fixed(SECOND);
    let world = World::with(CLOSING, LocalBroker::new(), retry, |server| server.resumable(Resume::new()));
    let of_session = |name: &str| {
        let builder = world.network.client(&format!("{ROBOT}/{name}"), WsStr).resumable(Resume::new());
        let client = builder.retry(RetryPolicy::fixed(SECOND)).connect().unwrap();
        let events = world.network.record(client.events());
        (client, events)
    };
    let ((here, events), (away, _)) = (of_session("here"), of_session("away"));
    world.advance(10).await;
    world.network.refuse(ROBOT, u32::MAX);
    world.network.cut(ROBOT);
    world.advance(1).await;
    world.network.refuse(ROBOT, 1);
    world.advance(1).await;
    assert_eq!((world.server.connection_count(), world.server.stats().parked), (2, 1));
    away.next("kept");
    world.network.refuse(ROBOT, u32::MAX);
    world.broker.stop();
    world.advance(8).await;
    assert_eq!((world.server.connection_count(), world.server.stats().parked), (0, 0));
    world.network.refuse(ROBOT, 0);
    world.broker.start();
    let heard = world.network.record(world.server.clone());
    world.advance(10).await;
    assert_eq!(world.server.connection_count(), 2);
    assert_eq!(heard.items(), [TaggedData::new("/away", WsText::from("kept"))]);
    let lost =
        |event: &ClientEvent| matches!(event, ClientEvent::Session(SessionEvent::Lost { why: SessionLoss::Ended, .. }));
    assert!(events.items().iter().any(lost), "{:?}", events.items());
    here.complete();
}

/// The program has made their handshakes, so there is no other way to say it.
#[tokio::test(start_paused = true)]
async fn adopted_streams_are_closed_with_1013() {
    let world = World::new(CLOSING);
    world.advance(1).await;
    world.broker.stop();
    world.advance(10).await;
    let (mut near, far) = tokio::io::duplex(100);
    world.server.adopt(far, Adopted::new("/"));
    let mut frame = [0; 4];
    near.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x88, 2, 0x03, 0xf5], "1013 in a close frame");
}
