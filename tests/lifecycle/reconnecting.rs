//! Rules 7, 8 and 15: when a client tries again, and with what.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::{
    refusals::{AT_ONCE, NEVER, reconnecting, refusing_server},
    *,
};

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
    let attempts = [(); 4].map(|()| reconnecting(&events).0);
    client.complete();
    attempts
}

#[test]
fn server_that_says_one_word_and_hangs_up_has_proved_nothing() {
    assert_eq!(attempts_at(&[], NEVER), [1, 2, 3, 4]);
    assert_eq!(attempts_at(&["not you"], NEVER), [1, 2, 3, 4]);
    assert_eq!(attempts_at(&["not you"], Duration::ZERO), [1, 1, 1, 1]);
}

/// A client that comes back at once, and takes every connection for a good one.
fn hasty_client(proxy: &Proxy) -> RxWsClient<WsStr> {
    let builder = RxWsClient::builder(proxy.url("/"), WsStr).conn_retry_timeout(AT_ONCE);
    builder.min_uptime(Duration::ZERO).connect().unwrap()
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
        assert_eq!(reconnecting(&events).0, 1);
    }
    client.complete();
    server.complete();
}

#[test]
fn connect_timeout_is_its_own_and_not_the_retry_delay() {
    let server = raw_server(|_, mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr)
        .conn_retry_timeout(NEVER)
        .connect_timeout(Duration::from_millis(50))
        .connect()
        .unwrap();
    let events = Recorder::on(client.events());
    assert!(matches!(
        events.item(),
        ClientEvent::ConnectFailed { error: WsError::HandshakeTimedOut { after, .. }, .. } if after.as_millis() == 50
    ));
    client.complete();
}

#[test]
fn reconnect_cuts_a_wait_short_from_within_the_callback_that_tells_of_it() {
    let server = foreign_server(|number, mut peer| match number {
        0..3 => drop(peer),
        _ => while peer.read().is_ok() {},
    });
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).conn_retry_timeout(NEVER).connect().unwrap();
    let events = Recorder::on(client.events());
    let again = client.clone();
    client.state().subscribe(move |state| {
        if matches!(state, ConnectionState::Reconnecting { .. }) {
            again.reconnect();
        }
    });
    for _ in 0..4 {
        events.find(|event| matches!(event, ClientEvent::Connected { .. }).then_some(()));
    }
    client.complete();
}

/// Whether a client that would wait for ever comes back when `reconnect()` is called by whoever hears what is `wanted`.
fn comes_back(server: SocketAddr, wanted: fn(&ClientEvent) -> bool, wanted_state: Option<ConnectionState>) {
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).conn_retry_timeout(NEVER).connect().unwrap();
    let (by_event, by_state) = (client.clone(), client.clone());
    client.events().subscribe(move |event| {
        if wanted(&event) {
            by_event.reconnect()
        }
    });
    client.state().subscribe(move |state| {
        if Some(state) == wanted_state {
            by_state.reconnect()
        }
    });
    client.wait_connected(PATIENCE).unwrap();
    until("the second connection", || client.stats().reconnects == 1);
    client.complete();
}

#[test]
fn reconnect_asked_for_when_a_loss_is_told_is_remembered() {
    let hangs_up_once = || {
        foreign_server(|number, mut peer| match number {
            0 => close(peer, 1000),
            _ => while peer.read().is_ok() {},
        })
    };
    comes_back(hangs_up_once(), |event| matches!(event, ClientEvent::Disconnected { .. }), None);
    comes_back(hangs_up_once(), |_| false, Some(ConnectionState::Disconnected));
    comes_back(hangs_up_once(), |event| matches!(event, ClientEvent::Reconnecting { .. }), None);
}

#[test]
fn reconnect_asked_for_when_a_failed_attempt_is_told_is_remembered() {
    let client = RxWsClient::builder(format!("ws://{}", refusing_server("500 No", "")), WsStr)
        .conn_retry_timeout(NEVER)
        .connect()
        .unwrap();
    let (again, events) = (client.clone(), Recorder::on(client.events()));
    client.events().subscribe(move |event| {
        if matches!(event, ClientEvent::ConnectFailed { .. }) {
            again.reconnect()
        }
    });
    for expected in 0..4 {
        let failed = events.find(|event| match event {
            ClientEvent::ConnectFailed { attempt, .. } => Some(attempt),
            _ => None,
        });
        assert_eq!(failed, expected);
    }
    client.complete();
}

