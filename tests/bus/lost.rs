//! Servers that serve nobody without their bus, over sockets. `tests/testing` has the times.

use super::{
    support::foreign::{http, upgrade_request},
    *,
};

fn closing(bus: &RxBus<WsStr>, server: ServerBuilder<WsStr>) -> ServerBuilder<WsStr> {
    server.bus(bus).on_bus_lost(BusLost::CloseClients { after: Duration::from_millis(100) })
}

fn closed_with(client: &RxWsClient<WsStr>) -> impl FnOnce() -> u16 + use<> {
    let closed = Recorder::on(client.events());
    move || {
        closed.find(|event| match event {
            ClientEvent::Disconnected { code, .. } => Some(code),
            _ => None,
        })
    }
}

#[test]
#[ignore = "needs nats-server"]
fn clients_of_a_server_whose_broker_is_killed_are_closed_and_come_back_with_it() {
    let mut broker = NatsServer::that_goes_down();
    let retry = || RetryPolicy::fixed(Duration::from_millis(20));
    let bus = RxBus::builder(broker.url(), WsStr).retry(retry()).connect().unwrap();
    bus.wait_connected(PATIENCE).unwrap();
    let server = closing(&bus, RxWsServer::builder("ws://127.0.0.1:0", WsStr)).bind().unwrap();
    for _ in 0..5 {
        let client = RxWsClient::builder(url(&server, "/a"), WsStr).retry(retry()).connect().unwrap();
        let heard = Recorder::on(client.clone());
        client.wait_connected(PATIENCE).unwrap();
        let closed = closed_with(&client);
        let refused = server.stats().rejected.unavailable;
        broker.kill();
        assert_eq!(closed(), 1013);
        until("a refusal", || server.stats().rejected.unavailable > refused);
        broker.restart();
        until("a connection", || server.connection_count() == 1);
        server.next(TaggedData::new("/a", "x"));
        assert_eq!(heard.item(), "x");
        client.complete();
        until("its end", || server.connection_count() == 0);
    }
}

/// What a program answers to health checks is for the program to decide.
#[test]
fn health_checks_are_answered_while_clients_are_refused() {
    let broker = LocalBroker::new();
    broker.stop();
    let bus = RxBus::connect(&broker, WsStr).unwrap();
    let answer = |request: UpgradeRequest| {
        std::future::ready(if request.asks_to_upgrade() { Ok(()) } else { Err(Refuse::status(200).because("fine")) })
    };
    let builder = closing(&bus, RxWsServer::builder("ws://127.0.0.1:0", WsStr));
    let server = builder.answer_plain_requests(true).authorize(answer).paths(["/a"]).bind().unwrap();
    let ask = |request: &str| http(server.local_addr().as_tcp().unwrap(), request);
    let status = |request: &str| ask(request).split(' ').nth(1).unwrap().to_owned();
    assert_eq!(status("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"), "200");
    assert_eq!([status(&upgrade_request("/a")), status(&upgrade_request("/b"))], ["503", "404"]);
    broker.start();
    bus.wait_connected(PATIENCE).unwrap();
    connected(&server, "/a", WsStr).complete();
}
