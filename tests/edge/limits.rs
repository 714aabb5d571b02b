//! Each row of the table of limits: what exceeding it does, and that the text names it.

use std::time::{Duration, Instant};

use rxplus::prelude::*;

use crate::{
    Site,
    raw::{BINARY, BINARY_BEGIN, PING, REQUEST, Raw, Side::Client, TEXT, frame, header},
    support::{PATIENCE, Recorder, until, url},
};

const SHORT: Duration = Duration::from_millis(300);

fn with(limits: Limits) -> Site {
    Site::with(|builder| builder.limits(limits))
}

fn answer(site: &Site, lines: &[&str]) -> String {
    let mut raw = Raw::connect(site.addr());
    raw.ask(lines);
    String::from_utf8(raw.rest()).unwrap()
}

/// A connection, if there is room for one.
fn opened(site: &Site) -> Option<Raw> {
    let mut raw = Raw::connect(site.addr());
    raw.ask(&REQUEST);
    raw.head().starts_with("HTTP/1.1 101 ").then_some(raw)
}

#[test]
fn handshake_over_its_time_is_dropped() {
    let site = with(Limits::server().handshake(SHORT));
    let mut silent = Raw::connect(site.addr());
    assert_eq!(silent.rest(), b"");
    assert_eq!(site.refusal(), (None, "the handshake took too long (Limits::handshake)".into()));
    site.is_unharmed();
}

