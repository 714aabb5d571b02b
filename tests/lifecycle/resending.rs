//! Rule 5: messages that wait for a link or outlive one: which are sent on the next, which are given up, and which may be lost.

use std::io::Read;

use tungstenite::protocol::CloseFrame;

use super::*;

#[test]
fn messages_pushed_before_the_first_connection_arrive_in_order() {
    let address = free_address(&host_of_its_own(4));
    let client = client_at(&address);
    texts(0..1000).into_iter().for_each(|text| client.next(text));
    let server = RxWsServer::bind(&address, WsStr).unwrap();
    assert!(Recorder::on(server.clone()).items(1000).iter().map(|tagged| &tagged.data).eq(&texts(0..1000)));
}

#[test]
fn messages_pushed_while_the_server_is_away_arrive_in_order() {
    let server = RxWsServer::bind(format!("ws://{}:0", host_of_its_own(3)), WsStr).unwrap();
    let address = url(&server, "/");
    let client = client_at(&address);
    let states = Recorder::on(client.state());
    let heard = Recorder::on(server.clone());
    client.next("before");
    assert_eq!(heard.item().data, "before");
    stop(server);
    wait_for_state(&states, is_reconnecting);
    texts(0..1000).into_iter().for_each(|text| client.next(text));
    assert_eq!(client.stats().sent.queued.messages, 1000);
    let server = RxWsServer::bind(&address, WsStr).unwrap();
    client.next("after");
    let heard = Recorder::on(server.clone());
    assert!(heard.items(1000).iter().map(|tagged| &tagged.data).eq(&texts(0..1000)));
    assert_eq!(heard.item().data, "after");
}

#[test]
fn greeting_comes_before_what_was_queued_on_every_connection() {
    let server = ForeignServer::start();
    let greeted =
        RxWsClient::builder(format!("{}/chat", server.url()), WsStr).greeting(|path| [format!("I read {path}")]);
    let client = greeted.conn_retry_timeout(Duration::from_millis(1)).connect().unwrap();
    client.next("queued");
    let mut peer = server.accept();
    assert_eq!(read(&mut peer).to_text().unwrap(), "I read /chat");
    assert_eq!(read(&mut peer).to_text().unwrap(), "queued");
    drop(peer);
    assert_eq!(read(&mut server.accept()).to_text().unwrap(), "I read /chat");
}

#[test]
fn what_is_pushed_without_a_connection_follows_the_greeting_in_order() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = RxWsClient::builder(format!("ws://{port}"), WsStr)
        .conn_retry_timeout(Duration::from_millis(1))
        .greeting(|path| [format!("hello from {path}")])
        .connect()
        .unwrap();
    (0..100).for_each(|number| client.next(number.to_string()));
    let failed = Recorder::on(client.events());
    failed.find(|event| matches!(event, ClientEvent::ConnectFailed { .. }).then_some(()));
    assert_eq!(client.stats().sent.queued.messages, 100);

    let server = RxWsServer::bind(format!("ws://{port}"), WsStr).unwrap();
    let heard = Recorder::on(server.clone().untag());
    assert_eq!(heard.item(), "hello from /");
    assert_eq!(heard.items(100), (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    client.clone().complete();
    assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    let sent = client.stats().sent;
    assert_eq!((sent.accepted.messages, sent.written.messages), (101, 101));
    server.complete();
}

#[test]
fn client_that_is_refused_sends_what_is_pushed_once_it_is_let_in() {
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
fn message_of_which_nothing_was_read_is_sent_again_whole() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsBytes).conn_retry_timeout(AT_ONCE).connect().unwrap();
    let large = vec![7; 8 * 1024 * 1024]; // more than the socket's buffers hold
    client.next(large.clone());
    drop(server.accept()); // nothing of it was read
    assert_eq!(read(&mut server.accept()).into_data(), large);
    until("the end of the writing", || client.stats().sent.queued.messages == 0);
    let sent = client.stats().sent;
    assert_eq!((sent.accepted, sent.written.messages), (sent.written, 1));
}

