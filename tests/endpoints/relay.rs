//! Pipelines from one socket to another.

use super::*;

#[test]
fn client_relayed_into_another_server_is_one_expression_each_way() {
    let (a, b) =
        (RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap(), RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap());
    let client_of_a = connected(&a, "/feed", WsStr);
    let (at_a, connections_of_b) = (Recorder::on(a.clone()), Recorder::on(b.connections()));

    client_of_a.clone().tag("/mirror").subscribe_with(b.clone());
    b.clone().tag_filter("/mirror").untag().subscribe_with(client_of_a.clone());

    let reader = connected(&b, "/mirror", WsStr);
    connections_of_b.item(); // its route is open
    let heard = Recorder::on(reader.clone());
    for text in texts(0..100) {
        a.next(TaggedData::new("/feed", text));
    }
    assert_eq!(heard.items(100), texts(0..100));
    texts(0..100).into_iter().for_each(|text| reader.next(text));
    assert!(at_a.items(100).into_iter().map(|tagged| tagged.data).eq(texts(0..100)));
    client_of_a.complete();
    b.wait_closed(PATIENCE).unwrap(); // the end of what feeds it is its end
}

#[test]
fn server_relayed_into_a_group_reaches_the_same_path_elsewhere() {
    let front = RxWsServer::bind("ws://127.0.0.1:0", WsFrame).unwrap();
    let back = echo_server(WsFrame);
    let group = RxWsClientGroup::new(url(&back, "/"), WsFrame).unwrap();
    front.clone().merge_into(&group);
    group.clone().merge_into(&front);
    for path in ["/audio", "/chat"] {
        let client = connected(&front, path, WsFrame);
        let heard = Recorder::on(client.clone());
        for frame in [Frame::from("text"), Frame::from(vec![1, 2, 3])] {
            client.next(frame.clone());
            assert_eq!(heard.item(), frame);
        }
    }
    front.complete();
    group.complete();
}

#[test]
fn connection_relayed_to_another_is_a_private_line() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let join = || (connected(&server, "/", WsStr), connections.item());
    let ((alice, to_alice), (bob, to_bob)) = (join(), join());
    to_alice.clone().subscribe_with(to_bob.clone());
    to_bob.subscribe_with(to_alice);
    let (heard_by_alice, heard_by_bob) = (Recorder::on(alice.clone()), Recorder::on(bob.clone()));
    alice.next("hello Bob");
    assert_eq!(heard_by_bob.item(), "hello Bob");
    bob.next("hello Alice");
    assert_eq!(heard_by_alice.item(), "hello Alice");
}
