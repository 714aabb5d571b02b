//! Rule 7: what a client does after a server that refuses it, or closes.

use std::io::{Read, Write};

use super::*;

/// A delay around the longest one, which is [`NEVER`].
fn is_late(delay: Duration) -> bool {
    (NEVER / 2..=NEVER).contains(&delay)
}

/// A client with a policy of its own, and what it tells.
fn client_of(server: SocketAddr, policy: RetryPolicy) -> (RxWsClient<WsStr>, Recorder<ClientEvent>) {
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).retry(policy).connect().unwrap();
    let events = Recorder::on(client.events());
    (client, events)
}

/// The first delay is one of next to nothing, the longest one of an hour.
fn policy() -> RetryPolicy {
    RetryPolicy::exponential().first_delay(AT_ONCE).max_delay(NEVER)
}

/// A server that answers every request with a status line, and the header lines of `more`.
pub(crate) fn refusing_server(status: impl Into<String>, more: &'static str) -> SocketAddr {
    let status = status.into();
    raw_server(move |_, mut stream| {
        let mut request = [0; 4096];
        if stream.read(&mut request).is_ok() {
            let _ = write!(stream, "HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.read(&mut request);
        }
    })
}

/// The wait after an answer.
fn delay_after(status: impl Into<String>, more: &'static str, policy: RetryPolicy) -> Duration {
    let (client, events) = client_of(refusing_server(status, more), policy);
    let (_, delay) = next_attempt(&events);
    client.complete();
    delay
}

/// The wait after a connection that the server closed with `code`.
fn delay_after_close(code: u16, policy: RetryPolicy) -> Duration {
    let (client, events) = client_of(foreign_server(move |_, peer| close(peer, code)), policy);
    let (_, delay) = next_attempt(&events);
    client.complete();
    delay
}

#[test]
fn close_code_decides_how_soon_to_try_again() {
    for code in [1000, 1001, 1011, 1012, 1013, 4000] {
        assert_eq!(delay_after_close(code, policy()), AT_ONCE, "after {code}");
    }
    assert!(is_late(delay_after_close(1008, policy())));
}

#[test]
fn policy_violation_ends_a_client_that_is_to_give_up() {
    let server = foreign_server(|_, peer| close(peer, 1008));
    let (client, events) = client_of(server, RetryPolicy::exponential().on_rejected(OnRejected::GiveUp));
    assert!(matches!(Recorder::on(client).to_the_end().1, Heard::Error(error) if error.contains("gave up")));
    let (events, _) = events.to_the_end();
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Disconnected { code: 1008, .. })));
    let failed = |event: &ClientEvent| matches!(event, ClientEvent::Failed { error: WsError::RetriesExhausted { .. } });
    assert!(events.iter().any(failed));
}

#[test]
fn http_status_decides_how_soon_to_try_again_and_is_told_at_once() {
    let (late, soon) = ([400, 401, 403, 404, 410], [408, 425, 429, 500, 503]);
    for status in late.into_iter().chain(soon) {
        let (client, events) = client_of(refusing_server(format!("{status} No"), ""), policy());
        assert!(
            matches!(events.item(), ClientEvent::ConnectFailed { attempt: 0, error: WsError::Rejected { status: told, .. } }
                if told == status)
        );
        let ClientEvent::Reconnecting { attempt: 1, delay } = events.item() else { panic!("no wait after {status}") };
        assert!(if late.contains(&status) { is_late(delay) } else { delay == AT_ONCE }, "{delay:?} after {status}");
        client.complete();
    }
}

#[test]
fn refused_clients_do_not_come_back_at_one_moment() {
    let server = refusing_server("401 No", "");
    let mut delays: Vec<_> = (0..8)
        .map(|_| {
            let (client, events) = client_of(server, policy());
            let (_, delay) = next_attempt(&events);
            client.complete();
            delay
        })
        .collect();
    delays.sort_unstable();
    delays.dedup();
    assert_eq!(delays.len(), 8, "{delays:?}");
}

