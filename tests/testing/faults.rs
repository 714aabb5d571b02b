//! Each fault, and that it ends.

use super::*;

#[tokio::test(start_paused = true)]
async fn refused_connections_are_tried_again_at_the_times_of_the_policy() {
    let network = TestNetwork::new();
    let _server = echo_on(&network);
    network.refuse(ROBOT, 2);
    let retry = RetryPolicy::fixed(MINUTE).jitter(false);
    let client = network.client("ws://robot/x", WsStr).retry(retry).connect().unwrap();
    let (heard, events) = (network.record(client.clone()), network.record(client.events()));
    client.next("hello");
    network.advance(HOUR).await;
    assert_eq!(heard.log(), ["120s next \"hello\""]);
    let expected = ["0ns ConnectFailed", "0ns Reconnecting", "60s ConnectFailed", "60s Reconnecting", "120s Connected"];
    assert_eq!(names(events.take()), expected);
}

#[tokio::test(start_paused = true)]
async fn nothing_listens_until_a_server_does_and_no_longer_when_it_is_silenced() {
    let network = TestNetwork::new();
    let retry = RetryPolicy::fixed(SECOND).jitter(false);
    let client = network.client(ROBOT, WsStr).retry(retry).connect().unwrap();
    let heard = network.record(client.clone());
    network.advance(10 * SECOND).await;
    let server = echo_on(&network);
    client.next("a");
    network.advance(MINUTE).await;
    assert_eq!(heard.items(), ["a"]);
    network.silence(ROBOT);
    network.cut(ROBOT);
    network.advance(MINUTE).await;
    assert_eq!(server.connection_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn latency_is_the_time_of_each_way() {
    let network = TestNetwork::new();
    let _server = echo_on(&network);
    network.delay(ROBOT, 100 * SECOND / 1000);
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    let heard = network.record(client.clone());
    client.next("a");
    network.advance(SECOND).await;
    // The request and the answer, and the message and the echo.
    assert_eq!(heard.log(), ["400ms next \"a\""]);
}

#[tokio::test(start_paused = true)]
async fn stalled_connection_delivers_all_once_it_is_mended() {
    let network = TestNetwork::new();
    let _server = echo_on(&network);
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    let heard = network.record(client.clone());
    network.advance(SECOND).await;
    network.stall(ROBOT);
    (0..3).for_each(|n| client.next(n.to_string()));
    network.advance(5 * SECOND).await;
    assert!(heard.items().is_empty());
    network.mend(ROBOT);
    network.advance(SECOND).await;
    assert_eq!(heard.items(), ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn half_open_connection_is_found_by_the_heartbeat() {
    let network = TestNetwork::new();
    let _server = echo_on(&network);
    let builder = network.client(ROBOT, WsStr).ping_interval(10 * SECOND);
    let client = builder.retry(RetryPolicy::fixed(SECOND).jitter(false)).connect().unwrap();
    let events = network.record(client.events());
    network.advance(MINUTE).await;
    assert_eq!(names(events.take()).len(), 1, "it is connected");
    network.half_open(ROBOT);
    network.advance(5 * MINUTE).await;
    network.mend(ROBOT);
    network.advance(MINUTE).await;
    let told = events.take();
    let disconnected = told.iter().find_map(|(time, noted)| match noted {
        rxplus::testing::Noted::Next(ClientEvent::Disconnected { error: Some(error), .. }) => {
            Some((*time, error.clone()))
        }
        _ => None,
    });
    let (time, error) = disconnected.unwrap();
    assert!(time < 2 * MINUTE, "{time:?} {error}");
    assert_eq!(names(told).last().map(|last| last.ends_with(" Connected")), Some(true));
}

#[tokio::test(start_paused = true)]
async fn garbage_for_an_answer_is_a_failed_attempt() {
    let network = TestNetwork::new();
    let _server = echo_on(&network);
    network.garble(ROBOT, 1);
    let client = network.client(ROBOT, WsStr).retry(RetryPolicy::fixed(SECOND).jitter(false)).connect().unwrap();
    let events = network.record(client.events());
    network.advance(MINUTE).await;
    assert_eq!(names(events.take()), ["0ns ConnectFailed", "0ns Reconnecting", "1s Connected"]);
}

#[tokio::test(start_paused = true)]
async fn group_is_on_the_network_too() {
    let network = TestNetwork::new();
    let _server = echo_on(&network);
    let group = network.group(ROBOT, WsStr).build().unwrap();
    let heard = network.record(group.clone());
    group.next(TaggedData::new("/a", "1"));
    group.next(TaggedData::new("/b", "2"));
    network.advance(SECOND).await;
    let mut items: Vec<_> = heard.items().iter().map(|item| format!("{}{}", item.tag, item.data)).collect();
    items.sort();
    assert_eq!(items, ["/a1", "/b2"]);
}
