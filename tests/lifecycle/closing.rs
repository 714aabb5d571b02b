//! Rule 9: how components and connections end, and what they say about it.

use super::*;

const CONNECTIONS: usize = 1000;
const QUEUED: usize = 64;

/// The close codes that clients saw.
fn close_code(event: ClientEvent) -> Option<u16> {
    match event {
        ClientEvent::Disconnected { code, .. } => Some(code),
        _ => None,
    }
}

/// A client that does not come back, and the code with which its connection ends.
fn once(url: String, runtime: &IoRuntime) -> (RxWsClient<WsBytes>, Recorder<ClientEvent>) {
    let never = RetryPolicy::exponential().max_retries(0);
    let client = RxWsClient::builder(url, WsBytes).runtime(runtime).retry(never).discard_inbound().connect().unwrap();
    let events = Recorder::on(client.events());
    (client, events)
}

#[test]
fn server_with_1000_connections_and_full_outboxes_writes_it_all_and_leaves_nothing_behind() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = IoRuntime::from_tokio(tokio.handle().clone());
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).runtime(&runtime);
    let server = server.outbox(QUEUED, 1 << 20, Overflow::DropLatest).bind().unwrap();
    let clients_thread = IoRuntime::new("thousand").unwrap();
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| once(url(&server, "/"), &clients_thread)).collect();
    until("connecting", || server.connection_count() == CONNECTIONS);

    // Nothing is written while the server's thread is held, unless one more is pushed than an outbox holds.
    let release = stall(&runtime);
    let message = Bytes::from(vec![7; 100]);
    (0..QUEUED).for_each(|_| server.send(TaggedData::new("/", message.clone())).unwrap());
    let queued = server.stats().sent.queued.messages;
    let begun = Instant::now();
    server.clone().complete();
    drop(release);
    let report = server.wait_closed(PATIENCE).unwrap();
    let took = begun.elapsed();

    let sent = server.stats().sent;
    assert_accounted(sent);
    assert_eq!((report, queued), (CloseReport::default(), (CONNECTIONS * QUEUED) as u64));
    assert_eq!((sent.written.messages, sent.dropped.total()), (queued, Tally::default()));
    assert!(clients.iter().all(|(_, events)| events.find(close_code) == 1001));
    let received: u64 = clients.iter().map(|(client, _)| client.stats().received.messages).sum();
    assert_eq!(received, queued);
    assert!(took < Duration::from_secs(5), "took {took:?}");
    until("ending every task", || tokio.metrics().num_alive_tasks() == 0);
    println!("{CONNECTIONS} connections with {queued} queued messages closed in {took:?}, all written, all saw 1001");
}

#[test]
fn server_reports_what_peers_that_do_not_read_have_not_taken_within_the_close_timeout() {
    let close_timeout = Duration::from_secs(1);
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes)
        .outbox(64, 1 << 30, Overflow::DropLatest)
        .limits(Limits::server().close_timeout(close_timeout))
        .bind()
        .unwrap();
    let events = Recorder::on(server.events());
    let runtime = IoRuntime::new("readers").unwrap();
    let readers = [(); 8].map(|()| once(url(&server, "/"), &runtime));
    let proxy = Proxy::to(server.local_addr());
    let _stalled = [(); 2].map(|()| once(proxy.url("/"), &runtime));
    until("connecting", || server.connection_count() == 10);
    proxy.silence(true);
    let message = Bytes::from(vec![7; 1 << 20]);
    (0..16).for_each(|_| server.next(TaggedData::new("/", message.clone())));
    let received = |(client, _): &(RxWsClient<_>, _)| client.stats().received.messages;
    until("those that read taking it all", || readers.iter().all(|reader| received(reader) == 16));
    let begun = Instant::now();
    server.clone().complete();
    let report = server.wait_closed(PATIENCE).unwrap();
    let took = begun.elapsed();

    let sent = server.stats().sent;
    assert_accounted(sent);
    println!("closed in {took:?}: {} of {} messages reported as unsent", report.unsent, sent.accepted.messages);
    let (dropped, _) = announced_by_server(&events.to_the_end().0);
    assert_eq!((dropped, sent.dropped.closed), (sent.dropped.total(), tally(report.unsent, report.unsent_len)));
    assert!((1..=32).contains(&report.unsent) && sent.written.messages >= 128);
    assert!(readers.iter().all(|(_, events)| events.find(close_code) == 1001));
    assert!((close_timeout..close_timeout * 2).contains(&took), "took {took:?}");
}

