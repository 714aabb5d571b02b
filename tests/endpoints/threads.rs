//! Rule 10: which thread does what, what happens when it does not, and that a runtime of the program's own is neither needed
//! nor in the way.

use std::{
    io::ErrorKind,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use futures::{StreamExt, executor::block_on};

use super::*;

fn own_name<T>(_: T) -> String {
    thread_name()
}

#[test]
fn callbacks_run_on_the_io_thread_of_their_component() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("home-of-server").bind().unwrap();
    let (on_connection, connection_threads) = answers(own_name::<Connection<WsStr>>);
    let (on_message, message_threads) = answers(own_name::<TaggedData<WsText>>);
    let (on_event, event_threads) = answers(own_name::<ServerEvent>);
    server.connections().subscribe(on_connection);
    server.clone().log_errors().subscribe(on_message);
    server.events().subscribe(on_event);
    server.clone().subscribe_with(server.clone());

    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("home-of-client").connect().unwrap();
    let (on_echo, echo_threads) = answers(own_name::<WsText>);
    client.clone().log_errors().subscribe(on_echo);
    client.next("hello");

    for threads in [connection_threads, message_threads, event_threads] {
        assert_eq!(threads.recv_timeout(PATIENCE).unwrap(), "rxplus-home-of-server");
    }
    assert_eq!(echo_threads.recv_timeout(PATIENCE).unwrap(), "rxplus-home-of-client");
    server.complete();
}

#[test]
fn time_operators_of_a_pipeline_run_on_the_io_thread_too() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("debounces").connect().unwrap();
    let (on_message, threads) = answers(own_name::<WsText>);
    client.clone().log_errors().debounce(Duration::from_millis(1)).subscribe(on_message);
    client.next("hello");
    assert_eq!(threads.recv_timeout(PATIENCE).unwrap(), "rxplus-debounces");
}

#[test]
fn observe_on_moves_the_callbacks() {
    let elsewhere = IoRuntime::new("elsewhere").unwrap();
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let (on_message, threads) = answers(own_name::<WsText>);
    client.clone().log_errors().observe_on(IoScheduler::on(&elsewhere)).subscribe(on_message);
    client.next("hello");
    assert_eq!(threads.recv_timeout(PATIENCE).unwrap(), "elsewhere");
}

#[test]
fn components_given_a_runtime_share_its_thread() {
    let shared = IoRuntime::new("shared").unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&shared).bind().unwrap();
    server.clone().subscribe_with(server.clone());
    let (on_message, threads) = answers(own_name::<WsText>);
    let on_message = Arc::new(on_message);
    let clients = [(); 3].map(|()| {
        let client = RxWsClient::builder(url(&server, "/"), WsStr).runtime(&shared).connect().unwrap();
        let on_message = on_message.clone();
        client.clone().log_errors().subscribe(move |text| on_message(text));
        client
    });
    clients.iter().for_each(|client| client.next("hello"));
    for _ in 0..3 {
        assert_eq!(threads.recv_timeout(PATIENCE).unwrap(), "shared");
    }
    server.complete();
}

#[test]
fn children_share_the_groups_thread() {
    let server = echo_server(WsStr);
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr).name("one-thr").build().unwrap();
    let (on_message, names) = answers(|_| thread::current().name().map(str::to_owned));
    group.clone().log_errors().subscribe(on_message);
    for path in ["/audio", "/pose"] {
        group.next(TaggedData::new(path, "hello"));
        assert_eq!(names.recv_timeout(PATIENCE).unwrap().as_deref(), Some("rxplus-one-thr"));
    }
}

#[test]
fn messages_stay_in_order_on_a_runtime_of_several_threads() {
    let several = IoRuntime::with_threads("several", 3).unwrap();
    let server = echo_server_with(RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&several));
    let join = || {
        let client = RxWsClient::builder(url(&server, "/"), WsStr).runtime(&several).connect().unwrap();
        (Recorder::on(client.clone()), client)
    };
    let clients: Vec<_> = (0..8).map(|_| join()).collect();
    clients.iter().for_each(|(_, client)| texts(0..500).into_iter().for_each(|text| client.next(text)));
    for (heard, _) in &clients {
        assert_eq!(heard.items(500), texts(0..500));
    }
}

#[test]
fn everything_works_from_synchronous_code_without_a_runtime() {
    assert!(tokio::runtime::Handle::try_current().is_err());
    exercise();
}

