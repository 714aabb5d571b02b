//! Waiting for a connection or for an end: what ends it, and where it could never end.

use super::*;

#[test]
fn waiting_ends_with_its_timeout() {
    let nobody_accepts = ForeignServer::start();
    let client = RxWsClient::connect(nobody_accepts.url(), WsStr).unwrap();
    let soon = Duration::from_millis(1);
    assert!(matches!(client.wait_connected(soon), Err(WsError::TimedOut { after, .. }) if after == soon));
    assert!(matches!(client.wait_closed(soon), Err(WsError::TimedOut { .. })));
}

#[test]
fn waiting_for_a_connection_ends_with_what_ended_the_client() {
    let nobody_accepts = ForeignServer::start();
    let client = RxWsClient::connect(nobody_accepts.url(), WsStr).unwrap();
    client.clone().error(WsError::application("enough"));
    assert!(matches!(client.wait_connected(PATIENCE), Err(WsError::Application(_))));
    let client = RxWsClient::connect(nobody_accepts.url(), WsStr).unwrap();
    client.clone().complete();
    assert!(matches!(client.wait_connected(PATIENCE), Err(WsError::Closed(_))));
}

#[test]
fn closed_resolves_for_those_who_wait_and_for_those_who_come_late() {
    let client = RxWsClient::connect("ws://127.0.0.1:1", WsStr).unwrap();
    let (early, late) = (client.closed(), client.clone());
    thread::scope(|scope| {
        scope.spawn(|| futures::executor::block_on(early));
        client.complete();
    });
    assert_eq!(futures::executor::block_on(late.closed()), CloseReport::default());
}

#[test]
fn waker_that_panics_keeps_no_other_wait_for_the_end_waiting() {
    let client = RxWsClient::connect("ws://127.0.0.1:1", WsStr).unwrap();
    let panicking = [(); 9].map(|()| poll_with_waker_that_panics(client.closed()));
    let waits = [(); 20].map(|()| client.closed()).map(|closed| thread::spawn(|| futures::executor::block_on(closed)));
    client.complete();
    within_patience(|| waits.into_iter().for_each(|wait| assert_eq!(wait.join().unwrap(), CloseReport::default())));
    drop(panicking);
}

#[test]
fn waiting_on_the_own_thread_is_an_error_at_once() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let waited_for = server.clone();
    let (on_connection, server_answers) = answers(move |connection: Connection<WsStr>| {
        connection.next("welcome");
        [waited_for.wait_closed(PATIENCE), connection.wait_closed(PATIENCE)].map(|result| result.map(drop))
    });
    server.connections().subscribe(on_connection);
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let client = group.open("/").unwrap();
    let (own, own_group) = (client.clone(), group.clone());
    let (on_message, client_answers) = answers(move |_| {
        let closed = [own.wait_closed(PATIENCE), own_group.wait_closed(PATIENCE)];
        (own.wait_connected(PATIENCE), closed.map(|result| result.map(drop)))
    });
    client.clone().log_errors().subscribe(on_message);
    let would_deadlock = |result: &Result<(), WsError>| matches!(result, Err(WsError::WouldDeadlock(_)));
    assert!(server_answers.recv_timeout(PATIENCE).unwrap().iter().all(would_deadlock));
    let (connected, closed) = client_answers.recv_timeout(PATIENCE).unwrap();
    assert!(would_deadlock(&connected) && closed.iter().all(would_deadlock));
    server.complete();
    group.complete();
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