#[test]
fn reconnect_asked_for_by_the_last_message_of_a_connection_is_remembered() {
    let server = foreign_server(|number, mut peer| {
        peer.send("good bye".into()).unwrap();
        if number < 3 { close(peer, 1000) } else { while peer.read().is_ok() {} }
    });
    for threads in [1, 2] {
        let runtime = IoRuntime::with_threads("threads", threads).unwrap();
        let builder = RxWsClient::builder(format!("ws://{server}"), WsStr).runtime(&runtime);
        let client = builder.conn_retry_timeout(NEVER).connect().unwrap();
        let (again, heard) = (client.clone(), Recorder::on(client.clone()));
        client.clone().log_errors().subscribe(move |_| again.reconnect());
        for _ in 0..3 {
            assert_eq!(heard.item(), "good bye");
        }
        client.complete();
    }
}

#[test]
fn wait_connected_after_reconnect_waits_for_the_new_connection() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let client = support::connected(&server, "/", WsStr);
    let mut last = connections.item();
    for _ in 0..50 {
        client.reconnect();
        client.wait_connected(PATIENCE).unwrap();
        let next = connections.item();
        assert!(next.id() > last.id());
        last = next;
        assert!(connections.rest().is_empty());
    }
    client.complete();
    server.complete();
}

#[test]
fn reconnect_drops_the_connection_and_makes_another_at_once() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).conn_retry_timeout(NEVER).connect().unwrap();
    let (events, heard) = (Recorder::on(client.events()), Recorder::on(client.clone()));
    for text in ["one", "two", "three"] {
        events.find(|event| matches!(event, ClientEvent::Connected { .. }).then_some(()));
        client.next(text);
        assert_eq!(heard.item(), text);
        client.reconnect();
        let error = events.find(|event| match event {
            ClientEvent::Disconnected { error, .. } => Some(error),
            _ => None,
        });
        assert!(matches!(error, Some(WsError::Cut(_))), "{error:?}");
    }
    client.complete();
    server.complete();
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

#[test]
fn peer_that_falls_silent_is_gone_after_interval_and_timeout_on_both_sides() {
    let (interval, timeout) = (Duration::from_millis(100), Duration::from_millis(100));
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(interval).ping_timeout(timeout);
    let server = server.bind().unwrap();
    let proxy = Proxy::to(server.local_addr());
    let client = RxWsClient::builder(proxy.url("/"), WsStr).ping_interval(interval).ping_timeout(timeout);
    let client = client.connect().unwrap();
    let (at_client, at_server) = (Recorder::on(client.events()), Recorder::on(server.events()));
    client.wait_connected(PATIENCE).unwrap();
    proxy.silence(true);
    at_client.find(|event| match event {
        ClientEvent::Disconnected { code, error, .. } => {
            assert!(code == 1006 && matches!(error, Some(WsError::PeerGone { .. })), "{code} {error:?}");
            Some(())
        }
        _ => None,
    });
    at_server.find(|event| match event {
        ServerEvent::Disconnected { error, .. } => {
            assert!(matches!(error, Some(WsError::PeerGone { .. })), "{error:?}");
            Some(())
        }
        _ => None,
    });
    client.complete();
    server.complete();
}

#[test]
fn peer_that_only_answers_pings_late_stays() {
    let interval = Duration::from_millis(50);
    let server = echo_server(WsStr);
    let proxy = Proxy::to(server.local_addr());
    let client = RxWsClient::builder(proxy.url("/"), WsStr).ping_interval(interval).ping_timeout(PATIENCE).connect();
    let client = client.unwrap();
    let heard = Recorder::on(client.clone());
    client.wait_connected(PATIENCE).unwrap();
    proxy.delay(4 * interval);
    client.next("through");
    assert_eq!(heard.item(), "through");
    assert_eq!(client.stats().reconnects, 0);
    client.complete();
    server.complete();
}