#[test]
fn close_codes_say_who_ended_and_how() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let join = || {
        let peer = foreign_client(server.local_addr(), "/");
        (peer, connections.item())
    };
    let mut peers = [(); 4].map(|()| join());
    let [completed, failed, closed, _] = peers.each_ref().map(|(_, connection)| connection.clone());
    completed.complete();
    failed.error(WsError::application("broken"));
    closed.close(3456, "enough").unwrap();
    for ((peer, connection), code) in peers[..3].iter_mut().zip([1000, 1011, 3456]) {
        assert_eq!(read_to_the_end(peer).1, Some(code));
        connection.wait_closed(PATIENCE).unwrap();
    }
    server.clone().complete();
    assert_eq!(read_to_the_end(&mut peers[3].0).1, Some(1001));
    server.wait_closed(PATIENCE).unwrap();
}

/// What a client said before it closed, and with which code it did.
type LastWords = (Vec<String>, Option<u16>);

/// A server that says how its clients end.
fn close_code_server() -> (SocketAddr, mpsc::Receiver<LastWords>) {
    let (send, ends) = mpsc::channel();
    (foreign_server(move |_, mut peer| send.send(read_to_the_end(&mut peer)).unwrap()), ends)
}

#[test]
fn client_closes_with_1000_or_with_1011_after_what_is_queued() {
    let (addr, ends) = close_code_server();
    for (code, end) in [(1000, Heard::Complete), (1011, Heard::Error("broken".into()))] {
        let client = RxWsClient::connect(format!("ws://{addr}"), WsStr).unwrap();
        let heard = Recorder::<WsText>::on(client.clone());
        client.next("last words");
        match code {
            1000 => client.clone().complete(),
            _ => client.clone().error(WsError::application("broken")),
        }
        assert!(matches!(client.send("too late"), Err(SendError::Closed(_))));
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (vec!["last words".into()], Some(code)));
        assert_eq!(heard.to_the_end(), (vec![], end));
        assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    }
}

#[test]
fn subscribers_are_completed_only_after_the_peers_answer() {
    let (seen, close_seen) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = std::sync::Arc::new(std::sync::Mutex::new(may_answer));
    let server = foreign_server(move |_, mut peer| {
        while peer.read().is_ok_and(|message| !message.is_close()) {}
        seen.send(()).unwrap();
        may_answer.lock().unwrap().recv().unwrap();
        while peer.read().is_ok() {}
    });
    let client = RxWsClient::connect(format!("ws://{server}"), WsStr).unwrap();
    let heard = Recorder::<WsText>::on(client.clone());
    client.wait_connected(PATIENCE).unwrap();
    client.complete();
    close_seen.recv_timeout(PATIENCE).unwrap();
    assert_eq!(heard.rest(), []);
    answer.send(()).unwrap();
    assert_eq!(heard.to_the_end(), (vec![], Heard::Complete));
}

#[test]
fn servers_subscribers_are_completed_only_after_every_peers_answer_and_nobody_new_is_let_in_meanwhile() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let mut peers = [(); 3].map(|()| foreign_client(server.local_addr(), "/"));
    until("connecting", || server.connection_count() == 3);
    server.clone().complete();
    for peer in &mut peers {
        while !read(peer).is_close() {}
    }
    until("ceasing to listen", || std::net::TcpStream::connect(server.local_addr()).is_err());
    let [last, others @ ..] = &mut peers;
    others.iter_mut().for_each(|peer| while peer.read().is_ok() {});
    until("the end of those that have answered", || server.connection_count() == 1);
    assert_eq!(heard.rest(), []);
    while last.read().is_ok() {}
    assert_eq!(heard.to_the_end(), (vec![], Heard::Complete));
}

#[test]
fn peer_that_never_answers_holds_up_closing_for_the_close_timeout_only() {
    let (hold, held) = mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let server = foreign_server(move |_, peer| {
        let _ = held.lock().unwrap().recv();
        drop(peer);
    });
    let limits = Limits::client().close_timeout(Duration::from_millis(200));
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).limits(limits).connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    let begun = Instant::now();
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(hold);
}

