//! Rule 7: when a client tries again, at the exact times.

use super::*;

/// When a client connected in vain, with the number of the attempt.
fn attempts(events: &rxplus::testing::Recording<ClientEvent>) -> Vec<(Duration, u32, WsError)> {
    let attempt = |(time, noted)| match noted {
        rxplus::testing::Noted::Next(ClientEvent::ConnectFailed { attempt, error }) => Some((time, attempt, error)),
        _ => None,
    };
    events.take().into_iter().filter_map(attempt).collect()
}

#[tokio::test(start_paused = true)]
async fn conn_retry_timeout_is_the_delay_of_every_attempt() {
    let network = TestNetwork::new();
    let client = network.client(ROBOT, WsStr).conn_retry_timeout(3 * SECOND).connect().unwrap();
    let events = network.record(client.events());
    network.advance(HOUR).await;
    let failed = attempts(&events).into_iter().map(|(time, number, _)| (time, number));
    assert_eq!(failed.collect::<Vec<_>>(), (0..1200).map(|n| (n * 3 * SECOND, n)).collect::<Vec<_>>());
    client.complete();
}

#[tokio::test(start_paused = true)]
async fn server_that_hangs_up_at_once_is_not_hammered() {
    let network = TestNetwork::new();
    let mut listener = network.listener(ROBOT);
    let retry = RetryPolicy::exponential().base_delay(SECOND).jitter(false).max_retries(5);
    let client = network.client(ROBOT, WsStr).retry(retry).connect().unwrap();
    let (heard, events) = (network.record(client.clone()), network.record(client.events()));
    let mut came = Vec::new();
    for _ in 0..6 {
        drop(listener.accept_raw().await);
        came.push(network.elapsed().as_secs());
    }
    network.advance(HOUR).await;
    assert_eq!(came, [0, 1, 3, 7, 15, 31], "waits of 1, 2, 4, 8 and 16 seconds");
    let failed = attempts(&events).into_iter().map(|(time, number, _)| (time.as_secs(), number));
    assert_eq!(failed.collect::<Vec<_>>(), came.into_iter().zip(0..).collect::<Vec<_>>());
    let log = heard.log();
    assert!(log.len() == 1 && log[0].starts_with("31s error") && log[0].contains("after 6 attempts"), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_is_its_own_and_not_the_retry_delay() {
    let network = TestNetwork::new();
    let mut listener = network.listener(ROBOT);
    let builder = network.client(ROBOT, WsStr).conn_retry_timeout(HOUR).connect_timeout(5 * SECOND);
    let client = builder.connect().unwrap();
    let events = network.record(client.events());
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(listener.accept_raw().await);
        network.advance(MINUTE).await;
    }
    let failed = attempts(&events);
    let is_timeout =
        |error: &WsError| matches!(error, WsError::HandshakeTimedOut { after, .. } if *after == 5 * SECOND);
    assert!(failed.iter().all(|(_, _, error)| is_timeout(error)), "{failed:?}");
    let times: Vec<_> = failed.into_iter().map(|(time, ..)| time).collect();
    assert_eq!(times, [5 * SECOND, HOUR + 10 * SECOND]);
    client.complete();
}