#[test]
fn wait_that_a_server_asks_for_is_kept() {
    let secs = |secs| Duration::from_secs(secs);
    for status in ["429 Slow down", "503 Busy", "500 No", "302 Elsewhere"] {
        let delay = delay_after(status, "Retry-After: 100\r\n", policy().base_delay(secs(1)));
        assert!((secs(100)..=secs(125)).contains(&delay), "{delay:?} after {status}");
    }
    let in_a_minute = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n";
    let delay = delay_after("503 Busy", in_a_minute, policy().base_delay(secs(1)));
    assert!((secs(60)..=secs(75)).contains(&delay), "{delay:?}");
    let delay = delay_after("429 Slow down", "Retry-After: 100\r\n", policy().max_retry_after(secs(10)).jitter(false));
    assert_eq!(delay, secs(10));
    assert_eq!(delay_after("429 Slow down", "Retry-After: soon\r\n", policy()), AT_ONCE);
}

#[test]
fn close_code_of_the_programs_own_ends_the_retrying_or_goes_on_with_it() {
    let client_that = |decide: fn(u16, &str) -> Option<OnClose>, code| {
        let server = foreign_server(move |_, peer| close(peer, code));
        let builder = RxWsClient::builder(format!("ws://{server}"), WsStr).retry(policy()).on_close(decide);
        let client = builder.connect().unwrap();
        (Recorder::on(client.events()), client)
    };
    let (events, client) = client_that(|code, _| (code == 4001).then_some(OnClose::GiveUp), 4001);
    client.wait_closed(PATIENCE).unwrap();
    let failed = |event: &ClientEvent| matches!(event, ClientEvent::Failed { error: WsError::RetriesExhausted { .. } });
    assert!(events.to_the_end().0.iter().any(failed));

    let delay = |decide, code| {
        let (events, client) = client_that(decide, code);
        let (_, delay) = next_attempt(&events);
        client.complete();
        delay
    };
    assert!(is_late(delay(|_, _| Some(OnClose::RetryAtMaxDelay), 4001)));
    assert_eq!(delay(|_, _| Some(OnClose::Retry), 1008), AT_ONCE);
    // What is left open is left to the policy, and so is what a function that panics leaves open.
    assert!(is_late(delay(|_, _| None, 1008)));
    assert!(is_late(delay(|_, _| panic!("no idea"), 1008)));
}

#[test]
fn function_for_close_codes_may_return_a_bare_decision() {
    let server = foreign_server(|_, peer| close(peer, 4001));
    let group = RxWsClientGroup::builder(format!("ws://{server}"), WsStr)
        .on_close(|code, reason| match (code, reason) {
            (4001, "") => OnClose::GiveUp,
            _ => OnClose::Retry,
        })
        .build()
        .unwrap();
    let events = Recorder::on(group.events());
    group.open("/a").unwrap();
    events.find(|told| matches!(told.data, ClientEvent::Failed { .. }).then_some(()));
    group.complete();
}

#[test]
fn answer_that_will_not_change_ends_a_client_that_is_to_give_up() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).paths(["/served"]).bind().unwrap();
    let retry = RetryPolicy::exponential().on_rejected(OnRejected::GiveUp);
    let client = RxWsClient::builder(url(&server, "/unknown"), WsStr).retry(retry).connect().unwrap();
    let error = client.wait_connected(PATIENCE).unwrap_err();
    let WsError::RetriesExhausted { attempts: 1, source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**source, WsError::Rejected { status: 404, .. }), "{error:?}");
    assert!(chain(&error).contains("it does not serve this path"), "{error}");
}

#[test]
fn server_that_speaks_no_websocket_is_told_as_such() {
    let server = ForeignServer::start();
    let client = client_at(&server.url());
    let events = Recorder::on(client.events());
    std::io::Write::write_all(&mut server.accept_tcp(), b"220 mail.example ESMTP\r\n").unwrap();
    let error = events.find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    });
    assert!(matches!(error, WsError::Handshake { .. }), "{error:?}");
}
