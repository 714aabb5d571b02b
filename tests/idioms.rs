//! What programs are made of: how endpoints, sources of RxRust's and the bridges between their error types go together.

mod support;

use std::{
    convert::Infallible,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
};

use futures::StreamExt;
use rxplus::prelude::*;
use support::{Heard, PATIENCE, Recorder, connected, echo_server, thread_name, until, url};

const TICK: Duration = Duration::from_millis(1);

#[test]
fn next_takes_whatever_becomes_an_item_with_the_observer_trait_in_scope() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::on(client.clone());
    let string = String::from("a string");
    client.next("a str");
    client.next(&string);
    client.next(string);
    client.next(WsText::from("a text"));
    assert_eq!(heard.items(4), ["a str", "a string", "a string", "a text"]);
}

#[test]
fn closure_hears_each_endpoint_without_a_bridge_for_its_error() {
    let (server, (sender, received)) = (echo_server(WsStr), mpsc::channel());
    let [from_server, from_connection, from_client, from_group] =
        ["server", "connection", "client", "group"].map(|name| {
            let sender = sender.clone();
            move |text: WsText| sender.send((name, text)).unwrap_or(())
        });
    server.clone().subscribe(move |td| from_server(td.data));
    server.connections().subscribe(move |connection| {
        let hear = from_connection.clone();
        connection.subscribe(hear);
    });
    let client = connected(&server, "/", WsStr);
    client.clone().subscribe(from_client);
    let group = RxWsClientGroup::new(url(&server, ""), WsStr).unwrap();
    group.clone().subscribe(move |td| from_group(td.data));
    client.next("a");
    group.next(TaggedData::new("/b", "b"));
    let mut heard: Vec<_> = (0..6).map(|_| received.recv_timeout(PATIENCE).unwrap()).collect();
    heard.sort_unstable();
    let expected =
        [("client", "a"), ("connection", "a"), ("connection", "b"), ("group", "b"), ("server", "a"), ("server", "b")];
    assert_eq!(heard, expected.map(|(name, text)| (name, WsText::from(text))));
}

#[test]
fn source_that_cannot_fail_is_sent_by_the_client_it_is_subscribed_with_and_closes_it() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let client = connected(&server, "/", WsStr);
    Io::from_iter(["a", "b"]).subscribe_with(client.clone());
    assert_eq!(heard.items(2), [TaggedData::new("/", WsText::from("a")), TaggedData::new("/", "b".into())]);
    client.wait_closed(PATIENCE).unwrap();
}

#[test]
fn source_that_fails_ends_the_client_it_is_subscribed_with_by_its_error() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::<WsText>::on(client.clone());
    let failing = Io::<()>::throw_err(WsError::application("no more")).map(|()| "never");
    failing.subscribe_with(client);
    assert_eq!(heard.hear(), Heard::Error("no more".into()));
}

#[test]
fn client_of_one_server_feeds_another_server_in_one_expression() {
    let (from, to) = (echo_server(WsStr), RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap());
    let heard = Recorder::on(connected(&to, "/relayed", WsStr));
    Recorder::on(to.connections()).item(); // the server knows it too
    let source = connected(&from, "/", WsStr);
    source.clone().tag("/relayed").subscribe_with(to);
    source.next("passed on");
    assert_eq!(heard.item(), "passed on");
}

#[test]
fn server_is_reached_at_a_path_it_was_given_without_the_slash() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).paths(["top floor"]).bind().unwrap();
    let at = ConnConfig::try_from(server.local_addr()).unwrap().path("top floor");
    RxWsClient::connect(at, WsStr).unwrap().wait_connected(PATIENCE).unwrap();
}

#[test]
fn clients_of_two_servers_merge() {
    let servers = [echo_server(WsStr), echo_server(WsStr)];
    let [a, b] = servers.each_ref().map(|server| connected(server, "/", WsStr));
    let heard = Recorder::on(a.clone().tag("a").merge(b.clone().tag("b")));
    a.next("1");
    assert_eq!(heard.item(), TaggedData::new("a", "1".into()));
    b.next("2");
    assert_eq!(heard.item(), TaggedData::new("b", "2".into()));
}

