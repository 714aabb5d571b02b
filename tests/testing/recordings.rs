//! Recordings, schedulers and scripted peers.

use super::*;

#[tokio::test(start_paused = true)]
async fn operators_with_times_run_on_the_paused_clock() {
    let network = TestNetwork::new();
    let subject = SerializedSubject::<u32>::new();
    let source = Io::from_parts(subject.clone(), IoScheduler::on(network.runtime()));
    let heard = network.record(source.debounce(SECOND));
    subject.next(1);
    network.advance(SECOND / 2).await;
    subject.next(2);
    network.advance(HOUR).await;
    subject.next(3);
    subject.complete();
    network.advance(SECOND).await;
    assert_eq!(heard.log(), ["1.5s next 2", "3600.5s next 3", "3600.5s complete"]);
}

#[tokio::test(start_paused = true)]
async fn peer_is_played_by_the_test() {
    let network = TestNetwork::new();
    let mut listener = network.listener("ws://prices");
    let client = network.client("ws://prices/eur", WsStr).retry(RetryPolicy::fixed(SECOND).jitter(false));
    let client = client.greeting(|_| ["subscribe"]).connect().unwrap();
    let (heard, events) = (network.record(client.clone()), network.record(client.events()));
    let mut peer = listener.accept().await;
    peer.expect("subscribe").await;
    peer.send("1.1").await;
    peer.close(1012, "an update").await;
    let mut peer = listener.accept().await;
    peer.expect("subscribe").await;
    peer.send("1.2").await;
    network.advance(SECOND).await;
    assert_eq!(heard.items(), ["1.1", "1.2"]);
    let closed = events.take().into_iter().find_map(|(_, noted)| match noted {
        rxplus::testing::Noted::Next(ClientEvent::Disconnected { code, reason, .. }) => {
            Some((code, reason.to_string()))
        }
        _ => None,
    });
    assert_eq!(closed, Some((1012, "an update".into())));
}

#[tokio::test(start_paused = true)]
async fn error_that_ends_a_client_is_recorded() {
    let network = TestNetwork::new();
    let retry = RetryPolicy::fixed(MINUTE).jitter(false).max_retries(2);
    let client = network.client(ROBOT, WsStr).retry(retry).connect().unwrap();
    let heard = network.record(client.clone());
    network.advance(HOUR).await;
    assert_eq!(heard.log(), ["120s error gave up connecting to ws://robot:80/ after 3 attempts"]);
}