#[test]
fn without_a_server_what_is_queued_is_given_up_after_the_close_timeout_and_reported() {
    let server = raw_server(|_, stream| drop(stream));
    let limits = Limits::client().close_timeout(Duration::from_millis(200));
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).limits(limits.clone()).connect().unwrap();
    let (heard, events) = (Recorder::<WsText>::on(client.clone()), Recorder::on(client.events()));
    client.next("never sent");
    client.clone().complete();
    let report = client.wait_closed(PATIENCE).unwrap();
    assert_eq!((report.unsent, report.unsent_len), (1, 10));
    assert_eq!(announced_by_client(&events.to_the_end().0).0, tally(1, 10));
    assert_eq!(heard.to_the_end(), (vec![], Heard::Complete));

    let group = RxWsClientGroup::builder(format!("ws://{server}"), WsStr).limits(limits).build().unwrap();
    for path in ["/audio", "/chat"] {
        group.next(TaggedData::new(path, "never sent"));
    }
    group.clone().complete();
    let report = group.wait_closed(PATIENCE).unwrap();
    assert_eq!((report.unsent, report.unsent_len), (2, 20));
}

#[test]
fn complete_and_all_that_was_pushed_before_it_may_come_from_a_callback() {
    let (addr, ends) = close_code_server();
    let client = RxWsClient::builder(format!("ws://{addr}"), WsStr).connect().unwrap();
    let (own, events) = (client.clone(), Recorder::on(client.events()));
    client.state().subscribe(move |state| {
        if state == ConnectionState::Connected {
            (0..100).for_each(|number| own.next(number.to_string()));
            own.clone().complete();
        }
    });
    let (texts, code) = ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!((texts.len(), code), (100, Some(1000)));
    assert!(
        matches!(events.to_the_end(), (events, Heard::Complete) if matches!(events.last(), Some(ClientEvent::Closed(_))))
    );

    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (own, end) = (server.clone(), Recorder::on(server.events()));
    server.clone().log_errors().subscribe(move |tagged| {
        own.next(TaggedData::new("/", format!("good-bye, {}", tagged.data)));
        own.clone().complete();
    });
    let mut peer = foreign_client(server.local_addr(), "/");
    peer.send("Ada".into()).unwrap();
    assert_eq!(read_to_the_end(&mut peer), (vec!["good-bye, Ada".into()], Some(1001)));
    assert!(end.to_the_end().1.is_complete());
}

#[test]
fn error_may_come_from_a_callback_of_every_subject() {
    let (addr, ends) = close_code_server();
    let client = RxWsClient::connect(format!("ws://{addr}"), WsStr).unwrap();
    let (own, heard) = (client.clone(), Recorder::<WsText>::on(client.clone()));
    client.state().subscribe(move |state| {
        if state == ConnectionState::Connected {
            own.next("last words");
            own.clone().error(WsError::application("enough"));
        }
    });
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (vec!["last words".into()], Some(1011)));
    assert_eq!(heard.to_the_end(), (vec![], Heard::Error("enough".into())));

    let group = RxWsClientGroup::new(format!("ws://{addr}"), WsStr).unwrap();
    let (own, heard) = (group.clone(), Recorder::on(group.clone()));
    group.events().subscribe(move |_| own.clone().error(WsError::application("enough")));
    group.next(TaggedData::new("/", "last words"));
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (vec!["last words".into()], Some(1011)));
    assert_eq!(heard.to_the_end(), (vec![], Heard::Error("enough".into())));

    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (own, heard) = (server.clone(), Recorder::on(server.clone()));
    server.connections().subscribe(move |connection| match connection.id() {
        1 => connection.error(WsError::application("enough")),
        _ => own.clone().error(WsError::application("enough")),
    });
    for _ in 0..2 {
        assert_eq!(read_to_the_end(&mut foreign_client(server.local_addr(), "/")).1, Some(1011));
    }
    assert_eq!(heard.to_the_end(), (vec![], Heard::Error("enough".into())));
}

#[test]
fn component_completes_when_its_last_handle_and_its_last_subscriber_are_gone() {
    let (addr, ends) = close_code_server();
    let client = RxWsClient::connect(format!("ws://{addr}"), WsStr).unwrap();
    client.wait_connected(PATIENCE).unwrap();
    let subscription = client.clone().log_errors().subscribe(|_| {});
    // None of these keep it.
    let (events, states, closed) = (Recorder::on(client.events()), Recorder::on(client.state()), client.closed());
    drop(client);
    assert!(ends.try_recv().is_err());
    subscription.unsubscribe();
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap().1, Some(1000));
    assert!(events.to_the_end().1.is_complete() && states.to_the_end().1.is_complete());
    assert_eq!(futures::executor::block_on(closed), CloseReport::default());

    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let mut peer = foreign_client(server.local_addr(), "/");
    let connection = Recorder::on(server.connections()).item();
    drop(server);
    assert_eq!(read_to_the_end(&mut peer).1, Some(1001));
    connection.wait_closed(PATIENCE).unwrap();

    let group = RxWsClientGroup::new(format!("ws://{addr}"), WsStr).unwrap();
    group.next(TaggedData::new("/", "last words"));
    let events = Recorder::on(group.events());
    drop(group);
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (vec!["last words".into()], Some(1000)));
    assert!(events.to_the_end().1.is_complete());
}

