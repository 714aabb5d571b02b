//! A client that is connected: what it sends and what it emits.

use support::proxy::Proxy;

use super::*;

#[test]
fn client_sends_emits_and_closes() {
    let server = echo_server(WsStr);
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    let heard = Recorder::on(client.clone());
    texts(0..100).into_iter().for_each(|text| client.next(text));
    assert_eq!(heard.items(100), texts(0..100));
    client.clone().complete();
    assert_eq!(heard.hear(), Heard::Complete);
    assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    until("the end of the connection", || server.connection_count() == 0);
}

#[test]
fn threads_that_push_into_one_client_each_keep_their_order() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::on(client.clone());
    thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || (0..200).for_each(|n| client.next(format!("{thread} {n}"))));
        }
    });
    let mut next = [0; 4];
    for text in heard.items(800) {
        let (thread, n) = text.split_once(' ').unwrap();
        let next = &mut next[thread.parse::<usize>().unwrap()];
        assert_eq!(n.parse::<usize>().unwrap(), *next);
        *next += 1;
    }
}

#[test]
fn client_that_discards_what_arrives_still_sends() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).discard_inbound().connect().unwrap();
    let heard = Recorder::on(client.clone());
    client.next("hello");
    until_settled("the arrival of the echo", &client, |client| client.stats().received.messages == 1);
    client.complete();
    assert_eq!(heard.hear(), Heard::Complete);
}

#[test]
fn frames_arrive_whole_over_a_link_that_passes_single_bytes() {
    let server = echo_server(WsStr);
    let proxy = Proxy::to(server.local_addr());
    proxy.segment(1);
    let client = RxWsClient::connect(proxy.url("/"), WsStr).unwrap();
    let heard = Recorder::on(client.clone());
    let texts = ["", "a", "äöü", &"long ".repeat(100)];
    texts.iter().for_each(|text| client.next(*text));
    assert_eq!(heard.items(4), texts);
    client.clone().complete();
    assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    server.complete();
}
