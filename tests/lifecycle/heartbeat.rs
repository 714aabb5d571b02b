//! Rule 8, the heartbeat: who is gone without a word is found, who is there is left alone.

use std::mem::take;

use tungstenite::Message;

use super::*;

/// Long enough for a peer that is there to answer, on a machine that is busy with other tests.
const INTERVAL: Duration = Duration::from_millis(200);

#[test]
fn server_finds_a_client_gone_silent_and_keeps_the_others() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(INTERVAL).ping_timeout(INTERVAL);
    let server = server.bind().unwrap();
    let (heard, events) = (Recorder::on(server.clone()), Recorder::on(server.events()));
    let connections = Recorder::on(server.connections());
    let client = connected(&server, "/alive", WsStr);
    connections.item();
    let _silent = foreign_client(server.local_addr(), "/silent"); // nobody reads from it, so nobody answers a ping
    let gone = Recorder::on(connections.item());
    let (peer, error) = events.find(|event| match event {
        ServerEvent::Disconnected { peer, code: 1006, error, .. } => Some((peer, error)),
        _ => None,
    });
    assert_eq!(peer.path, "/silent");
    assert!(matches!(error, Some(WsError::PeerGone { silent, .. }) if silent >= 2 * INTERVAL), "{error:?}");
    assert!(matches!(gone.hear(), Heard::Error(_)));
    client.next("alive");
    assert_eq!(heard.item(), TaggedData::new("/alive", "alive".into()));
}

#[test]
fn client_finds_a_server_gone_silent_and_connects_again() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr)
        .ping_interval(INTERVAL)
        .ping_timeout(INTERVAL)
        .conn_retry_timeout(Duration::from_millis(1))
        .connect()
        .unwrap();
    let events = Recorder::on(client.events());
    let _silent = server.accept();
    let (code, error) = events.find(|event| match event {
        ClientEvent::Disconnected { code, error, .. } => Some((code, error)),
        _ => None,
    });
    assert_eq!(code, 1006);
    assert!(matches!(error, Some(WsError::PeerGone { silent, .. }) if silent >= 2 * INTERVAL), "{error:?}");
    client.next("hello again");
    assert_eq!(read(&mut server.accept()).to_text().unwrap(), "hello again");
}

/// Within which a peer answers that does so at once, however busy the machine is.
const TIMEOUT: Duration = Duration::from_secs(1);

/// For a callback: blocks at the first call for longer than a peer may be silent.
fn block_once() -> impl FnMut() + Send + 'static {
    let mut blocks = true;
    move || {
        if take(&mut blocks) {
            thread::sleep(2 * (INTERVAL + TIMEOUT));
        }
    }
}

/// Waits until a silent peer of a server with this heartbeat is gone: so long others would have had to be.
fn until_one_is_gone() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(INTERVAL).ping_timeout(TIMEOUT);
    let server = server.bind().unwrap();
    let events = Recorder::on(server.events());
    let _silent = foreign_client(server.local_addr(), "/");
    events.find(|event| matches!(event, ServerEvent::Disconnected { .. }).then_some(()));
}

#[test]
fn callback_that_blocks_costs_a_server_none_of_its_quiet_peers() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(INTERVAL).ping_timeout(TIMEOUT);
    let server = server.bind().unwrap();
    let mut block = block_once();
    server.clone().log_errors().subscribe(move |_| block());
    let (heard, events) = (Recorder::on(server.clone()), Recorder::on(server.events()));
    let quiet = connected(&server, "/", WsStr);
    quiet.next("block");
    heard.item();
    until_one_is_gone();
    quiet.next("still here");
    assert_eq!(heard.item().data, "still here");
    let is_loss = |event| matches!(event, Heard::Item(ServerEvent::Disconnected { .. }));
    assert!(!events.rest().into_iter().any(is_loss));
}

#[test]
fn callback_that_blocks_costs_a_client_no_quiet_server() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(None).bind().unwrap();
    let client = RxWsClient::builder(url(&server, "/"), WsStr).ping_interval(INTERVAL).ping_timeout(TIMEOUT);
    let client = client.connect().unwrap();
    let mut block = block_once();
    client.clone().log_errors().subscribe(move |_| block());
    let (heard, events) = (Recorder::on(client.clone()), Recorder::on(client.events()));
    client.wait_connected(PATIENCE).unwrap();
    server.next(TaggedData::new("/", "block"));
    heard.item();
    until_one_is_gone();
    server.next(TaggedData::new("/", "still here"));
    assert_eq!(heard.item(), "still here");
    let is_loss = |event| matches!(event, Heard::Item(ClientEvent::Disconnected { .. }));
    assert!(!events.rest().into_iter().any(is_loss));
}

#[test]
fn without_a_timeout_a_silent_peer_is_pinged_and_kept() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(Duration::from_millis(2));
    let server = server.ping_timeout(None).bind().unwrap();
    let heard = Recorder::on(server.clone());
    let mut silent = foreign_client(server.local_addr(), "/");
    // tungstenite answers a ping when it reads on: the first nine are answered, late as they are, the tenth never is.
    for _ in 0..10 {
        assert!(matches!(silent.read().unwrap(), Message::Ping(_)));
    }
    silent.send(Message::text("still here")).unwrap();
    assert_eq!(heard.item().data, "still here");
}
