//! Requests that are answered: `calls` of clients and of connections.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context as TaskContext, Poll, Waker},
};

use super::*;

/// `7 battery`: the number of a request or of a reply.
fn number(text: &WsText) -> Option<u64> {
    text.split_once(' ')?.0.parse().ok()
}

fn calls_of(client: &RxWsClient<WsStr>) -> Calls<WsStr> {
    client.calls(number).timeout(PATIENCE)
}

/// A server whose clients' requests the test answers as it likes: each comes with its connection.
fn asked_server() -> (RxWsServer<WsStr>, Receiver<(Connection<WsStr>, WsText)>) {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (ask, asked) = mpsc::channel();
    server.connections().subscribe(move |connection| {
        let (ask, from) = (ask.clone(), connection.clone());
        connection.subscribe(move |text| _ = ask.send((from.clone(), text)));
    });
    (server, asked)
}

/// A server that answers each request in capitals.
fn answering_server() -> RxWsServer<WsStr> {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.connections().subscribe(|connection| {
        connection.clone().map(|text| text.to_uppercase()).subscribe_with(connection);
    });
    server
}

#[test]
fn replies_reach_their_calls_whatever_their_order() {
    let (server, asked) = asked_server();
    let client = connected(&server, "/", WsStr);
    let calls = calls_of(&client);
    let waiting: Vec<_> = (0..100).map(|n| (n, calls.call(|id| format!("{id} {n}")))).collect();
    let mut requests: Vec<_> = (0..100).map(|_| asked.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(calls.pending(), 100);
    requests.reverse();
    requests.into_iter().for_each(|(connection, text)| connection.next(text));
    for (n, call) in waiting {
        let id = call.number();
        assert_eq!(call.wait().unwrap(), format!("{id} {n}"));
    }
    assert_eq!(calls.pending(), 0);
}

#[test]
fn reply_that_comes_before_anybody_waits_is_kept_for_one_who_does() {
    let server = answering_server();
    let client = connected(&server, "/", WsStr);
    let calls = calls_of(&client);
    let (awaited, observed) = (calls.call(|id| format!("{id} a")), calls.call(|id| format!("{id} b")));
    until("the replies", || calls.pending() == 0);
    assert_eq!(futures::executor::block_on(async { awaited.await }).unwrap(), "1 A");
    let thread = Recorder::on(observed.map(|reply| (reply, thread::current().name().map(str::to_owned))));
    let (reply, thread) = thread.item();
    assert_eq!(reply, "2 B");
    assert_ne!(thread.as_deref(), thread::current().name(), "on the I/O thread");
}

#[test]
fn call_is_an_observable_of_one_reply() {
    let server = answering_server();
    let client = connected(&server, "/", WsStr);
    let calls = calls_of(&client);
    let words = ["a", "b", "c"].map(str::to_owned);
    let all = Io::from_iter(words).with_err::<WsError>();
    let heard = Recorder::on(all.concat_map(move |word| calls.call(|id| format!("{id} {word}"))));
    let (replies, end) = heard.to_the_end();
    assert_eq!(replies, ["1 A", "2 B", "3 C"]);
    assert!(end.is_complete());
}

#[test]
fn call_that_is_given_up_leaves_nothing_and_its_reply_harms_nobody() {
    let (server, asked) = asked_server();
    let client = connected(&server, "/", WsStr);
    let everything = Recorder::on(client.clone());
    let calls = calls_of(&client);
    let (captured, dropped) = sentinel();
    let mut future = calls.call(|id| format!("{id} future")).into_future();
    let pending = std::pin::Pin::new(&mut future).poll(&mut TaskContext::from_waker(Waker::noop()));
    assert!(matches!(pending, Poll::Pending));
    drop(future);
    drop(calls.call(|id| format!("{id} call")));
    let observed = calls.call(|id| format!("{id} observer"));
    let subscription = observed.on_error(|_| {}).subscribe(move |_| hold(&captured));
    assert_eq!(calls.pending(), 1);
    subscription.unsubscribe();
    dropped.recv_timeout(PATIENCE).expect("the observer is dropped");
    assert_eq!(calls.pending(), 0);
    for _ in 0..3 {
        let (connection, text) = asked.recv_timeout(PATIENCE).expect("the requests are sent all the same");
        connection.next(text);
    }
    everything.items(3);
    let next = calls.call(|id| format!("{id} next"));
    let (connection, text) = asked.recv_timeout(PATIENCE).unwrap();
    connection.next(text);
    assert_eq!(next.wait().unwrap(), "4 next");
}

#[test]
fn numbers_of_two_callers_on_one_client_are_not_the_same() {
    let server = answering_server();
    let client = connected(&server, "/", WsStr);
    let (left, right) = (calls_of(&client), calls_of(&client));
    let waiting: Vec<_> =
        (0..50).flat_map(|_| [left.call(|id| format!("{id} l")), right.call(|id| format!("{id} r"))]).collect();
    let numbers: std::collections::BTreeSet<_> = waiting.iter().map(Call::number).collect();
    assert_eq!(numbers.len(), 100);
    for (n, call) in waiting.into_iter().enumerate() {
        let expected = if n % 2 == 0 { "L" } else { "R" };
        assert!(call.wait().unwrap().ends_with(expected));
    }
}

#[test]
fn server_calls_its_client() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (answered, answers) = mpsc::channel();
    server.connections().subscribe(move |connection| {
        let (calls, answered) = (connection.calls(number), answered.clone());
        let call = calls.call(|id| format!("{id} who are you?"));
        call.log_errors().subscribe(move |reply| answered.send(reply).unwrap());
    });
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    client.clone().map(|text| text.replace("who are you?", "ada")).subscribe_with(client.clone());
    assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), "1 ada");
}