#[test]
fn message_cut_in_the_middle_is_sent_whole_on_the_next_link_and_once() {
    let limits = Limits::server().message_len(16 << 20);
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits).bind().unwrap();
    let heard = Recorder::on(server.clone().untag());
    for end in [End::Fin, End::Reset] {
        let proxy = Proxy::to(server.local_addr());
        let at_once = RetryPolicy::fixed(Duration::from_millis(1));
        let client = RxWsClient::builder(proxy.url("/"), WsStr).retry(at_once).connect().unwrap();
        client.wait_connected(PATIENCE).unwrap();
        // More than the system's buffers hold, so that its end has not been taken when the link is cut.
        let (long, short) = ("long ".repeat(2 << 20), "short");
        proxy.cut_after(Direction::Up, 1 << 20, end);
        client.next(long.as_str());
        client.next(short);
        assert!(heard.item() == *long && heard.item() == *short, "whole, and in order");
        client.clone().complete();
        assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
        assert_eq!((client.stats().reconnects, client.stats().sent.written.messages), (1, 2));
        assert_eq!(heard.rest(), []);
    }
    server.complete();
}

#[test]
fn unconfirmed_counts_what_may_have_been_lost() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr).ping_interval(None).connect().unwrap();
    let events = Recorder::on(client.events());
    texts(0..3).into_iter().for_each(|text| client.next(text));
    let mut peer = server.accept();
    (0..3).for_each(|_| drop(read(&mut peer)));
    drop(peer);
    let unconfirmed = events.find(|event| match event {
        ClientEvent::Disconnected { unconfirmed, .. } => Some(unconfirmed),
        _ => None,
    });
    assert_eq!(unconfirmed, 3);
}

#[test]
fn messages_before_a_ping_that_was_answered_are_confirmed() {
    let server = foreign_server(|_, mut peer| {
        let mut texts = 0;
        // Reading answers a ping. The text behind the answer says to the test that it has arrived.
        while let Ok(message) = peer.read() {
            texts += u32::from(message.is_text());
            if message.is_ping() && texts == 10 {
                peer.send("answered".into()).unwrap();
            }
            if texts == 13 {
                return;
            }
        }
    });
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).ping_interval(Duration::from_millis(5)).connect();
    let client = client.unwrap();
    let (heard, events) = (Recorder::on(client.clone()), Recorder::on(client.events()));
    (0..10).for_each(|number| client.next(number.to_string()));
    assert_eq!(heard.item(), "answered");
    (0..3).for_each(|number| client.next(number.to_string()));
    let unconfirmed = events.find(|event| match event {
        ClientEvent::Disconnected { unconfirmed, .. } => Some(unconfirmed),
        _ => None,
    });
    assert!(unconfirmed <= 3, "{unconfirmed} of 13, of which 10 were confirmed");
    client.complete();
}

/// More than the buffers of two sockets hold, so that a link ends while it is being written.
const TOO_LONG: usize = 8 * 1024 * 1024;

/// A client that comes back at once, and what it tells.
fn client_of(server: impl Into<Addr>) -> (RxWsClient<WsBytes>, Recorder<ClientEvent>) {
    let builder = RxWsClient::builder(format!("ws://{}", server.into()), WsBytes).conn_retry_timeout(AT_ONCE);
    let client = builder.connect().unwrap();
    (client.clone(), Recorder::on(client.events()))
}

/// Waits until a message is given up: its length, how many links it made end, and how the last one did.
fn given_up(events: &Recorder<ClientEvent>) -> (usize, u32, WsError) {
    events.find(|event| match event {
        ClientEvent::Undeliverable { len, links, error } => Some((len, links, error)),
        _ => None,
    })
}

fn assert_dropped(client: &RxWsClient<WsBytes>, events: &Recorder<ClientEvent>, len: usize) {
    let expected = tally(1, len as u64);
    assert!(matches!(
        events.item(),
        ClientEvent::Dropped { reason: DropReason::Undeliverable, dropped } if dropped == expected
    ));
    let sent = client.stats().sent;
    assert_eq!(sent.dropped.undeliverable, expected);
    assert_accounted(sent);
}