#[test]
fn one_handshake_too_many_gets_503_while_the_others_are_young() {
    let site = with(Limits::server().handshakes(1));
    let mut young = Raw::connect(site.addr());
    let refused = Raw::connect(site.addr()).rest();
    let text = String::from_utf8(refused).unwrap();
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("Limits::handshakes"), "{text}");
    assert_eq!(site.refusal().0, Some(503));
    young.ask(&REQUEST);
    assert!(young.head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn one_handshake_too_many_takes_the_place_of_one_that_is_old() {
    let site = with(Limits::server().handshakes(1));
    let mut old = Raw::connect(site.addr());
    let mut attempts = std::iter::from_fn(|| {
        let mut raw = Raw::connect(site.addr());
        raw.ask(&REQUEST);
        Some(raw.head())
    });
    assert!(attempts.any(|answer| answer.starts_with("HTTP/1.1 101 ")));
    assert_eq!(old.rest(), b"");
}

#[test]
fn head_over_its_length_or_with_too_many_headers_gets_431() {
    let site = with(Limits::server().header_len(8192).headers(6));
    let long = format!("X: {}", "x".repeat(8192));
    assert!(answer(&site, &[&REQUEST[..], &[&long]].concat()).starts_with("HTTP/1.1 431 "));
    assert!(answer(&site, &[&REQUEST[..], &["A: a", "B: b"]].concat()).starts_with("HTTP/1.1 431 "));
}

#[test]
fn message_over_its_length_closes_with_1009() {
    let site = with(Limits::server().message_len(1000));
    let mut raw = Raw::upgraded(site.addr());
    raw.send(&frame(Client, BINARY_BEGIN, &[0; 600]));
    raw.send(&frame(Client, 0x80, &[0; 600]));
    assert_eq!(raw.close_code(), Some(1009));
    drop(raw);
    let (code, error) = site.failure();
    assert!(code == 1009 && error.contains("Limits::message_len") && error.contains("1000"), "{error}");
    site.is_unharmed();
}

#[test]
fn frame_over_its_length_closes_with_1009() {
    let site = with(Limits::server().frame_len(1000));
    let mut raw = Raw::upgraded(site.addr());
    raw.send(&header(Client, TEXT, 1001));
    assert_eq!(raw.close_code(), Some(1009));
    drop(raw);
    let (code, error) = site.failure();
    assert!(code == 1009 && error.contains("Limits::frame_len") && error.contains("1000"), "{error}");
    site.is_unharmed();
}

#[test]
fn undecodable_messages_over_their_number_in_a_row_close_with_1007() {
    let site = with(Limits::server().undecodable(3));
    let mut raw = Raw::upgraded(site.addr());
    let undecodable = frame(Client, BINARY, b"not a text");
    let good = frame(Client, TEXT, b"good");
    raw.send(&[undecodable.repeat(2), good, undecodable.repeat(2)].concat());
    assert_eq!(raw.take(6), b"\x81\x04good");
    until("four messages", || site.server.stats().undecodable == 4);
    raw.send(&undecodable.repeat(2));
    assert_eq!(raw.close_code(), Some(1007));
    drop(raw);
    let (code, error) = site.failure();
    assert!(code == 1007 && error.contains("Limits::undecodable") && error.contains('3'), "{error}");
    assert_eq!(site.server.stats().undecodable, 5); // what follows is not looked at
    site.is_unharmed();
}

#[test]
fn peer_may_say_what_is_undecodable_for_ever_without_that_limit() {
    let site = with(Limits::server().undecodable(None));
    let mut raw = Raw::upgraded(site.addr());
    raw.send(&frame(Client, BINARY, b"not a text").repeat(5000));
    raw.send(&frame(Client, TEXT, b"good"));
    assert_eq!(raw.take(6), b"\x81\x04good");
    assert_eq!(site.server.stats().undecodable, 5000);
}

#[test]
fn peer_that_takes_nothing_is_dropped_after_the_write_stall() {
    let site = with(Limits::server().write_stalled(SHORT));
    let _deaf = Raw::upgraded(site.addr());
    let connection = Recorder::on(site.server.connections()).find(Some);
    until_full(&connection);
    let (code, error) = site.failure();
    assert!(code == 1006 && error.contains("has taken nothing"), "{error}");
    site.is_unharmed();
}

/// Pushes until the socket takes no more, and the outbox with it.
fn until_full(connection: &Connection<WsStr>) {
    let message = "x".repeat(256 * 1024);
    while connection.stats().sent.queued.messages < 20 {
        connection.next(&*message);
    }
}

#[test]
fn peer_that_takes_no_pongs_is_not_read_beyond_the_write_buffer() {
    let site = with(Limits::server().write_buffer_len(64 * 1024).write_stalled(SHORT));
    let mut raw = Raw::upgraded(site.addr());
    let pings = frame(Client, PING, &[0; 125]).repeat(1000);
    let taken = raw.flood(&pings, 256 << 20);
    assert!(taken < 32 << 20, "{taken}");
    assert!(site.failure().1.contains("has taken nothing"));
    site.is_unharmed();
}

#[test]
fn peer_that_does_not_answer_a_close_is_dropped_after_the_close_timeout() {
    let site = with(Limits::server().close_timeout(SHORT));
    let _mute = Raw::upgraded(site.addr());
    let connection = Recorder::on(site.server.connections()).find(Some);
    connection.clone().complete();
    connection.wait_closed(PATIENCE).unwrap();
    assert!(site.failure().1.contains("closing handshake in time"));
    site.is_unharmed();
}

#[test]
fn connections_over_their_number_get_503_handshakes_included() {
    let site = with(Limits::server().connections(2));
    let (_open, _half_open) = (Raw::upgraded(site.addr()), Raw::connect(site.addr()));
    assert!(answer(&site, &REQUEST).contains("(Limits::connections)"));
}

#[test]
fn connections_over_their_number_take_the_place_of_silent_handshakes() {
    let site = with(Limits::server().connections(50));
    let open = Raw::upgraded(site.addr());
    // As many as there is room for, and renewed as fast as they are dropped.
    let mut silent: Vec<_> = (0..49).map(|_| Raw::connect(site.addr())).collect();
    let began = Instant::now();
    let served = std::iter::repeat_with(|| {
        silent.push(Raw::connect(site.addr()));
        opened(&site)
    });
    assert!(served.flatten().next().is_some());
    println!("let in after {:?}", began.elapsed());
    assert_eq!(silent.swap_remove(0).rest(), b"");
    drop(silent);
    // It may take a moment until the server knows that the silent ones are gone.
    let others: Vec<_> = std::iter::repeat_with(|| opened(&site)).flatten().take(49).collect();
    // Open connections do not make room, however long they have been silent.
    std::thread::sleep(2 * SHORT);
    assert!(answer(&site, &REQUEST).contains("(Limits::connections)"));
    drop((open, others));
    site.is_empty();
    site.is_unharmed();
}

#[test]
fn connections_of_an_address_over_their_number_get_503() {
    let site = with(Limits::server().connections_per_address(1));
    let _open = Raw::upgraded(site.addr());
    let answer = answer(&site, &REQUEST);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("(Limits::connections_per_address)"), "{answer}");
}

#[test]
fn connections_of_a_path_over_their_number_get_503_there_alone() {
    let site = with(Limits::server().connections_per_path(1));
    let _open = Raw::upgraded(site.addr());
    let answer = answer(&site, &REQUEST);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("(Limits::connections_per_path)"), "{answer}");
    let other = RxWsClient::connect(url(&site.server, "/other"), WsStr).unwrap();
    other.wait_connected(PATIENCE).unwrap();
}
