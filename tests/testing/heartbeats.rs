//! Rule 8, the heartbeat, at its exact times. That it works over sockets too is in `tests/lifecycle/heartbeat.rs`.

use futures::SinkExt;
use rxplus::testing::{Noted, Recording, TestStream};
use tokio_tungstenite::{WebSocketStream, client_async};
use tungstenite::Message;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client that answers no ping unless the test reads.
async fn unread_client(network: &TestNetwork, path: &str) -> WebSocketStream<TestStream> {
    let url = format!("{ROBOT}{path}");
    client_async(&url, network.connect(&url.parse().unwrap()).unwrap()).await.unwrap().0
}

/// A server that sends each message back, with a heartbeat.
fn server_on(network: &TestNetwork, interval: impl Into<Option<Duration>>) -> RxWsServer<WsStr> {
    let builder = RxWsServer::unbound(WsStr).ping_interval(interval).ping_timeout(TIMEOUT);
    let server = network.server(ROBOT, builder).unwrap();
    server.clone().log_errors().subscribe_with(server.clone());
    server
}

/// The paths of the peers that a server found gone, when, and how long they had been silent.
fn gone(events: &Recording<ServerEvent>) -> Vec<(Duration, String, Duration)> {
    let gone = |(time, noted)| match noted {
        Noted::Next(ServerEvent::Disconnected { peer, code, error, .. }) => match (code, error) {
            (1006, Some(WsError::PeerGone { silent, .. })) => Some((time, peer.path.to_string(), silent)),
            other => panic!("{other:?}"),
        },
        _ => None,
    };
    events.take().into_iter().filter_map(gone).collect()
}

#[tokio::test(start_paused = true)]
async fn any_frame_of_a_peer_counts_as_life() {
    let network = TestNetwork::new();
    let server = server_on(&network, INTERVAL);
    let (heard, events) = (network.record(server.clone()), network.record(server.events()));
    let mut talks = unread_client(&network, "/talks").await; // answers no ping, having read none
    let _silent = unread_client(&network, "/silent").await;
    for _ in 0..10 {
        network.advance(INTERVAL).await;
        talks.send(Message::text("I am here")).await.unwrap();
    }
    network.advance(SECOND).await;
    assert_eq!(gone(&events), [(INTERVAL + TIMEOUT, "/silent".into(), INTERVAL + TIMEOUT)]);
    assert_eq!(heard.items().len(), 10);
    assert_eq!(server.connection_count(), 1);
    // From the last word on as from the first.
    network.advance(MINUTE).await;
    let last = 10 * INTERVAL;
    assert_eq!(gone(&events), [(last + INTERVAL + TIMEOUT, "/talks".into(), INTERVAL + TIMEOUT)]);
}

#[tokio::test(start_paused = true)]
async fn without_an_interval_nobody_is_pinged_or_gone() {
    let network = TestNetwork::new();
    let server = server_on(&network, None);
    let (heard, events) = (network.record(server.clone()), network.record(server.events()));
    let mut left_alone = unread_client(&network, "/").await;
    network.advance(HOUR).await;
    left_alone.send(Message::text("still here")).await.unwrap();
    network.advance(SECOND).await;
    assert_eq!(heard.items(), [TaggedData::new("/", "still here".into())]);
    // The echo comes first: no ping was before it.
    let first = futures::StreamExt::next(&mut left_alone).await.unwrap().unwrap();
    assert_eq!(first, Message::text("still here"));
    assert_eq!(gone(&events), []);
}

#[tokio::test(start_paused = true)]
async fn peer_that_falls_silent_is_gone_on_both_sides() {
    let network = TestNetwork::new();
    let server = server_on(&network, INTERVAL);
    let builder = network.client(&format!("{ROBOT}/x"), WsStr).ping_interval(INTERVAL).ping_timeout(TIMEOUT);
    let client = builder.retry(RetryPolicy::fixed(HOUR)).connect().unwrap();
    let (at_client, at_server) = (network.record(client.events()), network.record(server.events()));
    network.advance(HOUR).await;
    client.next("the last word");
    network.advance(Duration::from_millis(1)).await;
    network.half_open(ROBOT);
    network.advance(MINUTE).await;
    assert_eq!(gone(&at_server), [(HOUR + INTERVAL + TIMEOUT, "/x".into(), INTERVAL + TIMEOUT)]);
    let lost = at_client.take().into_iter().find_map(|(time, noted)| match noted {
        Noted::Next(ClientEvent::Disconnected { code, error, .. }) => Some((time, code, error)),
        _ => None,
    });
    let (time, code, error) = lost.unwrap();
    assert_eq!((time, code), (HOUR + INTERVAL + TIMEOUT, 1006));
    assert!(matches!(error, Some(WsError::PeerGone { silent, .. }) if silent == INTERVAL + TIMEOUT), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn peer_that_only_answers_pings_late_stays() {
    let network = TestNetwork::new();
    let _server = server_on(&network, None);
    let client = network.client(ROBOT, WsStr).ping_interval(INTERVAL).ping_timeout(HOUR).connect().unwrap();
    let (heard, events) = (network.record(client.clone()), network.record(client.events()));
    network.advance(SECOND).await;
    network.delay(ROBOT, 2 * INTERVAL);
    client.next("through");
    network.advance(2 * HOUR).await;
    assert_eq!(heard.log(), ["41s next \"through\""]);
    assert_eq!(names(events.take()), ["0ns Connected"]);
}
