//! How a mounted server and the server in front of it end.

use std::{io::Write, sync::mpsc};

use tokio::sync::oneshot;

use super::{support::foreign::tcp, *};

#[test]
fn both_end_together() {
    let server = unbound_echo();
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let app = Router::new().route_service("/", server.service());
    let closing = server.clone();
    let (over, ended) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let signal = async move {
                stopped.await.unwrap();
                closing.clone().complete();
                closing.closed().await;
            };
            axum::serve(listener, app).with_graceful_shutdown(signal).await.unwrap();
        });
        over.send(()).unwrap();
    });
    let client = assert_echoes(format!("ws://{addr}/"));
    let events = Recorder::on(client.events());
    stop.send(()).unwrap();
    let code = events.find(|event| match event {
        ClientEvent::Disconnected { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code, 1001);
    server.wait_closed(PATIENCE).unwrap();
    client.complete();
    ended.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn service_answers_503_once_its_server_closes() {
    let server = unbound_echo();
    let addr = serve(Router::new().route_service("/", server.service()));
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    let error = refused(format!("ws://{addr}/"));
    let WsError::Rejected { status: 503, response, .. } = &*error else { panic!("{error}") };
    assert_eq!(response.body(), "this server is closing\n".as_bytes());
}

#[test]
fn service_keeps_its_server_open() {
    let (say, heard) = mpsc::channel();
    let server = RxWsServer::unbound(WsStr).build().unwrap();
    let service = server.service();
    let subscription = server.clone().log_errors().subscribe(move |item| say.send(item.data.to_string()).unwrap());
    subscription.unsubscribe();
    let events = Recorder::on(server.events());
    drop(server);
    let addr = serve(Router::new().route_service("/", service));
    let client = RxWsClient::connect(format!("ws://{addr}/"), WsStr).unwrap();
    client.wait_connected(PATIENCE).unwrap();
    assert!(matches!(events.item(), ServerEvent::Connected { .. }));
    drop(heard);
}

#[test]
fn request_that_is_given_up_leaves_nothing_behind() {
    let (say, asked) = mpsc::channel();
    let authorize = move |_| {
        say.send(()).unwrap();
        std::future::pending::<Result<(), Refuse>>()
    };
    let limits = Limits::server().handshake(Duration::from_millis(200));
    let server = RxWsServer::unbound(WsStr).authorize(authorize).limits(limits).build().unwrap();
    let events = Recorder::on(server.events());
    let addr = serve(Router::new().fallback_service(server.service()));
    let mut stream = tcp(addr);
    let request = "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    drop(stream);
    assert!(matches!(events.item(), ServerEvent::Rejected { status: None, .. }));
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
}

#[test]
fn client_that_has_just_been_let_in_gets_1001() {
    for _ in 0..100 {
        let server = unbound_echo();
        let addr = serve(Router::new().fallback_service(server.service()));
        let mut client = support::foreign::foreign_client(addr, "/x");
        server.clone().complete();
        let closed = loop {
            match client.read() {
                Ok(tungstenite::Message::Close(close)) => break close.map(|close| u16::from(close.code)),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(closed, Some(1001));
        // It has answered; the server hears that.
        while client.read().is_ok() {}
        server.wait_closed(PATIENCE).unwrap();
    }
}

/// See `BusLost`.
#[cfg(feature = "nats")]
#[test]
fn mounted_server_answers_503_until_its_bus_is_there_and_when_it_is_lost() {
    let broker = LocalBroker::new();
    broker.stop();
    let retry = RetryPolicy::fixed(Duration::from_millis(20));
    let bus = RxBus::builder(&broker, WsStr).retry(retry).connect().unwrap();
    let lost = BusLost::CloseClients { after: Duration::from_millis(100) };
    let server = RxWsServer::unbound(WsStr).bus(&bus).on_bus_lost(lost).build().unwrap();
    let addr = serve(Router::new().fallback_service(server.service()));
    let is_refused = || matches!(&*refused(format!("ws://{addr}/a")), WsError::Rejected { status: 503, .. });
    assert!(is_refused());
    broker.start();
    bus.wait_connected(PATIENCE).unwrap();
    let client = RxWsClient::connect(format!("ws://{addr}/a"), WsStr).unwrap();
    client.wait_connected(PATIENCE).unwrap();
    let events = Recorder::on(client.events());
    broker.stop();
    events.find(|event| matches!(event, ClientEvent::Disconnected { code: 1013, .. }).then_some(()));
    assert!(is_refused());
}
