//! Messages of peers that are not rxplus's: tokio-tungstenite on the other side, and frames as only others send them.

use futures::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::{accept_async, connect_async};
use tungstenite::{
    Message,
    protocol::frame::{
        Frame as WireFrame,
        coding::{CloseCode, Data, OpCode},
    },
};

use super::*;

/// Messages of both kinds and of the lengths at which the frame header grows.
fn messages() -> Vec<Message> {
    let lens = [0, 1, 125, 126, 127, 65_535, 65_536, 1024 * 1024];
    lens.iter().flat_map(|&len| [Message::text("x".repeat(len)), Message::binary(vec![0xa5; len])]).collect()
}

#[tokio::test]
async fn foreign_client_exchanges_messages_with_our_server() {
    let server = echo_server_with(RxWsServer::builder("ws://127.0.0.1:0", WsFrame).ping_interval(None));
    let (mut client, _) = connect_async(url(&server, "/chat")).await.unwrap();
    for message in messages() {
        client.send(message.clone()).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), message);
    }
    client.close(None).await.unwrap();
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    assert!(client.next().await.is_none());
    until("the end of the connection", || server.connection_count() == 0);
}

#[tokio::test]
async fn our_client_exchanges_messages_with_a_foreign_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("ws://{}", listener.local_addr().unwrap());
    let client = RxWsClient::builder(address, WsFrame).ping_interval(None).connect().unwrap();
    let mut heard = client.clone().into_stream();
    let mut peer = accept_async(listener.accept().await.unwrap().0).await.unwrap();
    for message in messages() {
        peer.send(message.clone()).await.unwrap();
        client.next(heard.next().await.unwrap().unwrap());
        assert_eq!(peer.next().await.unwrap().unwrap(), message);
    }
    client.complete();
    let Some(Ok(Message::Close(Some(frame)))) = peer.next().await else { panic!("something else than a close frame") };
    assert_eq!(frame.code, CloseCode::Normal);
}

/// One message in three frames, with a ping between them (RFC 6455, section 5.4).
fn send_in_fragments(peer: &mut Foreign, kind: Data) {
    let frame =
        |data: &'static str, opcode, is_last| Message::Frame(WireFrame::message(data, OpCode::Data(opcode), is_last));
    peer.send(frame("frag", kind, false)).unwrap();
    peer.send(frame("ment", Data::Continue, false)).unwrap();
    peer.send(Message::Ping("are you there?".into())).unwrap();
    peer.send(frame("ed", Data::Continue, true)).unwrap();
}

#[test]
fn fragmented_message_arrives_whole_after_the_answer_to_a_ping_in_it() {
    let server = echo_server(WsFrame);
    let mut peer = foreign_client(server.local_addr(), "/");
    for (kind, whole) in [(Data::Text, Message::text("fragmented")), (Data::Binary, Message::binary("fragmented"))] {
        send_in_fragments(&mut peer, kind);
        assert_eq!(read(&mut peer), Message::Pong("are you there?".into()));
        assert_eq!(read(&mut peer), whole);
    }
}

#[test]
fn client_takes_fragments_and_answers_pings_as_a_server_does() {
    let server = ForeignServer::start();
    let client = RxWsClient::connect(server.url(), WsFrame).unwrap();
    client.clone().subscribe_with(client.clone());
    let mut peer = server.accept();
    send_in_fragments(&mut peer, Data::Text);
    assert_eq!(read(&mut peer), Message::Pong("are you there?".into()));
    assert_eq!(read(&mut peer), Message::text("fragmented"));
    client.complete();
}

#[test]
fn pong_that_nobody_asked_for_is_ignored() {
    let server = echo_server(WsStr);
    let mut peer = foreign_client(server.local_addr(), "/");
    peer.send(Message::Pong("unasked".into())).unwrap();
    peer.send(Message::text("hello")).unwrap();
    assert_eq!(read(&mut peer), Message::text("hello"));
}
