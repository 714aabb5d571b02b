//! Rule 5: a message that makes its links end is not sent for ever.

use std::io::Read;

use tungstenite::protocol::CloseFrame;

use super::{refusals::AT_ONCE, *};

/// More than the buffers of two sockets hold, so that a link ends while it is being written.
const TOO_LONG: usize = 8 * 1024 * 1024;

/// A client that comes back at once, and what it tells.
fn client_of(server: impl Into<Addr>) -> (RxWsClient<WsBytes>, Recorder<ClientEvent>) {
    let builder = RxWsClient::builder(format!("ws://{}", server.into()), WsBytes).conn_retry_timeout(AT_ONCE);
    let client = builder.connect().unwrap();
    (client.clone(), Recorder::on(client.events()))
}

/// Waits until a message is given up: its length, how many links it made end, and how the last one did.
fn given_up(events: &Recorder<ClientEvent>) -> (usize, u32, WsError) {
    events.find(|event| match event {
        ClientEvent::Undeliverable { len, links, error } => Some((len, links, error)),
        _ => None,
    })
}

fn assert_dropped(client: &RxWsClient<WsBytes>, events: &Recorder<ClientEvent>, len: usize) {
    let expected = tally(1, len as u64);
    assert!(matches!(
        events.item(),
        ClientEvent::Dropped { reason: DropReason::Undeliverable, dropped } if dropped == expected
    ));
    let sent = client.stats().sent;
    assert_eq!(sent.dropped.undeliverable, expected);
    assert_accounted(sent);
}

/// A server that takes the beginning of a message on its first `links` connections, does there what `end` says, and leaves
/// them to the test; on later ones it takes everything.
fn server_that_ends(
    links: usize,
    end: impl Fn(&mut Foreign) + Clone + Send + 'static,
) -> (SocketAddr, mpsc::Receiver<Foreign>) {
    let (keep, kept) = mpsc::channel();
    let server = foreign_server(move |number, mut peer| {
        if number < links {
            let _ = peer.get_mut().read(&mut [0; 1024]);
            end(&mut peer);
            keep.send(peer).unwrap_or(());
        } else {
            while peer.read().is_ok() {}
        }
    });
    (server, kept)
}

fn close_with(peer: &mut Foreign, code: u16) {
    peer.close(Some(CloseFrame { code: code.into(), reason: "".into() })).unwrap();
}

#[test]
fn message_for_which_the_server_closes_two_links_in_a_row_is_given_up() {
    for code in [1008, 1009] {
        let (server, _kept) = server_that_ends(2, move |peer| close_with(peer, code));
        let (client, events) = client_of(server);
        client.next(vec![0; TOO_LONG]);
        let (len, links, error) = given_up(&events);
        assert_eq!((len, links), (TOO_LONG, 2), "{error:?}");
        assert!(matches!(error, WsError::ClosedByPeer { code: told, .. } if told == code), "{error:?}");
        assert_dropped(&client, &events, TOO_LONG);
        client.next("next".as_bytes().to_vec());
        until("the next one", || client.stats().sent.written.messages == 1);
        client.complete();
    }
}

#[test]
fn message_behind_one_that_the_server_refuses_for_its_length_arrives() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsBytes).unwrap();
    let heard = Recorder::on(server.clone());
    let (client, _) = client_of(server.local_addr());
    for len in [1, TOO_LONG, 3] {
        client.send(vec![0; len]).unwrap();
    }
    assert_eq!([1, 3].map(|_| heard.item().data.len()), [1, 3]);
    assert_accounted(client.stats().sent);
    client.complete();
    server.complete();
}

#[test]
fn message_that_no_link_gets_written_is_given_up_after_eight_of_them() {
    let (server, kept) = server_that_ends(8, |_| {});
    let (client, events) = client_of(server);
    client.next(vec![0; TOO_LONG]);
    for _ in 0..8 {
        drop(kept.recv_timeout(PATIENCE).unwrap());
    }
    let (len, links, error) = given_up(&events);
    assert_eq!((len, links), (TOO_LONG, 8), "{error:?}");
    assert_dropped(&client, &events, TOO_LONG);
    client.next("next".as_bytes().to_vec());
    until("the next one", || client.stats().sent.written.messages == 1);
    client.complete();
}

#[test]
fn links_that_the_program_cuts_are_not_held_against_a_message() {
    let (server, kept) = server_that_ends(20, |_| {});
    let (client, events) = client_of(server);
    client.next(vec![0; TOO_LONG]);
    for _ in 0..20 {
        let _begun = kept.recv_timeout(PATIENCE).unwrap();
        client.reconnect();
        events.find(|event| matches!(event, ClientEvent::Disconnected { .. }).then_some(()));
    }
    until("all of it", || client.stats().sent.written.messages == 1);
    assert_eq!(client.stats().sent.dropped, Dropped::default());
    client.complete();
}