#[test]
fn handle_that_a_subscriber_holds_keeps_a_component_open() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let addr = server.local_addr();
    // Captured by its own pipeline, and by one that is not subscribed yet.
    server.clone().subscribe_with(server.clone());
    let pipeline = server.clone().map(|tagged| tagged.data);
    drop(server);
    let mut peer = foreign_client(addr, "/");
    peer.send("still there".into()).unwrap();
    assert_eq!(read(&mut peer).to_text().unwrap(), "still there");
    drop(pipeline);
}

#[test]
fn end_of_a_pipeline_closes_what_it_feeds_unless_it_is_merged_into() {
    let (addr, ends) = close_code_server();
    let client = RxWsClient::connect(format!("ws://{addr}"), WsStr).unwrap();
    Io::of("merged").with_err::<WsError>().merge_into(&client);
    client.next("pushed");
    Io::of("fed").subscribe_with(client);
    assert_eq!(
        ends.recv_timeout(PATIENCE).unwrap(),
        (["merged", "pushed", "fed"].map(String::from).into(), Some(1000))
    );
}

#[test]
fn connection_completes_after_a_closing_handshake_and_errors_otherwise() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let events = Recorder::on(server.events());
    let join = || {
        let peer = foreign_client(server.local_addr(), "/");
        (peer, Recorder::<WsText>::on(connections.item()))
    };
    let (closing, heard_closing) = join();
    close(closing, 4321);
    assert_eq!(heard_closing.to_the_end().1, Heard::Complete);
    let (vanishing, heard_vanishing) = join();
    drop(vanishing);
    assert!(
        matches!(heard_vanishing.to_the_end().1, Heard::Error(error) if error.contains("without a closing handshake"))
    );
    let codes = [(); 2].map(|()| {
        events.find(|event| match event {
            ServerEvent::Disconnected { code, .. } => Some(code),
            _ => None,
        })
    });
    assert_eq!(codes, [4321, 1006]);
    server.complete();
}

#[test]
fn trouble_with_one_client_is_an_event_and_the_servers_stream_goes_on() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (heard, events) = (Recorder::on(server.clone()), Recorder::on(server.events()));
    let mut peer = foreign_client(server.local_addr(), "/bad");
    peer.send(vec![0xff, 0xfe].into()).unwrap();
    peer.send("good".into()).unwrap();
    let (path, len) = events.find(|event| match event {
        ServerEvent::Undecodable { peer, len, .. } => Some((peer.path, len)),
        _ => None,
    });
    assert_eq!((&*path, len, server.stats().undecodable), ("/bad", 2, 1));
    assert_eq!(heard.item().data, "good");
    drop(peer);
    let mut another = foreign_client(server.local_addr(), "/");
    another.send("goes on".into()).unwrap();
    assert_eq!(heard.item().data, "goes on");
    server.complete();
}

/// Tells the test below that it is run as a program of its own, and where to connect.
const URL: &str = "RXPLUS_LAST_WORDS_URL";

/// What a program does at its end. The threads end with the process, whatever they have left to do.
fn say_goodbye_and_exit(url: &str) -> ! {
    let (client, group) = (RxWsClient::connect(url, WsStr).unwrap(), RxWsClientGroup::new(url, WsStr).unwrap());
    client.next("goodbye");
    group.next(TaggedData::new("/group", "goodbye"));
    client.clone().complete();
    group.clone().complete();
    let unsent = [client.wait_closed(PATIENCE).unwrap().unsent, group.wait_closed(PATIENCE).unwrap().unsent];
    std::process::exit(if unsent == [0, 0] { 0 } else { 1 })
}

#[test]
fn last_message_of_a_program_that_waits_for_its_closing_arrives() {
    if let Ok(url) = std::env::var(URL) {
        say_goodbye_and_exit(&url);
    }
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    for _ in 0..5 {
        let mut program = std::process::Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "closing::last_message_of_a_program_that_waits_for_its_closing_arrives"]);
        assert!(program.env(URL, url(&server, "/client")).output().unwrap().status.success());
        let mut last = [heard.item(), heard.item()].map(|td| td.tag);
        last.sort();
        assert_eq!(last, ["/client", "/group"]);
    }
}
