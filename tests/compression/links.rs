//! Messages that were compressed for one link, and go out on another, or not at all.

use std::time::Duration;

use crate::{
    hostile::OFFER,
    peer::Peer,
    support::foreign::{ForeignServer, host_of_its_own},
    *,
};

const AGREED: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";

const RESUMABLE: &str = "Sec-WebSocket-Protocol: rxplus.resume.1\r\n";

fn builder(server: &ForeignServer) -> ClientBuilder<WsStr> {
    let retry = RetryPolicy::fixed(Duration::from_millis(10));
    RxWsClient::builder(server.url(), WsStr).compression(Deflate::new()).retry(retry)
}

#[test]
fn messages_compressed_for_a_link_that_is_lost_go_on_plain_whole_and_once() {
    const COUNT: usize = 500;
    let len = |number: usize| 20_000 + number;
    let server = ForeignServer::on(&host_of_its_own(8));
    let client = builder(&server).connect().unwrap();
    let mut first = Peer::accept(server.accept_tcp(), AGREED);
    let messages: Vec<_> = (0..COUNT).map(|number| digits(number, len(number))).collect();
    messages.into_iter().for_each(|message| client.next(message));
    for number in 0..5 {
        assert_eq!(first.text(), Some((digits(number, len(number)), true)));
    }
    // It has not read all, so this is a reset.
    drop(first);
    let mut second = Peer::accept(server.accept_tcp(), "");
    let (text, is_compressed) = second.text().unwrap();
    let lost_at = number_of(&text);
    assert!((5..COUNT).contains(&lost_at) && !is_compressed);
    for number in lost_at + 1..COUNT {
        assert_eq!(second.text(), Some((digits(number, len(number)), false)));
    }
    client.next("last");
    assert_eq!(second.text(), Some(("last".into(), false)));
    until("all is counted", || client.stats().sent.written.messages == COUNT as u64 + 1);
    let sent = client.stats().sent;
    assert_accounted(sent);
    assert_eq!(sent.dropped.total(), tally(0, 0));
    let on_the_first = (0..lost_at).map(len).sum::<usize>();
    assert_eq!(sent.compressed, tally(lost_at as u64, on_the_first as u64));
}

#[test]
fn messages_that_are_cleared_when_they_were_compressed_are_counted_once_and_the_one_under_way_is_whole() {
    const COUNT: usize = 500;
    const LEN: usize = 20_000;
    let server = ForeignServer::on(&host_of_its_own(10));
    let client = builder(&server).connect().unwrap();
    let mut peer = Peer::accept(server.accept_tcp(), AGREED);
    let messages: Vec<_> = (0..COUNT).map(|number| digits(number, LEN)).collect();
    messages.into_iter().for_each(|message| client.next(message));
    assert_eq!(peer.text(), Some((digits(0, LEN), true)));
    client.clear_outbox();
    client.next("last");
    let heard: Vec<_> = std::iter::from_fn(|| peer.text()).take_while(|(text, _)| text != "last").collect();
    let whole: Vec<_> = (1..=heard.len()).map(|number| (digits(number, LEN), true)).collect();
    assert!(heard == whole && heard.len() + 1 < COUNT);
    let written = heard.len() as u64 + 1;
    until("all is counted", || client.stats().sent.queued == tally(0, 0));
    let sent = client.stats().sent;
    assert_accounted(sent);
    assert_eq!((sent.compressed.messages, sent.written.messages), (written, written + 1));
    assert_eq!(sent.dropped.cleared.messages, COUNT as u64 - written);
}

#[test]
fn server_that_has_not_agreed_is_sent_again_plain_what_a_session_has_written_compressed() {
    const COUNT: usize = 50;
    let server = ForeignServer::on(&host_of_its_own(9));
    let client = builder(&server).resumable(Resume::new()).connect().unwrap();
    let mut first = Peer::accept(server.accept_tcp(), &[AGREED, RESUMABLE].concat());
    first.send(0x81, b"\x10hello AAAAAAAAAAAAAAAAAAAAAA 120");
    assert_eq!(first.text(), Some(("\u{10}new".into(), false)));
    first.send(0x81, b"\x10ack 0");
    (0..COUNT).for_each(|number| client.next(digits(number, 2000)));
    for number in 0..COUNT {
        assert_eq!(first.text(), Some((digits(number, 2000), true)));
    }
    until("all is written", || client.stats().sent.compressed == tally(COUNT as u64, 2000 * COUNT as u64));
    drop(first);
    let mut second = Peer::accept(server.accept_tcp(), RESUMABLE);
    second.send(0x81, b"\x10hello AAAAAAAAAAAAAAAAAAAAAA 120");
    let (resume, _) = second.text().unwrap();
    assert!(resume.starts_with("\u{10}resume AAAAAAAAAAAAAAAAAAAAAA "), "{resume}");
    second.send(0x81, b"\x10resumed 20 0");
    let payloads = std::iter::from_fn(|| second.text()).filter(|(text, _)| !text.starts_with('\u{10}'));
    let again: Vec<_> = payloads.take(COUNT - 20).collect();
    assert_eq!(again, (20..COUNT).map(|number| (digits(number, 2000), false)).collect::<Vec<_>>());
    second.send(0x81, format!("\u{10}ack {COUNT}").as_bytes());
    until("it is known", || client.stats().sent.retained == 0);
    let sent = client.stats().sent;
    assert_accounted(sent);
    assert_eq!(sent.compressed, tally(COUNT as u64, 2000 * COUNT as u64));
}

#[test]
fn client_is_sent_again_what_a_session_has_written_in_the_form_that_its_new_link_has_agreed_on() {
    const COUNT: usize = 50;
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).compression(Deflate::new());
    let server = builder.resumable(Resume::new()).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let link = |offer: &str| {
        let offer = format!("{offer}\r\n{}", RESUMABLE.trim_end());
        let mut peer = Peer::connect(server.local_addr(), "/", &offer);
        let hello = peer.text().unwrap().0;
        (peer, hello.split(' ').nth(1).unwrap().to_owned())
    };
    let (mut peer, token) = link(OFFER);
    peer.send(0x81, b"\x10new");
    assert_eq!(peer.text(), Some(("\u{10}ack 0".into(), false)));
    let connection = connections.item();
    for number in 0..COUNT {
        server.send(TaggedData::new("/", digits(number, 2000))).unwrap();
        assert_eq!(peer.text(), Some((digits(number, 2000), true)));
    }
    drop(peer);
    // Without an agreement; with the one that there was; and with a window that is smaller than the messages.
    let small = "permessage-deflate; server_max_window_bits=9";
    for (number, offer, is_compressed) in [(2, "x-none", false), (3, OFFER, true), (4, small, true)] {
        let (mut peer, _) = link(offer);
        let received = 10 * number;
        peer.send(0x81, format!("\u{10}resume {token} {number} {received}").as_bytes());
        let again: Vec<_> = std::iter::from_fn(|| peer.text()).skip(1).take(COUNT - received).collect();
        assert_eq!(again, (received..COUNT).map(|at| (digits(at, 2000), is_compressed)).collect::<Vec<_>>());
    }
    assert_accounted(connection.stats().sent);
}