#[test]
fn request_that_the_outbox_refuses_or_drops_ends_its_call() {
    let client =
        RxWsClient::builder("ws://127.0.0.1:1", WsStr).outbox(1, 1000, Overflow::DropLatest).connect().unwrap();
    let calls = calls_of(&client);
    let (first, second) = (calls.call(|id| format!("{id} first")), calls.call(|id| format!("{id} second")));
    let full = second.wait().unwrap_err();
    assert!(matches!(full, WsError::NotSent { .. }), "{full:?}");
    assert!(full.to_string().contains("the outbox is full"), "{full}");
    client.clear_outbox();
    let cleared = first.wait().unwrap_err();
    assert!(matches!(cleared, WsError::NotSent { .. }), "{cleared:?}");
    assert_eq!(calls.pending(), 0);
}

#[test]
fn request_without_an_encoding_is_not_sent() {
    let kinds = WsByPath::new(|_| WsKind::Str);
    let client = RxWsClient::connect("ws://127.0.0.1:1", kinds).unwrap();
    let calls = client.calls(|_| None);
    let error = calls.call(|_| vec![0u8; 2]).wait().unwrap_err();
    assert!(matches!(&error, WsError::NotSent { reason, .. } if reason.contains("encoded")), "{error:?}");
}

#[test]
fn end_of_the_client_ends_its_calls_and_those_to_come() {
    let (server, asked) = asked_server();
    for error in [None, Some("out of order")] {
        let client = connected(&server, "/", WsStr);
        let calls = calls_of(&client);
        let call = calls.call(|id| format!("{id} never"));
        asked.recv_timeout(PATIENCE).unwrap();
        match error {
            None => client.clone().complete(),
            Some(error) => client.clone().error(WsError::application(error)),
        }
        let ended = call.wait().unwrap_err();
        // It was written, and the closing of the link came before the end of the client.
        assert!(matches!(ended, WsError::Unanswered { .. }), "{ended:?}");
        client.wait_closed(PATIENCE).unwrap();
        let late = calls.call(|id| format!("{id} late")).wait().unwrap_err();
        match error {
            None => assert!(matches!(late, WsError::Closed(_)), "{late:?}"),
            Some(error) => assert!(late.to_string().contains(error), "{late:?}"),
        }
        assert_eq!(calls.pending(), 0);
    }
}

#[test]
fn calls_that_wait_in_the_outbox_end_with_the_client() {
    let limits = Limits::client().close_timeout(Duration::from_millis(1));
    let client = RxWsClient::builder("ws://127.0.0.1:1", WsStr).limits(limits).connect().unwrap();
    let calls = calls_of(&client);
    let call = calls.call(|id| format!("{id} never"));
    client.error(WsError::application("enough"));
    let error = call.wait().unwrap_err();
    // Whichever comes first: the drop of the request, or the end of the subject.
    assert!(error.to_string().contains("enough") || matches!(error, WsError::Closed(_)), "{error:?}");
}

#[test]
fn client_ends_when_the_last_caller_and_the_last_call_are_gone() {
    let (server, asked) = asked_server();
    let client = connected(&server, "/", WsStr);
    let closed = client.closed();
    let calls = calls_of(&client);
    drop(client);
    let call = calls.call(|id| format!("{id} last"));
    drop(calls);
    let (connection, text) = asked.recv_timeout(PATIENCE).unwrap();
    connection.next(text);
    assert_eq!(call.wait().unwrap(), "1 last");
    futures::executor::block_on(closed);
}

#[test]
fn item_whose_number_panics_answers_no_call_and_the_next_one_does() {
    let (server, asked) = asked_server();
    let client = connected(&server, "/", WsStr);
    let calls =
        client.calls(|text| if text.starts_with("bad") { panic!("a bug of the program's") } else { number(text) });
    let call = calls.call(|id| format!("{id} fine"));
    let (connection, text) = asked.recv_timeout(PATIENCE).unwrap();
    connection.next("bad");
    connection.next(text);
    assert_eq!(call.wait().unwrap(), "1 fine");
}