/// A server that takes the beginning of a message on its first `links` connections, does there what `end` says, and leaves
/// them to the test; on later ones it takes everything.
fn server_that_ends(
    links: usize,
    end: impl Fn(&mut Foreign) + Clone + Send + 'static,
) -> (SocketAddr, mpsc::Receiver<Foreign>) {
    let (keep, kept) = mpsc::channel();
    let server = foreign_server(move |number, mut peer| {
        if number < links {
            let _ = peer.get_mut().read(&mut [0; 1024]);
            end(&mut peer);
            keep.send(peer).unwrap_or(());
        } else {
            while peer.read().is_ok() {}
        }
    });
    (server, kept)
}

fn close_with(peer: &mut Foreign, code: u16) {
    peer.close(Some(CloseFrame { code: code.into(), reason: "".into() })).unwrap();
}

#[test]
fn message_for_which_the_server_closes_two_links_in_a_row_is_given_up() {
    for code in [1008, 1009] {
        let (server, _kept) = server_that_ends(2, move |peer| close_with(peer, code));
        let (client, events) = client_of(server);
        client.next(vec![0; TOO_LONG]);
        let (len, links, error) = given_up(&events);
        assert_eq!((len, links), (TOO_LONG, 2), "{error:?}");
        assert!(matches!(error, WsError::ClosedByPeer { code: told, .. } if told == code), "{error:?}");
        assert_dropped(&client, &events, TOO_LONG);
        client.next("next".as_bytes().to_vec());
        until("the next one", || client.stats().sent.written.messages == 1);
        client.complete();
    }
}

#[test]
fn message_behind_one_that_is_refused_for_its_length_arrives() {
    let ((say, heard), (keep, _kept)) = (mpsc::channel(), mpsc::channel());
    // On two links it reads the beginning of the long one, and no more: the system cannot take what is behind.
    let server = foreign_server(move |number, mut peer| {
        if number < 2 {
            let _ = peer.get_mut().read(&mut [0; 1024]);
            close_with(&mut peer, 1009);
            return keep.send(peer).unwrap_or(());
        }
        while let Ok(message) = peer.read() {
            if message.is_binary() {
                say.send(message.len()).unwrap_or(());
            }
        }
    });
    let (client, events) = client_of(server);
    for len in [TOO_LONG, 3] {
        client.send(vec![0; len]).unwrap();
    }
    assert_eq!(given_up(&events).0, TOO_LONG);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(3));
    assert_accounted(client.stats().sent);
    client.complete();
}

#[test]
fn message_that_no_link_gets_written_is_given_up_after_eight_of_them_and_ten_seconds() {
    const LEAST_TIME: Duration = Duration::from_secs(10);
    let (server, kept) = server_that_ends(8, |_| {});
    let (client, events) = client_of(server);
    client.next(vec![0; TOO_LONG]);
    for _ in 0..7 {
        drop(kept.recv_timeout(PATIENCE).unwrap());
    }
    let last = kept.recv_timeout(PATIENCE).unwrap();
    // The time itself is what is tried.
    thread::sleep(LEAST_TIME);
    drop(last);
    let (len, links, error) = given_up(&events);
    assert_eq!((len, links), (TOO_LONG, 8), "{error:?}");
    assert_dropped(&client, &events, TOO_LONG);
    client.next("next".as_bytes().to_vec());
    until("the next one", || client.stats().sent.written.messages == 1);
    client.complete();
}

#[test]
fn links_that_the_program_cuts_are_not_held_against_a_message() {
    let (server, kept) = server_that_ends(20, |_| {});
    let (client, events) = client_of(server);
    client.next(vec![0; TOO_LONG]);
    for _ in 0..20 {
        let _begun = kept.recv_timeout(PATIENCE).unwrap();
        client.reconnect();
        events.find(|event| matches!(event, ClientEvent::Disconnected { .. }).then_some(()));
    }
    until("all of it", || client.stats().sent.written.messages == 1);
    assert_eq!(client.stats().sent.dropped, Dropped::default());
    client.complete();
}

const MESSAGES: u64 = 20_000;
const RESET_EVERY: u64 = 500;
/// So that pongs confirm some of what is written on each link.
const PING_INTERVAL: Duration = Duration::from_millis(4);

