//! The limits of time, at their exact times. That they hold over sockets too is in `tests/edge`.

use rxplus::testing::{TestListener, TestStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};

use super::*;

/// The default of `Limits::handshake`, and of a client's `connect_timeout`.
const LIMIT: Duration = Duration::from_secs(10);

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client's end of a connection, played by the test byte by byte.
fn raw(network: &TestNetwork, url: &str) -> TestStream {
    network.connect(&url.parse().unwrap()).unwrap()
}

/// Everything until the other side hangs up.
async fn rest(stream: &mut TestStream) -> String {
    let mut bytes = Vec::new();
    // The other side may end with an error: what came before counts.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

/// Sends a byte a second until the other side hangs up, and returns how long that took.
async fn drip(network: TestNetwork, mut stream: TestStream, bytes: Vec<u8>) -> Duration {
    let begun = network.elapsed();
    for byte in bytes {
        let next = network.elapsed() + SECOND;
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        let over = tokio::time::timeout(next - network.elapsed(), stream.read(&mut [0])).await;
        if over.is_ok() {
            break;
        }
    }
    network.elapsed() - begun
}

/// Why peers were refused, and when.
fn refusals(events: &rxplus::testing::Recording<ServerEvent>) -> Vec<(Duration, Option<u16>, String)> {
    let refusal = |(time, noted)| match noted {
        rxplus::testing::Noted::Next(ServerEvent::Rejected { status, reason, .. }) => {
            Some((time, status, reason.to_string()))
        }
        _ => None,
    };
    events.take().into_iter().filter_map(refusal).collect()
}

const TOO_LONG: &str = "the handshake took too long (Limits::handshake)";

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_or_none_does_not_outlast_the_default_limit_of_a_server() {
    let network = TestNetwork::new();
    let server = echo_on(&network);
    let events = network.record(server.events());
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    let heard = network.record(client.clone());
    let mut slow = JoinSet::new();
    slow.spawn(drip(network.clone(), raw(&network, ROBOT), REQUEST.to_vec()));
    let mut silent = raw(&network, ROBOT);
    let silence = network.clone();
    slow.spawn(async move {
        assert_eq!(rest(&mut silent).await, "");
        silence.elapsed()
    });
    // Others are served meanwhile.
    for second in 0..20 {
        client.next(second.to_string());
        network.advance(SECOND).await;
    }
    assert_eq!(slow.join_all().await, [LIMIT; 2]);
    let expected = [(); 2].map(|()| (LIMIT, None, TOO_LONG.into()));
    assert_eq!(refusals(&events), expected);
    assert_eq!(heard.log(), (0..20).map(|n| format!("{:?} next \"{n}\"", n * SECOND)).collect::<Vec<_>>());
    assert_eq!(server.connection_count(), 1);
}

#[cfg(feature = "tls")]
#[tokio::test(start_paused = true)]
async fn a_tls_hello_of_a_byte_a_second_does_not_outlast_the_default_limit_of_a_server() {
    let network = TestNetwork::new();
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["robot".into()]).unwrap();
    let tls = ServerTls::from_pem(cert.pem(), signing_key.serialize_pem()).unwrap();
    let server = network.server(ROBOT, RxWsServer::unbound(WsStr).tls(tls)).unwrap();
    let events = network.record(server.events());
    // A record of 512 bytes, with a client's hello of 508.
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 200]].concat();
    assert_eq!(drip(network.clone(), raw(&network, ROBOT), hello).await, LIMIT);
    assert_eq!(refusals(&events), [(LIMIT, None, TOO_LONG.into())]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_byte_a_second_does_not_outlast_the_default_limit_of_a_client() {
    let network = TestNetwork::new();
    let mut listener = network.listener(ROBOT);
    let client = network.client(ROBOT, WsStr).retry(RetryPolicy::fixed(HOUR)).connect().unwrap();
    let events = network.record(client.events());
    let mut stream = listener.accept_raw().await;
    let mut request = vec![0; 4096];
    let len = stream.read(&mut request).await.unwrap();
    assert!(request[..len].ends_with(b"\r\n\r\n"));
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec();
    assert_eq!(drip(network.clone(), stream, answer).await, LIMIT);
    let error = events.take().into_iter().find_map(|(time, noted)| match noted {
        rxplus::testing::Noted::Next(ClientEvent::ConnectFailed { error, .. }) => Some((time, error.to_string())),
        _ => None,
    });
    let (time, error) = error.unwrap();
    assert!(time == LIMIT && error.contains("no handshake answer") && error.contains("within 10s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn decision_that_never_comes_is_ended_by_the_handshake_limit() {
    let network = TestNetwork::new();
    let authorize = async |request: UpgradeRequest| match request.path() {
        "/never" => std::future::pending().await,
        _ => Ok::<_, Refuse>(()),
    };
    let builder = RxWsServer::unbound(WsStr).authorize(authorize).limits(Limits::server().handshake(2 * SECOND));
    let server = network.server(ROBOT, builder).unwrap();
    server.clone().log_errors().subscribe_with(server.clone());
    let events = network.record(server.events());
    let mut undecided = raw(&network, ROBOT);
    let request = String::from_utf8(REQUEST.to_vec()).unwrap().replace("GET / ", "GET /never ");
    undecided.write_all(request.as_bytes()).await.unwrap();
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    let heard = network.record(client.clone());
    client.next("served meanwhile");
    assert_eq!(rest(&mut undecided).await, "");
    assert_eq!(network.elapsed(), 2 * SECOND);
    assert_eq!(refusals(&events), [(2 * SECOND, None, TOO_LONG.into())]);
    assert_eq!(heard.log(), ["0ns next \"served meanwhile\""]);
}

#[tokio::test(start_paused = true)]
async fn one_handshake_too_many_takes_the_place_of_one_that_is_old() {
    const GRACE: Duration = Duration::from_millis(500);
    let network = TestNetwork::new();
    let builder = RxWsServer::unbound(WsStr).limits(Limits::server().handshakes(1));
    let server = network.server(ROBOT, builder).unwrap();
    let events = network.record(server.events());
    let mut old = raw(&network, ROBOT);
    network.advance(GRACE - Duration::from_millis(1)).await;
    assert!(rest(&mut raw(&network, ROBOT)).await.starts_with("HTTP/1.1 503 "), "the first is young");
    network.advance(Duration::from_millis(1)).await;
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    assert_eq!(rest(&mut old).await, "");
    network.advance(SECOND).await;
    assert_eq!((client.stats().reconnects, server.connection_count()), (0, 1));
    let told: Vec<_> = refusals(&events).into_iter().map(|(time, status, _)| (time, status)).collect();
    assert_eq!(told, [(GRACE - Duration::from_millis(1), Some(503)), (GRACE, None)]);
}

/// A server that reads nothing behind the handshake.
async fn mute(listener: &mut TestListener) -> impl Sized + use<> {
    listener.accept().await
}

#[tokio::test(start_paused = true)]
async fn client_waits_for_a_silent_server_no_longer_than_the_close_timeout() {
    let network = TestNetwork::new();
    let mut listener = network.listener(ROBOT);
    let limits = Limits::client().close_timeout(7 * SECOND);
    let client = network.client(ROBOT, WsStr).limits(limits).connect().unwrap();
    let _mute = mute(&mut listener).await;
    network.advance(SECOND).await;
    client.clone().complete();
    client.closed().await;
    assert_eq!(network.elapsed(), 8 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_without_a_server_is_given_up_after_the_close_timeout() {
    let network = TestNetwork::new();
    let limits = Limits::client().close_timeout(7 * SECOND);
    let client = network.client(ROBOT, WsStr).limits(limits.clone()).connect().unwrap();
    let (heard, events) = (network.record(client.clone()), network.record(client.events()));
    client.next("never sent");
    client.clone().complete();
    let report = client.closed().await;
    assert_eq!((network.elapsed(), report.unsent, report.unsent_len), (7 * SECOND, 1, 10));
    assert_eq!(heard.log(), ["7s complete"]);
    let told = events.take().into_iter().filter_map(|(_, noted)| match noted {
        rxplus::testing::Noted::Next(ClientEvent::Dropped { dropped, .. }) => Some(dropped),
        _ => None,
    });
    assert_eq!(told.map(|dropped| (dropped.messages, dropped.len)).collect::<Vec<_>>(), [(1, 10)]);

    let group = network.group(ROBOT, WsStr).limits(limits).build().unwrap();
    for path in ["/audio", "/chat"] {
        group.next(TaggedData::new(path, "never sent"));
    }
    group.clone().complete();
    let report = group.closed().await;
    assert_eq!((network.elapsed(), report.unsent, report.unsent_len), (14 * SECOND, 2, 20));
}
