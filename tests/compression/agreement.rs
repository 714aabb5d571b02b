//! Who compresses with whom.

use std::io::{Read, Write};

use crate::{
    peer::{Peer, accept},
    support::foreign::*,
    *,
};

const USUAL: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";

#[test]
fn both_compress_if_both_want_to() {
    for (server_wants, client_wants) in [(false, false), (false, true), (true, false), (true, true)] {
        let wanted = |wants: bool| wants.then(Deflate::new);
        let server = echo(wanted(server_wants));
        let (connections, server_events) = (Recorder::on(server.connections()), Recorder::on(server.events()));
        let client = client(url(&server, "/"), wanted(client_wants));
        let both = server_wants && client_wants;
        let is_told = |event| match event {
            ServerEvent::Connected { compressed, .. } => Some(compressed),
            _ => None,
        };
        assert_eq!(server_events.find(is_told), both);
        let is_told = |event| match event {
            ClientEvent::Connected { compressed, .. } => Some(compressed),
            _ => None,
        };
        assert_eq!(Recorder::on(client.events()).find(is_told), both);
        assert_eq!((connections.item().is_compressed(), client.is_compressed()), (both, both));
        let heard = Recorder::on(client.clone());
        for message in [text(2000).into(), Frame::from(text(9)), text(100_000).into_bytes().into(), "".into()] {
            client.next(message.clone());
            assert_eq!(heard.item(), message);
        }
        until("all is counted", || {
            [server.stats().sent, client.stats().sent].iter().all(|sent| sent.written.messages == 4)
        });
        for sent in [server.stats().sent, client.stats().sent] {
            assert_accounted(sent);
            assert_eq!(sent.written, tally(4, 102_009));
            assert_eq!(sent.compressed, if both { tally(2, 102_000) } else { tally(0, 0) });
            assert!(sent.compressed_to < 5000 && (sent.compressed_to > 0) == both);
        }
    }
}

#[test]
fn groups_compress_as_well() {
    let server = echo(Some(Deflate::new()));
    let group = RxWsClientGroup::builder(url(&server, "/"), WsFrame).compression(Deflate::new()).build().unwrap();
    let heard = Recorder::on(group.clone());
    group.next(TaggedData::new("/a", text(2000)));
    assert_eq!(heard.item().data, text(2000).into());
    assert!(group.open("/a").unwrap().is_compressed());
    until("the echo is counted", || server.stats().sent.compressed.messages == 1);
}

#[test]
fn paths_choose_where_messages_are_compressed() {
    let server = echo(Some(Deflate::new().paths(["/telemetry", "/both"])));
    let of_client = || Some(Deflate::new().paths(["/secrets", "/both"]));
    let is_compressed = |path: &str, deflate| client(url(&server, path), deflate).is_compressed();
    assert!(is_compressed("/telemetry?query=1", Some(Deflate::new())) && is_compressed("/both", of_client()));
    assert!(!is_compressed("/secrets", of_client()) && !is_compressed("/telemetry", of_client()));
}

#[test]
fn redirect_keeps_the_offer() {
    let server = echo(Some(Deflate::new()));
    let target = server.local_addr();
    let from = raw_server(move |_, mut stream| {
        let _ = stream.read(&mut [0; 2048]).unwrap();
        let answer = format!("HTTP/1.1 307 Elsewhere\r\nLocation: ws://{target}/\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let builder = RxWsClient::builder(format!("ws://{from}"), WsFrame).compression(Deflate::new());
    let client = builder.follow_redirects().connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    assert!(client.is_compressed());
}

#[test]
fn server_answers_each_offer_as_it_can() {
    let server = echo(Some(Deflate::new()));
    let answer = |offers: &str| Peer::connect(server.local_addr(), "/", offers).answer;
    assert!(answer("permessage-deflate; client_max_window_bits").contains(USUAL));
    let small = answer("permessage-deflate; no_such_thing, permessage-deflate; server_max_window_bits=\"9\"");
    assert!(small.contains("client_no_context_takeover; server_max_window_bits=9\r\n"), "{small}");
    for declined in ["permessage-deflate; server_max_window_bits=16", "x-webkit-deflate-frame", "=;,", ""] {
        let answer = answer(declined);
        assert!(answer.starts_with("HTTP/1.1 101 ") && !answer.contains("Extensions"), "{answer}");
    }
}

/// How a client with this compression fails at a server that answers with these extensions.
fn failure(compression: Option<Deflate>, extensions: &'static str) -> Option<String> {
    let server = raw_server(move |_, stream| {
        let mut peer = accept(stream, extensions);
        while peer.read().is_ok() {}
    });
    let builder = RxWsClient::builder(format!("ws://{server}"), WsFrame);
    let builder = match compression {
        Some(deflate) => builder.compression(deflate),
        None => builder,
    };
    let once = RetryPolicy::fixed(PATIENCE).max_retries(0);
    builder.retry(once).connect().unwrap().wait_connected(PATIENCE).err().map(|error| chain(&error))
}

#[test]
fn client_refuses_an_answer_that_does_not_fit_its_offer() {
    let deflate = || Some(Deflate::new());
    let refusal = |compression, extensions| failure(compression, extensions).unwrap();
    assert!(refusal(None, "permessage-deflate").contains("not offered"));
    assert!(refusal(Some(Deflate::new().paths(["/x"])), "permessage-deflate").contains("not offered"));
    assert!(refusal(deflate(), "permessage-deflate, x").contains("not offered"));
    assert!(refusal(deflate(), "permessage-deflate; server_max_window_bits=99").contains("are invalid"));
    assert!(refusal(deflate(), "permessage-deflate=").contains("is malformed"));
    assert_eq!(failure(deflate(), "permessage-deflate; client_max_window_bits=8"), None);
}
