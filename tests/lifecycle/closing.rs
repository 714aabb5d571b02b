//! Rule 9: what happens between `complete()` and the end, in which order, and how long it may take.

use super::*;

#[test]
fn completed_server_closes_all_and_completes_its_subscribers() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (ended, connections) = (Recorder::on(server.clone()), Recorder::on(server.connections()));
    let clients = ["/chat", "/chat", "/audio"].map(|path| connected(&server, path, WsStr));
    let each = clients.each_ref().map(|client| (Recorder::on(client.clone()), Recorder::on(client.events())));
    let opened: Vec<_> = connections.items(3).into_iter().map(Recorder::on).collect();
    server.next(TaggedData::new("/chat", "the last"));
    server.clone().complete();
    assert_eq!(ended.hear(), Heard::Complete);
    assert!(matches!(connections.hear(), Heard::Complete));
    assert_eq!(server.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    assert_eq!(server.connection_count(), 0);
    assert!(opened.iter().all(|connection| connection.hear() == Heard::Complete));
    for (n, (heard, events)) in each.iter().enumerate() {
        if n < 2 {
            assert_eq!(heard.item(), "the last");
        }
        let how = events.find(|event| match event {
            ClientEvent::Disconnected { code, error, .. } => Some((code, error.is_none())),
            _ => None,
        });
        assert_eq!(how, (1001, true));
    }
    let refused = connected_after(&server);
    assert!(matches!(refused, WsError::Connect { .. }), "{refused:?}");
}

/// What a client meets where `server` was.
fn connected_after<D: WsDatatype>(server: &RxWsServer<D>) -> WsError {
    let retry = RetryPolicy::exponential().max_retries(0);
    let late = RxWsClient::builder(url(server, "/"), WsStr).retry(retry).connect().unwrap();
    match late.wait_connected(PATIENCE).unwrap_err() {
        WsError::RetriesExhausted { source, .. } => (*source).clone(),
        other => other,
    }
}

#[test]
fn completion_sends_what_is_queued_first() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    texts(0..1000).into_iter().for_each(|text| client.next(text)); // most likely before it is connected
    client.clone().complete();
    assert!(heard.items(1000).iter().map(|tagged| &tagged.data).eq(&texts(0..1000)));
    assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
}

#[test]
fn completion_without_a_server_and_with_nothing_to_send_is_immediate() {
    let client = RxWsClient::connect("ws://127.0.0.1:1", WsStr).unwrap();
    client.clone().complete();
    // Less than the close timeout, 5 s.
    client.wait_closed(Duration::from_secs(4)).unwrap();
}

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
fn server_with_1000_full_outboxes_writes_them_all_before_it_ends() {
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
fn server_reports_what_peers_have_not_taken_within_the_close_timeout() {
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
fn subscribers_are_completed_only_after_the_peers_answer() {
    let (seen, close_seen) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = Arc::new(Mutex::new(may_answer));
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
fn server_completes_after_every_peers_answer_and_lets_nobody_in() {
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
fn peer_that_never_answers_a_close_is_left_after_the_close_timeout() {
    let limits = Limits::server().close_timeout(Duration::from_millis(20));
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits).bind().unwrap();
    let events = Recorder::on(server.events());
    let _deaf = foreign_client(server.local_addr(), "/");
    let ended = Recorder::on(Recorder::on(server.connections()).item());
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    let error = events.find(|event| match event {
        ServerEvent::Disconnected { error, .. } => error,
        _ => None,
    });
    assert!(matches!(error, WsError::ClosingTimedOut { .. }), "{error:?}");
    assert!(matches!(ended.hear(), Heard::Error(_)));
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
