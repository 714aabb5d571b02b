//! Which thread does what, and that a runtime of the program's own is neither needed nor in the way.

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