#[test]
fn panics_of_the_programs_own_code_stay_where_they_happen() {
    let (server, asked) = asked_server();
    let client = connected(&server, "/", WsStr);
    let calls = calls_of(&client);
    // On the caller's thread, before anything has been sent.
    assert!(catch_unwind(AssertUnwindSafe(|| drop(calls.call(|_| -> WsText { panic!("a request") })))).is_err());
    assert_eq!(calls.pending(), 0);
    let panicking = calls.call(|id| format!("{id} a"));
    panicking.on_error(|_| {}).subscribe(|_| panic!("an observer"));
    let other = calls.call(|id| format!("{id} b"));
    for _ in 0..2 {
        let (connection, text) = asked.recv_timeout(PATIENCE).unwrap();
        connection.next(text);
    }
    assert_eq!(other.wait().unwrap(), "3 b");
    assert_eq!(calls.pending(), 0);
}

#[test]
fn wait_on_the_thread_that_brings_the_reply_is_an_error_at_once() {
    let server = answering_server();
    let client = connected(&server, "/", WsStr);
    let calls = calls_of(&client);
    let (on_item, ended) = answers(move |_: WsText| calls.call(|id| format!("{id} x")).wait());
    client.clone().subscribe(on_item);
    client.next("0 go");
    let error = ended.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(matches!(error, WsError::WouldDeadlock(_)), "{error:?}");
}

#[test]
fn request_that_was_not_written_waits_for_the_next_connection_and_so_does_its_call() {
    let refusing = ForeignServer::start();
    let client =
        RxWsClient::builder(refusing.url(), WsStr).conn_retry_timeout(Duration::from_millis(1)).connect().unwrap();
    let calls = calls_of(&client);
    let call = calls.call(|id| format!("{id} patient"));
    drop(refusing.accept_tcp());
    let mut peer = refusing.accept();
    let request = read(&mut peer);
    peer.send(request).unwrap();
    assert_eq!(call.wait().unwrap(), "1 patient");
}

/// A client on a server that the test plays, and the connection between them.
fn played() -> (ForeignServer, RxWsClient<WsStr>, Foreign) {
    let server = ForeignServer::start();
    let client =
        RxWsClient::builder(server.url(), WsStr).conn_retry_timeout(Duration::from_millis(1)).connect().unwrap();
    let peer = server.accept();
    (server, client, peer)
}

#[test]
fn call_whose_request_was_written_ends_with_its_connection() {
    let (server, client, mut peer) = played();
    let calls = calls_of(&client);
    let call = calls.call(|id| format!("{id} lost"));
    read(&mut peer);
    drop(peer);
    let error = call.wait().unwrap_err();
    assert!(matches!(&error, WsError::Unanswered { source: Some(_), .. }), "{error:?}");
    assert_eq!(calls.pending(), 0);
    // And the next connection serves the next call.
    let call = calls.call(|id| format!("{id} again"));
    let mut peer = server.accept();
    let request = read(&mut peer);
    assert_eq!(request.to_text().unwrap(), "2 again");
    peer.send(request).unwrap();
    assert_eq!(call.wait().unwrap(), "2 again");
}

#[test]
fn reply_that_arrives_just_before_the_end_of_the_connection_counts() {
    let (_server, client, mut peer) = played();
    let calls = calls_of(&client);
    let call = calls.call(|id| format!("{id} last"));
    let request = read(&mut peer);
    peer.send(request).unwrap();
    drop(peer);
    assert_eq!(call.wait().unwrap(), "1 last");
}

#[test]
fn request_is_sent_again_if_asked_for_as_often_as_the_connection_is_lost() {
    let (server, client, mut peer) = played();
    let calls = calls_of(&client).resend_unconfirmed();
    let call = calls.call(|id| format!("{id} again"));
    for _ in 0..3 {
        assert_eq!(read(&mut peer).to_text().unwrap(), "1 again");
        drop(peer);
        peer = server.accept();
    }
    let request = read(&mut peer);
    peer.send(request).unwrap();
    assert_eq!(call.wait().unwrap(), "1 again");
}

/// More than are sent again in one turn, and connections that are lost meanwhile.
#[test]
fn many_requests_are_sent_again_once_on_each_connection() {
    const CALLS: usize = 1_000;
    let (server, client, mut peer) = played();
    let calls = calls_of(&client).resend_unconfirmed();
    let waiting: Vec<_> = (0..CALLS).map(|_| calls.call(|id| format!("{id} again"))).collect();
    (0..CALLS).for_each(|_| _ = read(&mut peer));
    drop(peer);
    (0..3).for_each(|_| drop(server.accept()));
    let mut peer = server.accept();
    let heard: std::collections::BTreeSet<_> =
        (0..CALLS).map(|_| read(&mut peer).to_text().unwrap().to_owned()).collect();
    assert_eq!(heard.len(), CALLS, "each once");
    client.next("end");
    assert_eq!(read(&mut peer).to_text().unwrap(), "end");
    drop(waiting);
}

