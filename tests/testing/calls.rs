//! Calls: when they end, and what becomes of them in the resumable mode.

use super::*;

fn number(text: &WsText) -> Option<u64> {
    text.split_once(' ')?.0.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn call_without_a_reply_ends_at_its_timeout_and_a_late_reply_answers_no_other() {
    let network = TestNetwork::new();
    let mut listener = network.listener(ROBOT);
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    let everything = network.record(client.clone());
    let mut peer = listener.accept().await;
    let calls = client.calls(number);
    let slow = network.record(calls.clone().timeout(5 * SECOND).call(|id| format!("{id} slow")));
    let quick = network.record(calls.clone().timeout(2 * SECOND).call(|id| format!("{id} quick")));
    let usual = network.record(calls.call(|id| format!("{id} usual")));
    network.advance(MINUTE).await;
    let late = |limit| format!("{limit}s error the reply to a call did not happen within {limit}s");
    assert_eq!((slow.log(), quick.log(), usual.log()), (vec![late(5)], vec![late(2)], vec![late(30)]));
    assert_eq!(calls.pending(), 0);
    let next = network.record(calls.call(|id| format!("{id} next")));
    for reply in ["1 slow", "2 quick", "3 usual", "4 next"] {
        peer.send(reply).await;
    }
    network.advance(SECOND).await;
    assert_eq!(next.log(), ["60s next \"4 next\"", "60s complete"]);
    assert_eq!(everything.items().len(), 4, "subscribers hear the late ones");
}

#[tokio::test(start_paused = true)]
async fn one_call_after_the_other_keeps_its_own_time() {
    let network = TestNetwork::new();
    let server = echo_on(&network);
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    let calls = client.calls(number).timeout(10 * SECOND);
    for n in 1..=100 {
        network.advance(SECOND).await;
        assert_eq!(calls.call(|id| format!("{id} x")).await.unwrap(), format!("{n} x"));
    }
    network.stall(ROBOT);
    let begun = network.elapsed();
    let error = calls.call(|id| format!("{id} y")).await.unwrap_err();
    assert!(matches!(error, WsError::TimedOut { .. }), "{error:?}");
    assert_eq!(network.elapsed() - begun, 10 * SECOND);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn call_waits_for_a_connection_as_long_as_its_timeout() {
    let network = TestNetwork::new();
    network.refuse(ROBOT, u32::MAX);
    let retry = RetryPolicy::fixed(SECOND).jitter(false);
    let client = network.client(ROBOT, WsStr).retry(retry).connect().unwrap();
    let calls = client.calls(number).timeout(MINUTE);
    let (first, second) =
        (calls.call(|id| format!("{id} first")), calls.clone().timeout(HOUR).call(|id| format!("{id} second")));
    let first = network.record(first);
    network.advance(2 * MINUTE).await;
    assert_eq!(first.log(), ["60s error the reply to a call did not happen within 60s"]);
    let _server = echo_on(&network);
    network.refuse(ROBOT, 0);
    assert_eq!(second.await.unwrap(), "2 second");
}

/// A resumable client, and its connection at the server, which the test plays.
async fn resumable(network: &TestNetwork, resume: Resume) -> (RxWsServer<WsStr>, RxWsClient<WsStr>, Connection<WsStr>) {
    let builder = RxWsServer::unbound(WsStr).resumable(Resume::new());
    let server = network.server(ROBOT, builder).unwrap();
    let connections = network.record(server.connections());
    let retry = RetryPolicy::fixed(SECOND).jitter(false);
    let client = network.client(ROBOT, WsStr).resumable(resume).retry(retry).connect().unwrap();
    network.advance(SECOND).await;
    let connection = connections.items().pop().expect("the client has connected");
    (server, client, connection)
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_session_outlive_its_links() {
    let network = TestNetwork::new();
    let (server, client, connection) = resumable(&network, Resume::new()).await;
    let requests = network.record(connection.clone());
    let calls = client.calls(number).timeout(HOUR);
    let before = calls.call(|id| format!("{id} before"));
    network.advance(5 * SECOND).await;
    network.refuse(ROBOT, u32::MAX);
    network.cut(ROBOT);
    network.advance(SECOND).await;
    let meanwhile = calls.call(|id| format!("{id} meanwhile"));
    connection.next("1 answer");
    network.refuse(ROBOT, 0);
    assert_eq!(before.await.unwrap(), "1 answer");
    network.advance(SECOND).await;
    assert_eq!(requests.items(), ["1 before", "2 meanwhile"], "each once");
    connection.next("2 answer");
    assert_eq!(meanwhile.await.unwrap(), "2 answer");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn calls_that_were_written_end_with_their_session_and_the_others_go_on() {
    let network = TestNetwork::new();
    let (server, client, _) = resumable(&network, Resume::new()).await;
    let calls = client.calls(number).timeout(HOUR);
    let acknowledged = calls.call(|id| format!("{id} acknowledged"));
    network.advance(5 * SECOND).await;
    network.half_open(ROBOT);
    let unconfirmed = calls.call(|id| format!("{id} unconfirmed"));
    let again = calls.clone().resend_unconfirmed().call(|id| format!("{id} again"));
    network.advance(SECOND).await;
    network.refuse(ROBOT, u32::MAX);
    network.cut(ROBOT);
    network.mend(ROBOT);
    let queued = calls.call(|id| format!("{id} queued"));
    // Longer than the server remembers that there was such a session.
    network.advance(20 * MINUTE).await;
    assert_eq!(calls.pending(), 4);
    server.clone().log_errors().subscribe_with(server.clone());
    network.refuse(ROBOT, 0);
    for lost in [acknowledged, unconfirmed] {
        let error = lost.await.unwrap_err();
        assert!(matches!(error, WsError::Unanswered { .. }), "{error:?}");
    }
    assert_eq!(queued.await.unwrap(), "4 queued");
    assert_eq!(again.await.unwrap(), "3 again");
}

#[tokio::test(start_paused = true)]
async fn plain_call_ends_with_its_link_and_not_with_its_timeout() {
    let network = TestNetwork::new();
    let mut listener = network.listener(ROBOT);
    let client = network.client(ROBOT, WsStr).connect().unwrap();
    let calls = client.calls(number);
    let (_peer, call) = (listener.accept().await, network.record(calls.call(|id| format!("{id} x"))));
    network.advance(SECOND).await;
    network.cut(ROBOT);
    network.advance(SECOND / 2).await;
    let log = call.log();
    assert!(log.len() == 1 && log[0].starts_with("1s error") && log[0].contains("lost the connection"), "{log:?}");
}