#[test]
fn ticks_given_an_error_type_merge_with_a_client() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let ticks = Io::interval(TICK).take(3).map(|n| WsText::from(n.to_string())).with_err();
    // Each tick is sent by the callback, and comes back.
    let pushed = client.clone();
    let merged = ticks.merge(client).tap(move |text: &WsText| {
        if text.len() == 1 {
            pushed.next(format!("back: {text}"));
        }
    });
    let mut heard = Recorder::on(merged).items(6);
    heard.sort();
    assert_eq!(heard, ["0", "1", "2", "back: 0", "back: 1", "back: 2"]);
}

#[test]
fn ticks_merge_with_a_client_whose_errors_are_logged() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::on(Io::interval(TICK).take(1).map(|_| 0).merge(client.clone().log_errors().map(|_| 1)));
    assert_eq!(heard.item(), 0);
    client.next("a");
    assert_eq!(heard.item(), 1);
    client.error(WsError::application("logged, not heard"));
    assert_eq!(heard.hear(), Heard::Complete);
}

#[test]
fn observe_on_moves_the_callbacks_of_a_client_to_another_thread() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("here").connect().unwrap();
    let there = IoRuntime::new("there").unwrap();
    let on_its_own = Recorder::on(client.clone().map(|_| thread_name()));
    let moved = Recorder::on(client.clone().observe_on(IoScheduler::on(&there)).map(|_| thread_name()));
    let moved_to_default = Recorder::on(client.clone().observe_on(IoScheduler::default()).map(|_| thread_name()));
    client.next("a");
    assert_eq!(on_its_own.item(), "rxplus-here");
    assert_eq!(moved.item(), "there");
    assert_eq!(moved_to_default.item(), "rxplus-global");
}

#[test]
fn boxed_pipelines_are_kept_in_a_struct() {
    struct Dashboard {
        texts: IoBoxedObservable<'static, WsText, WsError>,
        lengths: IoBoxedObservable<'static, usize, Infallible>,
    }

    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let dashboard = Dashboard {
        texts: client.clone().filter(|text| !text.is_empty()).box_it(),
        lengths: client.clone().log_errors().map(|text| text.len()).box_it(),
    };
    let (texts, lengths) = (Recorder::on(dashboard.texts), Recorder::on(dashboard.lengths));
    client.next("");
    client.next("abc");
    assert_eq!(texts.item(), "abc");
    assert_eq!(lengths.items(2), [0, 3]);
}

#[tokio::test]
async fn stream_of_a_client_is_read_in_a_tokio_program_until_the_client_closes() {
    let server = echo_server(WsStr);
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    let mut stream = client.clone().into_stream();
    client.next("a");
    assert_eq!(stream.next().await.unwrap().unwrap(), "a");
    client.next("b");
    assert_eq!(stream.next().await.unwrap().unwrap(), "b");
    client.clone().complete();
    assert!(stream.next().await.is_none());
    assert_eq!(client.closed().await.unsent, 0);
}

#[test]
fn retry_makes_a_client_afresh_each_time_it_gave_up() {
    let vacant = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let client = Io::defer(move || {
        counted.fetch_add(1, SeqCst);
        let impatient = RetryPolicy::fixed(TICK).max_retries(0);
        RxWsClient::builder(format!("ws://{vacant}"), WsStr).retry(impatient).connect().unwrap().box_it()
    });
    let heard = Recorder::<WsText>::on(client.retry(2));
    assert_eq!(heard.hear(), Heard::Error(format!("gave up connecting to ws://{vacant}/ after 1 attempts")));
    assert_eq!(made.load(SeqCst), 3);
}

#[test]
fn retry_of_one_client_that_gave_up_hears_its_end_each_time() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::on(client.clone().retry(2));
    client.next("a");
    assert_eq!(heard.item(), "a");
    client.error(WsError::application("given up"));
    assert_eq!(heard.hear(), Heard::Error("given up".into()));
    until("the server losing its connection", || server.connection_count() == 0);
}