#[test]
fn answered_request_is_not_sent_again() {
    let (server, client, mut peer) = played();
    let calls = calls_of(&client).resend_unconfirmed();
    let call = calls.call(|id| format!("{id} once"));
    let request = read(&mut peer);
    peer.send(request).unwrap();
    call.wait().unwrap();
    drop(peer);
    let mut peer = server.accept();
    client.next("next");
    assert_eq!(read(&mut peer).to_text().unwrap(), "next");
}

#[test]
fn calls_put_nothing_on_the_wire_but_their_requests() {
    let (_server, client, mut peer) = played();
    let call = calls_of(&client).call(|id| format!("{id} plain"));
    let request = peer.read().unwrap();
    assert_eq!(request.to_text().unwrap(), "1 plain");
    // A tracked message has a ping behind it.
    client.next("end");
    assert_eq!(peer.read().unwrap().to_text().unwrap(), "end");
    drop(call);
}

/// How calls have ended.
#[derive(Default)]
struct Ends {
    answered: AtomicUsize,
    lost: AtomicUsize,
}

impl Ends {
    /// Waits for a call whose request is its number and `text`.
    fn note(&self, call: Call<WsStr>, text: &str) {
        let id = call.number();
        match call.wait() {
            Ok(reply) => {
                assert_eq!(reply, format!("{id} {text}").to_uppercase());
                self.answered.fetch_add(1, SeqCst);
            }
            Err(WsError::Unanswered { .. }) => _ = self.lost.fetch_add(1, SeqCst),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn count(&self) -> usize {
        self.answered.load(SeqCst) + self.lost.load(SeqCst)
    }
}

#[test]
fn each_call_ends_once_while_replies_losses_and_those_who_give_up_race() {
    const CALLERS: usize = 4;
    const EACH: usize = 200;
    let server = answering_server();
    let retry = Duration::from_millis(1);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).conn_retry_timeout(retry).connect().unwrap();
    let (calls, ends) = (calls_of(&client), Ends::default());
    let call_often = &|caller: usize| {
        for n in 0..EACH {
            let text = format!("{caller}:{n}");
            let call = calls.call(|id| format!("{id} {text}"));
            // Every fifth is given up.
            if n % 5 > 0 {
                ends.note(call, &text);
            }
        }
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || call_often(caller))).collect();
        while !callers.iter().all(|caller| caller.is_finished()) {
            client.reconnect();
            thread::sleep(Duration::from_millis(3));
        }
    });
    assert_eq!(ends.count(), CALLERS * (EACH - EACH / 5));
    assert_eq!(calls.pending(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn call_is_awaited_in_a_task_of_the_program() {
    let server = answering_server();
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    let calls = calls_of(&client);
    let waiting: Vec<_> = (0..10).map(|n| tokio::spawn(calls.call(|id| format!("{id} {n}")).into_future())).collect();
    for (n, call) in waiting.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), format!("{} {n}", n + 1));
    }
}

/// Whatever has ended them: other tasks have their turns between any few hundred of them.
#[test]
fn many_calls_that_end_at_once_leave_others_their_turns() {
    const CALLS: usize = 2_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let turn = Arc::new(AtomicUsize::new(0));
    let other = turn.clone();
    runtime.spawn(async move {
        loop {
            other.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
        }
    });
    for (end, limit) in [("their link", PATIENCE), ("their client", PATIENCE), ("their time", Duration::from_secs(1))] {
        let server = ForeignServer::start();
        let builder =
            RxWsClient::builder(server.url(), WsStr).runtime(&IoRuntime::from_tokio(runtime.handle().clone()));
        let client = builder.connect().unwrap();
        let mut peer = server.accept();
        client.wait_connected(PATIENCE).unwrap();
        let calls = client.calls(number).timeout(limit);
        let (tell, told) = mpsc::channel();
        for _ in 0..CALLS {
            let (turn, tell) = (turn.clone(), tell.clone());
            let note = move |_| tell.send(turn.load(SeqCst)).unwrap();
            calls.call(|id| format!("{id} x")).on_error(note).subscribe(|_| {});
        }
        (0..CALLS).for_each(|_| _ = read(&mut peer));
        match end {
            "their link" => drop(peer),
            "their client" => client.complete(),
            _ => {}
        }
        let turns: Vec<_> = (0..CALLS).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
        let most = turns.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap();
        assert!(most <= 512, "{most} calls ended in one turn, with {end}");
        assert_eq!(calls.pending(), 0);
    }
    runtime.shutdown_background();
}