/// Blocks the thread it is called on, as synchronous code does.
fn exercise() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.clone().subscribe_with(server.clone());
    let client = connected(&server, "/client", WsStr);
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let (by_client, by_group) = (Recorder::on(client.clone()), Recorder::on(group.clone()));
    client.next("hello");
    group.next(TaggedData::new("/group", "hello"));
    assert_eq!(by_client.item(), "hello");
    assert_eq!(by_group.item(), TaggedData::new("/group", "hello".into()));
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    client.complete();
    group.complete();
    assert_eq!((by_client.hear(), by_group.hear()), (Heard::Complete, Heard::Complete));
}

#[tokio::test]
async fn everything_works_inside_a_tokio_runtime_of_one_thread() {
    exercise();
    exercise_async().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_inside_a_tokio_runtime_of_several_threads() {
    exercise();
    exercise_async().await;
}

/// Waits as asynchronous code does.
async fn exercise_async() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.clone().subscribe_with(server.clone());
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let mut heard = group.clone().into_stream();
    for text in texts(0..10) {
        group.next(TaggedData::new("/group", text.clone()));
        let echo = heard.next().await.unwrap().unwrap();
        assert_eq!(echo, TaggedData::new("/group", text.into()));
    }
    group.clone().complete();
    assert_eq!(group.closed().await, CloseReport::default());
    assert!(heard.next().await.is_none());
    server.clone().complete();
    assert_eq!(server.closed().await, CloseReport::default());
}

/// What a task of a runtime of several threads waits for is done by the others, also what it has woken itself.
#[test]
fn task_may_block_where_other_threads_of_the_runtime_serve_the_endpoint() {
    let server = echo_server(WsStr);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let own = IoRuntime::from_tokio(runtime.handle().clone());
    let blocking = async move {
        for _ in 0..50 {
            let builder = RxWsClient::builder(url(&server, "/"), WsStr).runtime(&own);
            let client = builder.outbox(1, 1000, Overflow::DropLatest).connect().unwrap();
            client.wait_connected(PATIENCE).unwrap();
            client.send("a").unwrap();
            client.send_timeout("b", PATIENCE).unwrap();
            let calls = client.calls(|text| text.parse::<u64>().ok()).timeout(PATIENCE);
            assert_eq!(calls.call(|id| id.to_string()).wait().unwrap(), "1");
            client.clone().complete();
            client.wait_closed(PATIENCE).unwrap();
        }
    };
    runtime.block_on(runtime.spawn(blocking)).unwrap();
}

#[tokio::test]
async fn components_run_on_the_programs_own_tokio_runtime() {
    let own = IoRuntime::from_tokio(tokio::runtime::Handle::current());
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&own).bind().unwrap();
    server.clone().subscribe_with(server.clone());
    let client = RxWsClient::builder(url(&server, "/"), WsStr).runtime(&own).connect().unwrap();
    let here = thread::current().id();
    let same_thread = client.clone().map(move |text| (text, thread::current().id() == here));
    let mut heard = same_thread.into_stream();
    client.next("hello");
    assert_eq!(heard.next().await.unwrap().unwrap(), ("hello".into(), true));
    client.clone().complete();
    client.closed().await;
    server.clone().complete();
    server.closed().await;
}

#[test]
fn handles_made_inside_a_runtime_outlive_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, client) = runtime.block_on(async {
        let server = echo_server(WsStr);
        let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
        (server, client)
    });
    drop(runtime);
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");
    client.complete();
    server.clone().complete();
    assert_eq!(block_on(server.closed()), CloseReport::default());
}

#[test]
fn component_that_blocks_in_a_callback_slows_no_other() {
    let (server, other) = (echo_server(WsStr), echo_server(WsStr));
    let (blocked, free) = (connected(&server, "/", WsStr), connected(&other, "/", WsStr));
    let (release, held) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let held = Mutex::new(held);
    blocked.clone().log_errors().subscribe(move |_| {
        entered.send(()).unwrap();
        // An error says that the test is over.
        let _ = held.lock().unwrap().recv();
    });
    blocked.next("blocks");
    inside.recv_timeout(PATIENCE).unwrap();
    let heard = Recorder::on(free.clone());
    free.next("hello");
    assert_eq!(heard.item(), "hello");
    drop(release);
}

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
fn busy_server_leaves_messages_in_their_sockets_on_several_threads() {
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
fn busy_group_leaves_messages_in_their_sockets_on_several_threads() {
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
fn busy_connection_leaves_messages_in_its_socket_on_several_threads() {
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
fn busy_child_leaves_messages_in_its_socket_on_several_threads() {
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
fn blocking_callback_leaves_others_running_on_several_threads() {
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
fn pipeline_of_two_holds_up_both_unless_one_is_delivered_elsewhere() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.clone().subscribe_with(server.clone());
    let worker = EventLoopScheduler::new("worker");
    for apart in [false, true] {
        let [first, second] = ["/a", "/b"].map(|path| connected(&server, path, WsStr));
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
