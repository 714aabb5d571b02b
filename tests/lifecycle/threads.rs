//! Rule 10: which thread does what, and what happens when it does not.

use std::{
    io::ErrorKind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use super::*;

/// The bound on what waits, and what one reading of a socket can bring beyond it: 64 KiB of frames of 106 bytes.
const MOST_WAITING: u64 = 1024 + 64 * 1024 / 106 + 2;

/// A subscriber that does not return from its first item before it is told to, and counts.
fn stuck_subscriber<T>() -> (impl FnMut(T) + Send + 'static, mpsc::Sender<()>, Arc<AtomicU64>) {
    let (release, stuck) = mpsc::channel::<()>();
    let heard = Arc::new(AtomicU64::new(0));
    let count = heard.clone();
    let subscriber = move |_| {
        if count.fetch_add(1, SeqCst) == 0 {
            let _ = stuck.recv();
        }
    };
    (subscriber, release, heard)
}

/// Sends to `peer` until it takes no more for a while, which is what TCP does when the other side stops reading.
fn send_until_stuck(peer: &mut Foreign) -> u64 {
    peer.get_ref().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    for sent in 0..1_000_000 {
        match peer.send("x".repeat(100).into()) {
            Ok(()) => {}
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                return sent;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("100 MB were taken while nobody could deal with them");
}

#[test]
fn with_several_threads_a_busy_server_leaves_messages_in_their_sockets() {
    let runtime = IoRuntime::with_threads("several", 2).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
    let (subscriber, release, heard) = stuck_subscriber();
    server.clone().log_errors().subscribe(subscriber);
    let mut first = foreign_client(server.local_addr(), "/");
    first.send("holds one thread".into()).unwrap();
    until("getting stuck", || heard.load(SeqCst) == 1);
    let mut second = foreign_client(server.local_addr(), "/");
    let sent = send_until_stuck(&mut second);
    let waiting = server.stats().received.messages - 1;
    println!("{waiting} messages wait in the subject, the others of {sent} in the sockets");
    assert!((1024..=MOST_WAITING).contains(&waiting), "{waiting}");
    drop(release);
    // All of it comes once there is somebody to deal with it.
    until("catching up", || heard.load(SeqCst) > sent);
    server.complete();
}

#[test]
fn with_several_threads_a_busy_group_leaves_messages_in_their_sockets() {
    let (send, counts) = mpsc::channel();
    let server = foreign_server(move |_, mut peer| {
        if read(&mut peer).to_text().unwrap() == "one" {
            peer.send("holds one thread".into()).unwrap();
            while peer.read().is_ok() {}
        } else {
            send.send(send_until_stuck(&mut peer)).unwrap();
            // Until the test is over.
            peer.get_ref().set_read_timeout(None).unwrap();
            let _ = peer.flush();
            while peer.read().is_ok() {}
        }
    });
    let runtime = IoRuntime::with_threads("several", 2).unwrap();
    let group = RxWsClientGroup::builder(format!("ws://{server}"), WsStr).runtime(&runtime).build().unwrap();
    let (subscriber, release, heard) = stuck_subscriber();
    group.clone().log_errors().subscribe(subscriber);
    group.next(TaggedData::new("/first", "one"));
    until("getting stuck", || heard.load(SeqCst) == 1);
    group.next(TaggedData::new("/second", "many"));
    let sent = counts.recv_timeout(PATIENCE).unwrap();
    let waiting = group.stats().all.received.messages - 1;
    println!("{waiting} messages wait in the subject, the others of {sent} in the sockets");
    assert!((1024..=MOST_WAITING).contains(&waiting), "{waiting}");
    drop(release);
    until("catching up", || heard.load(SeqCst) > sent);
    group.complete();
}

/// Has the first message that `subscribe` gives a subscriber of its own hold a thread, which is another than the driver's, and
/// returns how many of those that `send` then sends are waiting to be heard.
fn waiting_behind_an_early_message(
    subscribe: impl FnOnce(Box<dyn FnMut(WsText) + Send>),
    received: impl Fn() -> u64,
    send: impl FnOnce() -> u64,
) -> u64 {
    until("receiving", || received() == 1);
    let (subscriber, release, heard) = stuck_subscriber();
    subscribe(Box::new(subscriber));
    until("getting stuck", || heard.load(SeqCst) == 1);
    let sent = send();
    let waiting = received() - 1;
    println!("{waiting} messages wait in the subject, the others of {sent} in the socket");
    drop(release);
    until("catching up", || heard.load(SeqCst) > sent);
    waiting
}

#[test]
fn with_several_threads_a_busy_connection_leaves_messages_in_its_socket() {
    let runtime = IoRuntime::with_threads("several", 2).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut peer = foreign_client(server.local_addr(), "/");
    peer.send("holds one thread".into()).unwrap();
    let connection = connections.item();
    let waiting = waiting_behind_an_early_message(
        |subscriber| drop(connection.clone().log_errors().subscribe(subscriber)),
        || connection.stats().received.messages,
        || send_until_stuck(&mut peer),
    );
    assert!((1024..=MOST_WAITING).contains(&waiting), "{waiting}");
    server.complete();
}

#[test]
fn with_several_threads_a_busy_child_of_a_group_leaves_messages_in_its_socket() {
    let (go, going) = mpsc::channel();
    let (send, counts) = mpsc::channel();
    let going = Arc::new(Mutex::new(going));
    let server = foreign_server(move |_, mut peer| {
        peer.send("holds one thread".into()).unwrap();
        going.lock().unwrap().recv().unwrap_or(());
        send.send(send_until_stuck(&mut peer)).unwrap();
        peer.get_ref().set_read_timeout(None).unwrap();
        let _ = peer.flush();
        while peer.read().is_ok() {}
    });
    let runtime = IoRuntime::with_threads("several", 2).unwrap();
    let group = RxWsClientGroup::builder(format!("ws://{server}"), WsStr).runtime(&runtime).build().unwrap();
    let child = group.open("/").unwrap();
    let waiting = waiting_behind_an_early_message(
        |subscriber| drop(child.clone().log_errors().subscribe(subscriber)),
        || child.stats().received.messages,
        || {
            go.send(()).unwrap();
            counts.recv_timeout(PATIENCE).unwrap()
        },
    );
    assert!((1024..=MOST_WAITING).contains(&waiting), "{waiting}");
    group.complete();
}

/// A peer that exchanges texts with an echo server, and fails when an answer does not come.
fn exchange(peer: &mut Foreign) {
    for number in 0..50 {
        peer.send(number.to_string().into()).unwrap();
        assert_eq!(read(peer).to_text().unwrap(), number.to_string());
    }
}

#[test]
fn with_several_threads_a_callback_that_blocks_leaves_other_components_running() {
    let runtime = IoRuntime::with_threads("several", 2).unwrap();
    let serve = || RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
    let (blocked, free) = (serve(), serve());
    free.clone().subscribe_with(free.clone());
    let (subscriber, release, heard) = stuck_subscriber();
    blocked.clone().log_errors().subscribe(subscriber);
    let mut old = foreign_client(free.local_addr(), "/");
    let mut blocks = foreign_client(blocked.local_addr(), "/");
    blocks.send("holds one thread".into()).unwrap();
    until("getting stuck", || heard.load(SeqCst) == 1);

    exchange(&mut old);
    exchange(&mut foreign_client(free.local_addr(), "/new"));
    let client = RxWsClient::builder(url(&free, "/client"), WsStr).runtime(&runtime).connect().unwrap();
    let echoed = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(echoed.item(), "hello");
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    let (ring, rung) = mpsc::channel();
    let ring = async move { ring.send(()).unwrap_or(()) };
    IoScheduler::on(&runtime).schedule(ring, Some(Duration::from_millis(1)));
    rung.recv_timeout(PATIENCE).unwrap();
    // It also takes in those who come to the blocked one, which are served once it goes on.
    blocks.send("waits".into()).unwrap();
    let mut waits = foreign_client(blocked.local_addr(), "/");
    waits.send("waits as well".into()).unwrap();
    assert_eq!(heard.load(SeqCst), 1);
    drop(release);
    until("going on", || heard.load(SeqCst) == 3);
    blocked.complete();
    free.complete();
}

#[test]
fn pipeline_of_two_components_holds_up_both_unless_one_is_delivered_elsewhere() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.clone().subscribe_with(server.clone());
    let worker = EventLoopScheduler::new("worker");
    for apart in [false, true] {
        let [first, second] = ["/a", "/b"].map(|path| support::connected(&server, path, WsStr));
        let (subscriber, release, heard) = stuck_subscriber();
        let of_second = Recorder::on(second.clone());
        if apart {
            first.clone().merge(second.clone().deliver_on(&worker)).log_errors().subscribe(subscriber);
        } else {
            first.clone().merge(second.clone()).log_errors().subscribe(subscriber);
        }
        first.next("blocks");
        until("getting stuck", || heard.load(SeqCst) == 1);
        // The second one's thread waits for the pipeline with its first message, or goes on and hears the next.
        second.next("one");
        second.next("two");
        assert_eq!(of_second.item(), "one");
        if apart {
            assert_eq!(of_second.item(), "two");
            assert_eq!(heard.load(SeqCst), 1);
        }
        drop(release);
        until("going on", || heard.load(SeqCst) == 3);
        first.complete();
        second.complete();
    }
    server.complete();
}

/// What waiting says on the thread whose work is waited for.
fn waits_on_own_thread(server: &RxWsServer<WsStr>, client: &RxWsClient<WsStr>) -> [Result<(), WsError>; 3] {
    let (send, results) = mpsc::channel();
    let send = Mutex::new(send);
    let (server, own) = (server.clone(), client.clone());
    client.state().subscribe(move |state| {
        if state == ConnectionState::Connected {
            let waits = [
                own.wait_connected(PATIENCE),
                own.wait_closed(PATIENCE).map(drop),
                server.wait_closed(PATIENCE).map(drop),
            ];
            send.lock().unwrap().send(waits).unwrap_or(());
        }
    });
    results.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn waiting_for_a_component_on_its_own_thread_is_an_error_at_once() {
    let tokio =
        [(); 2].map(|()| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    let mut runtimes = vec![IoRuntime::new("one").unwrap(), IoRuntime::with_threads("several", 2).unwrap()];
    runtimes.extend(tokio.iter().map(|tokio| IoRuntime::from_tokio(tokio.handle().clone())));
    for runtime in runtimes {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        let client = RxWsClient::builder(url(&server, "/"), WsStr).runtime(&runtime).connect().unwrap();
        let waits = waits_on_own_thread(&server, &client);
        assert!(waits.iter().all(|wait| matches!(wait, Err(WsError::WouldDeadlock(_)))), "{waits:?}");
        client.complete();
        server.complete();
    }
}