#[test]
fn client_whose_link_is_refused_keeps_what_is_pushed_and_sends_it_when_it_is_let_in_again() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone().untag());
    let proxy = Proxy::to(server.local_addr());
    let client = hasty_client(&proxy);
    let events = Recorder::on(client.events());
    for round in 0..3 {
        client.wait_connected(PATIENCE).unwrap();
        proxy.refuse(true);
        proxy.end(End::Reset);
        events.find(|event| matches!(event, ClientEvent::Disconnected { code: 1006, .. }).then_some(()));
        let error = events.find(|event| match event {
            ClientEvent::ConnectFailed { attempt: 2, error } => Some(error),
            _ => None,
        });
        assert!(matches!(error, WsError::Connect { .. }), "{error:?}");
        (0..100).for_each(|number| client.send(format!("{round} {number}")).unwrap());
        assert_eq!(client.stats().sent.queued.messages, 100);
        proxy.refuse(false);
        assert_eq!(heard.items(100), (0..100).map(|number| format!("{round} {number}")).collect::<Vec<_>>());
    }
    client.clone().complete();
    assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    assert_eq!((client.stats().reconnects, proxy.links()), (3, 4));
    server.complete();
}

#[test]
#[expect(clippy::result_large_err, reason = "tungstenite wants it")]
fn children_of_a_group_are_opened_and_closed_side_by_side() {
    const CHILDREN: usize = 8;
    // Nobody's handshake is answered before all have asked for it, neither the opening nor the closing one.
    let all = Arc::new(std::sync::Barrier::new(CHILDREN));
    let server = raw_server(move |_, stream| {
        let opening = |_: &_, response| {
            all.wait();
            Ok(response)
        };
        let mut peer = tungstenite::accept_hdr(stream, opening).unwrap();
        while !read(&mut peer).is_close() {}
        all.wait();
        while peer.read().is_ok() {}
    });
    let group = RxWsClientGroup::new(format!("ws://{server}"), WsStr).unwrap();
    let events = Recorder::on(group.events());
    (0..CHILDREN).for_each(|number| drop(group.open(format!("/{number}")).unwrap()));
    for _ in 0..CHILDREN {
        events.find(|tagged| matches!(tagged.data, ClientEvent::Connected { attempt: 0, .. }).then_some(()));
    }
    group.complete();
    for _ in 0..CHILDREN {
        let (code, error) = events.find(|tagged| match tagged.data {
            ClientEvent::Disconnected { code, error, .. } => Some((code, error)),
            _ => None,
        });
        assert!(code == 1000 && error.is_none(), "{code} {error:?}");
    }
    assert!(events.to_the_end().1.is_complete());
}

#[test]
fn group_lives_on_when_a_child_fails_and_opens_it_afresh() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).paths(["/good"]).bind().unwrap();
    let heard_by_server = Recorder::on(server.clone());
    let policy = RetryPolicy::exponential().on_rejected(OnRejected::GiveUp);
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr)
        .retry(policy)
        .request(move |request| {
            count.fetch_add(usize::from(request.endpoint().as_path() == "/bad"), SeqCst);
            request
        })
        .build()
        .unwrap();
    let (events, heard) = (Recorder::on(group.events()), Recorder::on(group.clone()));
    for round in 1..=2 {
        group.next(TaggedData::new("/bad", "lost"));
        let error = events.find(|tagged| match tagged.data {
            ClientEvent::Failed { error } if tagged.tag == "/bad" => Some(error),
            _ => None,
        });
        assert!(matches!(error, WsError::RetriesExhausted { .. }));
        assert_eq!(asked.load(SeqCst), round);
        group.next(TaggedData::new("/good", "heard"));
        assert_eq!(heard_by_server.item().data, "heard");
        until("forgetting", || group.paths() == ["/good"]);
    }
    assert_eq!(group.stats().all.sent.dropped.closed, tally(2, 8));
    group.complete();
    assert_eq!(heard.to_the_end().1, Heard::Complete);
    server.complete();
}
