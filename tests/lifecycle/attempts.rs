//! Rule 7: how often a client tries, after which delays, with which request, and when it gives up.

use super::*;

#[test]
fn client_keeps_trying_until_the_server_is_there() {
    let address = free_address(&host_of_its_own(1));
    let client = client_at(&address);
    let (heard, events) = (Recorder::on(client.clone()), Recorder::on(client.events()));
    for attempt in 0..3 {
        let (number, error) = events.find(|event| match event {
            ClientEvent::ConnectFailed { attempt, error } => Some((attempt, error)),
            _ => None,
        });
        assert_eq!(number, attempt);
        assert!(matches!(error, WsError::Connect { .. }), "{error:?}");
        assert!(chain(&error).contains("is a server listening there?"), "{error}");
    }
    client.next("hello");
    let server = returned_at(&address);
    assert_eq!(heard.item(), "hello");
    server.complete();
}

#[test]
fn server_that_closes_at_once_is_not_hammered() {
    let server = ForeignServer::start();
    let retry = RetryPolicy::exponential().base_delay(AT_ONCE).jitter(false).max_retries(3);
    let client = RxWsClient::builder(server.url(), WsStr).retry(retry).connect().unwrap();
    let heard = Recorder::on(client.clone());
    for _ in 0..4 {
        let mut peer = server.accept();
        peer.close(None).unwrap();
        while peer.read().is_ok() {}
    }
    assert!(matches!(heard.hear(), Heard::Error(error) if error.contains("after 4 attempts")));
}

#[test]
fn client_gives_up_when_its_retries_are_used_up() {
    let server = raw_server(|_, stream| drop(stream));
    let policy = RetryPolicy::fixed(AT_ONCE).max_retries(2);
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).retry(policy).connect().unwrap();
    let (events, heard) = (Recorder::on(client.events()), Recorder::on(client.clone()));
    client.next("never sent");
    assert!(matches!(heard.to_the_end().1, Heard::Error(error) if error.contains("after 3 attempts")));
    let (events, _) = events.to_the_end();
    let attempts = events.iter().filter_map(|event| match event {
        ClientEvent::ConnectFailed { attempt, .. } => Some(*attempt),
        _ => None,
    });
    assert_eq!(attempts.collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(announced_by_client(&events).0, tally(1, 10));
    assert_eq!(client.wait_closed(PATIENCE).unwrap().unsent, 1);
}

#[test]
fn client_gives_up_when_its_time_is_used_up() {
    let server = raw_server(|_, stream| drop(stream));
    let policy = RetryPolicy::fixed(AT_ONCE).max_elapsed(Duration::from_millis(50));
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).retry(policy).connect().unwrap();
    assert!(matches!(Recorder::on(client).to_the_end().1, Heard::Error(error) if error.contains("gave up")));
}

/// The counts of failed attempts that a client tells of whose server says `words` and hangs up.
fn attempts_at(words: &'static [&'static str], min_uptime: Duration) -> [u32; 4] {
    let server = foreign_server(move |_, mut peer| {
        words.iter().for_each(|word| peer.send((*word).into()).unwrap());
        close(peer, 1000);
    });
    let policy = RetryPolicy::fixed(AT_ONCE).first_delay(Duration::ZERO);
    let builder = RxWsClient::builder(format!("ws://{server}"), WsStr).retry(policy).min_uptime(min_uptime);
    let client = builder.connect().unwrap();
    let events = Recorder::on(client.events());
    let attempts = [(); 4].map(|()| next_attempt(&events).0);
    client.complete();
    attempts
}

#[test]
fn server_that_says_one_word_and_hangs_up_has_proved_nothing() {
    assert_eq!(attempts_at(&[], NEVER), [1, 2, 3, 4]);
    assert_eq!(attempts_at(&["not you"], NEVER), [1, 2, 3, 4]);
    assert_eq!(attempts_at(&["not you"], Duration::ZERO), [1, 1, 1, 1]);
}

#[test]
fn time_alone_proves_a_connection_too() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let proxy = Proxy::to(server.local_addr());
    let client = hasty_client(&proxy);
    let events = Recorder::on(client.events());
    for _ in 0..3 {
        events.find(|event| matches!(event, ClientEvent::Connected { .. }).then_some(()));
        proxy.end(End::Reset);
        assert_eq!(next_attempt(&events).0, 1);
    }
    client.complete();
    server.complete();
}

#[test]
fn server_silent_in_the_handshake_is_left_after_the_connect_timeout() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr).connect_timeout(Duration::from_millis(50));
    let client = client.greeting(|_| ["hello"]).conn_retry_timeout(AT_ONCE).connect().unwrap();
    let events = Recorder::on(client.events());
    let _silent = server.accept_tcp();
    let error = events.find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    });
    assert!(matches!(error, WsError::HandshakeTimedOut { .. }), "{error:?}");
    // On a busy machine an attempt may time out that would have been answered.
    while !tungstenite::accept(server.accept_tcp()).is_ok_and(|mut peer| peer.read().is_ok()) {}
}

#[test]
fn request_is_called_before_every_attempt_and_may_change_all_of_it() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).subprotocols(["v2"]).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let there = url(&server, "/chat?room=7");
    let client = RxWsClient::builder("ws://127.0.0.1:9/elsewhere", WsStr)
        .header("Authorization", "stale")
        .conn_retry_timeout(AT_ONCE)
        .request(move |request| {
            assert_eq!(request.endpoint().as_path(), "/elsewhere");
            let token = format!("token {}", request.attempt());
            let request = request.header("Authorization", token).subprotocols(["v2"]);
            match request.attempt() {
                0 => request,
                1 => request.url("not an address"),
                2 => request.header("not a header", ""),
                3 => panic!("no token to be had"),
                _ => request.url(there.as_str()),
            }
        })
        .connect()
        .unwrap();
    let events = Recorder::on(client.events());
    let connection = connections.item();
    assert_eq!(
        (&**connection.path(), connection.query(), connection.subprotocol()),
        ("/chat", Some("room=7"), Some("v2"))
    );
    let tokens: Vec<_> = connection.headers().get_all("authorization").iter().collect();
    assert_eq!(tokens, ["token 4"]);
    let errors = [(); 4].map(|()| {
        events.find(|event| match event {
            ClientEvent::ConnectFailed { error, .. } => Some(error),
            _ => None,
        })
    });
    assert!(
        matches!(
            &errors,
            [WsError::Connect { .. }, WsError::InvalidUrl { .. }, WsError::InvalidHeader(_), WsError::Application(_)]
        ),
        "{errors:?}"
    );
    client.complete();
    server.complete();
}

#[test]
fn request_of_a_group_is_called_for_each_path() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr)
        .request(|request| {
            let path = request.endpoint().as_path().to_owned();
            request.header("X-Path", path)
        })
        .build()
        .unwrap();
    for path in ["/a", "/b"] {
        group.open(path).unwrap();
        assert_eq!(connections.item().headers()["x-path"], path);
    }
    group.complete();
    server.complete();
}
