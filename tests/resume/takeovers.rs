//! Which of two links has the session, and what the other one is told.

use std::net::Shutdown;

use rxplus::prelude::*;

use super::{raw::Speaker, support::*};

const TAKEN_OVER: u16 = 4900;

fn resumable_server() -> RxWsServer<WsStr> {
    RxWsServer::builder("ws://127.0.0.1:0", WsStr).resumable(Resume::new()).bind().unwrap()
}

fn linked(server: &RxWsServer<WsStr>) -> (Speaker, String) {
    Speaker::linked(server.local_addr(), "/")
}

fn resuming(server: &RxWsServer<WsStr>, token: &str, link: u64) -> Speaker {
    Speaker::resuming(server.local_addr(), "/", token, link, 0)
}

#[test]
fn closing_handshake_ends_the_session() {
    let server = resumable_server();
    for code in [1000, 1001, 4001] {
        let (mut link, token) = linked(&server);
        link.close(code);
        assert_eq!(link.code(), Some(code));
        assert_eq!(resuming(&server, &token, 2).heard(), "lost ended 0 0");
    }
}

/// The code means that another link has the session: the client gives up this one for the next.
#[test]
fn closing_handshake_with_4900_leaves_the_session_to_another_link() {
    let server = resumable_server();
    let (connections, events) = (Recorder::on(server.connections()), Recorder::on(server.events()));
    let (mut link, token) = linked(&server);
    let connection = connections.item();
    link.close(TAKEN_OVER);
    events.find(|event| matches!(event, ServerEvent::Session { event: SessionEvent::Parked, .. }).then_some(()));
    connection.send("kept".to_owned()).unwrap();
    let mut next = resuming(&server, &token, 2);
    assert_eq!(next.heard(), "resumed 0 0");
    next.say("at 0");
    assert_eq!(next.message(), "kept");
}

/// An attempt that its client has given up may arrive late.
#[test]
fn link_with_no_higher_number_is_closed_with_4900() {
    let server = resumable_server();
    let (mut link, token) = linked(&server);
    for number in [0, 1] {
        assert_eq!(resuming(&server, &token, number).code(), Some(TAKEN_OVER));
    }
    link.say("ask");
    assert_eq!(link.heard(), "ack 0");
}

/// A duplicated tab, or a thief: who had the session must not come back for it, so that the two do not throw each other out.
#[test]
fn link_that_is_taken_over_from_is_closed_with_4900() {
    let server = resumable_server();
    let (link, token) = linked(&server);
    assert_eq!(resuming(&server, &token, 2).heard(), "resumed 0 0");
    assert_eq!(link.code(), Some(TAKEN_OVER));
}

/// A server with a message for a client, whose next link waits for longer than its links last: five in a row broke before the
/// message arrived. And the token.
fn fruitless() -> (RxWsServer<WsStr>, String) {
    let server = resumable_server();
    let connections = Recorder::on(server.connections());
    let (mut link, token) = linked(&server);
    connections.item().send("down").unwrap();
    for number in 2..=5 {
        assert_eq!(link.payloads(1), ["down"]);
        drop(link);
        link = resuming(&server, &token, number);
    }
    assert_eq!(link.payloads(1), ["down"]);
    (server, token)
}

#[test]
fn links_that_are_replaced_while_they_wait_do_not_count_as_broken() {
    let (server, token) = fruitless();
    let mut link = resuming(&server, &token, 6);
    for number in 7..12 {
        let next = resuming(&server, &token, number);
        assert_eq!(link.heard_or_end(), None);
        link = next;
    }
    assert_eq!(link.heard(), "resumed 0 0");
    assert_eq!(link.payloads(1), ["down"]);
}

#[test]
fn links_that_break_while_they_wait_do_not_count_as_broken() {
    let (server, token) = fruitless();
    for number in 6..12 {
        let mut link = resuming(&server, &token, number);
        link.0.get_ref().shutdown(Shutdown::Write).unwrap();
        assert_eq!(link.heard_or_end(), None);
    }
    assert_eq!(resuming(&server, &token, 12).heard(), "resumed 0 0");
}

/// What a client says before it is answered is not lost while it waits.
#[test]
fn link_that_waits_may_speak() {
    let (server, token) = fruitless();
    let up = Recorder::on(server.clone().map(|td| td.data));
    let mut link = resuming(&server, &token, 6);
    link.say("at 0");
    link.send("up");
    assert_eq!(link.heard(), "resumed 0 0");
    assert_eq!(up.item(), "up");
}