/// Pushes the numbers, resets the link while they are on their way, and goes on when it is up again; some are pushed
/// while it is down.
fn push_through_resets(proxy: &Proxy, push: impl Fn(u64), mut until_connected: impl FnMut()) {
    until_connected();
    for number in 0..MESSAGES {
        push(number);
        match number % RESET_EVERY {
            400 => proxy.end(End::Reset),
            499 => until_connected(),
            _ => {}
        }
    }
}

fn eager_client(proxy: &Proxy) -> RxWsClient<WsStr> {
    let at_once = Duration::from_millis(1);
    let client = RxWsClient::builder(proxy.url("/"), WsStr).conn_retry_timeout(at_once).ping_interval(PING_INTERVAL);
    client.connect().unwrap()
}

#[test]
fn nothing_is_lost_untold_to_a_server_over_a_link_that_is_reset() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let proxy = Proxy::to(server.local_addr());
    let client = eager_client(&proxy);
    let events = Recorder::on(client.events());
    let mut told = Vec::new();
    push_through_resets(
        &proxy,
        |number| client.send(number.to_string()).unwrap(),
        || events.note_until(&mut told, |event| matches!(event, ClientEvent::Connected { .. })),
    );
    client.clone().complete();
    let report = client.wait_closed(PATIENCE).unwrap();
    server.complete();

    let (delivered, end) = heard.to_the_end();
    let delivered: Vec<u64> = delivered.iter().map(|tagged| tagged.data.parse().unwrap()).collect();
    let (dropped, unconfirmed) = announced_by_client(told.iter().chain(&events.to_the_end().0));
    let sent = client.stats().sent;
    let lost = MESSAGES - delivered.len() as u64;
    println!(
        "to the server: {MESSAGES} pushed, {} delivered, {lost} lost, {unconfirmed} announced as unconfirmed; {} links",
        delivered.len(),
        proxy.links()
    );
    assert_eq!(end, Heard::Complete);
    assert_ascending(&delivered);
    assert_accounted(sent);
    assert_eq!((sent.accepted.messages, sent.written.messages), (MESSAGES, MESSAGES));
    assert_eq!((report, dropped), (CloseReport::default(), Tally::default()));
    assert!(lost <= unconfirmed);
    assert!(proxy.links() as u64 > MESSAGES / RESET_EVERY);
}

#[test]
fn nothing_is_lost_untold_to_a_client_over_a_link_that_is_reset() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(PING_INTERVAL).bind().unwrap();
    let proxy = Proxy::to(server.local_addr());
    let events = Recorder::on(server.events());
    let mut told = Vec::new();
    let client = eager_client(&proxy);
    let heard = Recorder::on(client.clone());
    push_through_resets(
        &proxy,
        |number| server.send(TaggedData::new("/", number.to_string())).unwrap(),
        || events.note_until(&mut told, |event| matches!(event, ServerEvent::Connected { .. })),
    );
    // Closes when the server does, after it has heard everything.
    let closed = Recorder::on(client.events());
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    closed.find(|event| matches!(event, ClientEvent::Disconnected { code: 1001, .. }).then_some(()));
    client.complete();

    let (delivered, end) = heard.to_the_end();
    let delivered: Vec<u64> = delivered.iter().map(|text| text.parse().unwrap()).collect();
    let (dropped, unconfirmed) = announced_by_server(told.iter().chain(&events.to_the_end().0));
    let stats = server.stats();
    let lost = MESSAGES - delivered.len() as u64;
    println!(
        "to the client: {MESSAGES} pushed, {} delivered, {lost} lost; announced: {unconfirmed} unconfirmed, {} dropped, {} \
         unrouted; {} links",
        delivered.len(),
        dropped.messages,
        stats.unrouted,
        proxy.links()
    );
    assert_eq!(end, Heard::Complete);
    assert_ascending(&delivered);
    assert_accounted(stats.sent);
    assert_eq!((stats.pushed, stats.sent.queued), (MESSAGES, Tally::default()));
    assert_eq!(stats.sent.dropped.total(), dropped);
    assert!(lost <= unconfirmed + dropped.messages + stats.unrouted);
    assert!(delivered.len() as u64 <= stats.sent.written.messages);
    assert!(proxy.links() as u64 > MESSAGES / RESET_EVERY);
}