#[tokio::test(flavor = "current_thread")]
async fn waiting_on_the_only_thread_of_a_runtime_is_an_error_at_once() {
    let server = echo_server(WsStr);
    let runtime = IoRuntime::from_tokio(tokio::runtime::Handle::current());
    let client = RxWsClient::builder(url(&server, "/"), WsStr).runtime(&runtime).connect().unwrap();
    let would_deadlock = || {
        matches!(client.wait_connected(Duration::MAX), Err(WsError::WouldDeadlock(_)))
            && matches!(client.wait_closed(Duration::MAX), Err(WsError::WouldDeadlock(_)))
    };
    assert!(would_deadlock());
    let waiting = client.clone();
    let waited = tokio::task::spawn_blocking(move || waiting.wait_connected(PATIENCE)).await.unwrap();
    waited.unwrap(); // a thread for that is the way to wait here
    assert!(would_deadlock());
    client.clone().complete();
    client.closed().await;
}

#[test]
fn wait_for_the_end_of_a_server_lasts_until_its_connections_are_emitted() {
    let several = IoRuntime::with_threads("several", 3).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&several).bind().unwrap();
    let ((enter, inside), (release, held)) = (mpsc::channel(), mpsc::channel::<()>());
    let held = Mutex::new(held);
    server.connections().subscribe(move |_| {
        enter.send(()).unwrap();
        _ = held.lock().unwrap().recv_timeout(PATIENCE);
    });
    let _client = connected(&server, "/", WsStr);
    inside.recv_timeout(PATIENCE).unwrap();
    server.clone().complete();
    assert!(matches!(server.wait_closed(Duration::from_millis(300)), Err(WsError::TimedOut { .. })));
    drop(release);
    server.wait_closed(PATIENCE).unwrap();
}

/// Long enough for an end that nothing holds up.
const MOMENT: Duration = Duration::from_millis(50);

/// Passes items on, and is held up by the first one until the last value is dropped.
fn held_up<T>() -> (impl FnMut(T) -> T + Send + 'static, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((begin, begun), (release, released)) = (mpsc::channel(), mpsc::channel());
    let pass = move |item| {
        begin.send(()).unwrap_or(());
        released.recv().unwrap_or(());
        item
    };
    (pass, begun, release)
}

/// The wait lasts at least as long as an observer is held up.
fn lasts_until_released(wait: impl Fn(Duration) -> Result<CloseReport, WsError>, release: mpsc::Sender<()>) {
    assert!(matches!(wait(MOMENT), Err(WsError::TimedOut { .. })));
    drop(release);
    wait(PATIENCE).unwrap();
}

/// An observer that another thread of the runtime is calling hears the end before a wait for it is over.
#[test]
fn waits_for_the_end_are_over_after_states_and_links_are_delivered() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(runtime).bind().unwrap();
        let connections = Recorder::on(server.connections());
        let client = RxWsClient::builder(url(&server, "/"), WsStr).runtime(runtime).connect().unwrap();
        let connection = connections.item();
        client.wait_connected(PATIENCE).unwrap();

        let (pass, begun, release) = held_up();
        let links = Recorder::on(connection.link().map(pass));
        begun.recv_timeout(PATIENCE).unwrap();
        connection.clone().complete();
        lasts_until_released(|limit| connection.wait_closed(limit), release);
        assert!(links.rest().last().is_some_and(Heard::is_complete));

        let (pass, begun, release) = held_up();
        let states = Recorder::on(client.state().map(pass));
        begun.recv_timeout(PATIENCE).unwrap();
        client.clone().complete();
        lasts_until_released(|limit| client.wait_closed(limit), release);
        assert!(states.rest().last().is_some_and(Heard::is_complete));
    }
}

#[test]
fn waits_for_the_end_of_a_server_are_over_after_presence_is_delivered() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(runtime).bind().unwrap();
        let _client = connected(&server, "/", WsStr);
        // The others hear first what it has heard.
        Recorder::on(server.presence()).item();
        let (pass, begun, release) = held_up();
        let presence = Recorder::on(server.presence().map(pass));
        begun.recv_timeout(PATIENCE).unwrap();
        server.clone().complete();
        lasts_until_released(|limit| server.wait_closed(limit), release);
        assert!(presence.rest().last().is_some_and(Heard::is_complete));
    }
}
