//! What peers do to a server, and what it must not cost.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use rxplus::prelude::*;
use socket2::SockRef;

use crate::{
    Site, memory,
    raw::{BINARY_BEGIN, CONTINUATION, LAST_CONTINUATION, PING, REQUEST, Raw, Side::Client, TEXT, frame, header},
    support::{Recorder, connected, until},
};

#[test]
fn a_byte_at_a_time_does_not_outlast_the_handshake_limit() {
    let limit = Duration::from_millis(500);
    let site = Site::with(|builder| builder.limits(Limits::server().handshake(limit)));
    let mut slow = Raw::connect(site.addr());
    let began = Instant::now();
    for byte in REQUEST.join("\r\n").bytes() {
        if !slow.send(&[byte]) {
            break;
        }
        // The pace of the attack.
        sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() < 4 * limit, "{:?}", began.elapsed());
    assert!(site.refusal().1.contains("Limits::handshake"));
    site.is_unharmed();
}

/// How many files the process may have open.
fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    line.split_whitespace().nth(3).and_then(|count| count.parse().ok()).unwrap_or(1024)
}

#[test]
fn two_thousand_half_open_handshakes_keep_nobody_out() {
    let site = Site::new();
    // Both ends are of this process.
    let count = 2000.min((open_files() - 200) / 2);
    let before = memory();
    let half: Vec<_> = (0..count)
        .map(|number| {
            let mut raw = Raw::connect(site.addr());
            raw.send(if number % 2 == 0 { b"GET / HTTP/1.1\r\nHost: h\r\n" } else { b"" });
            raw
        })
        .collect();
    let time = site.serves_a_good_client();
    println!("{count} half-open handshakes: another one served within {time:?}, {} KiB", (memory() - before) / 1024);
    drop(half);
    site.is_unharmed();
}

#[test]
fn more_half_open_handshakes_than_allowed_keep_nobody_out_for_long() {
    let site = Site::with(|builder| builder.limits(Limits::server().handshakes(100)));
    let _half: Vec<_> = (0..300).map(|_| Raw::connect(site.addr())).collect();
    // Until then, the oldest ones are left alone.
    sleep(Duration::from_millis(500));
    site.is_unharmed();
}

#[test]
fn a_million_fragments_of_a_byte_are_one_message() {
    // No ping of the server's is to come before the echo.
    let site = Site::with(|builder| builder.ping_interval(None));
    let mut raw = Raw::upgraded(site.addr());
    let fragments = frame(Client, CONTINUATION, b"x").repeat(10_000);
    raw.send(&frame(Client, 0x01, b"x"));
    for _ in 0..100 {
        assert!(raw.send(&fragments));
    }
    raw.send(&frame(Client, LAST_CONTINUATION, b"x"));
    let echo = raw.take(10 + 1_000_002);
    assert!(echo.starts_with(&[TEXT, 127]) && echo[10..].iter().all(|byte| *byte == b'x'));
    drop((raw, echo, fragments));
    site.is_unharmed();
}

#[test]
fn unfinished_messages_of_32_peers_are_cut_off_at_the_limit() {
    let site = Site::new();
    let chunk = frame(Client, CONTINUATION, &[b'x'; 64 * 1024]);
    for _ in 0..32 {
        let mut raw = Raw::upgraded(site.addr());
        raw.send(&frame(Client, BINARY_BEGIN, b""));
        let mut sent = 0;
        while sent < 8 << 20 && raw.send(&chunk) {
            sent += chunk.len();
        }
        drop(raw);
        assert!(site.failure().1.contains("Limits::message_len"));
    }
    site.is_unharmed();
}

#[test]
fn unfinished_messages_are_given_back_with_their_connections() {
    let site = Site::with(|builder| builder.limits(Limits::server().message_len(16 << 20)));
    let begun: Vec<_> = (0..32)
        .map(|_| {
            let mut raw = Raw::upgraded(site.addr());
            raw.send(&header(Client, TEXT, 16 << 20));
            (0..128).for_each(|_| assert!(raw.send(&[b'x'; 64 * 1024])));
            raw
        })
        .collect();
    site.serves_a_good_client();
    drop(begun);
    site.is_empty();
    site.is_unharmed();
}

#[test]
fn pings_whose_answers_nobody_reads_do_not_pile_up() {
    let site = Site::new();
    let before = memory();
    let mut raw = Raw::upgraded(site.addr());
    let pings = frame(Client, PING, &[0; 125]).repeat(1000);
    let taken = raw.flood(&pings, 256 << 20);
    // What the sockets hold, and the write buffer.
    assert!(taken < 32 << 20, "{taken}");
    assert!(memory() < before + crate::ROOM, "{} KiB more", (memory() - before) / 1024);
    site.is_unharmed();
}

#[test]
fn client_that_never_reads_costs_a_broadcast_nothing() {
    let site = Site::with(|builder| builder.outbox(64, 1 << 20, Overflow::Disconnect));
    let _deaf = Raw::upgraded(site.addr());
    let good = connected(&site.server, "/", WsStr);
    let heard = Recorder::on(good.clone());
    // A client may know that it is connected a moment before its server does.
    until("both connected", || site.server.connection_count() == 2);
    let message = "x".repeat(64 * 1024);
    // One at a time, so that it is not the good one whose outbox is full.
    for number in 0..1000 {
        site.server.next(TaggedData::new("/", format!("{number} {message}")));
        assert!(heard.item().starts_with(&format!("{number} ")));
        if site.server.connection_count() == 1 {
            break;
        }
    }
    until("the deaf one gone", || site.server.connection_count() == 1);
    let code = site.events.find(|event| match event {
        ServerEvent::Disconnected { code, .. } if code != 1000 => Some(code),
        _ => None,
    });
    assert!(matches!(code, 1006 | 1013), "{code}");
    drop((good, heard));
    site.is_unharmed();
}

#[test]
fn reset_in_the_middle_of_a_frame_is_that_connection_s_alone() {
    let site = Site::new();
    let mut raw = Raw::upgraded(site.addr());
    raw.send(&header(Client, TEXT, 1000));
    raw.send(b"the first of it");
    SockRef::from(&raw.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(raw);
    let (code, error) = site.failure();
    assert!(code == 1006 && error.contains("broke"), "{error}");
    site.is_unharmed();
}

#[test]
fn peer_gone_silent_is_dropped_by_the_heartbeat() {
    let beat = Duration::from_millis(200);
    let site = Site::with(|builder| builder.ping_interval(beat).ping_timeout(beat));
    let _silent = Raw::upgraded(site.addr());
    let (code, error) = site.failure();
    assert!(code == 1006 && error.contains("silent"), "{error}");
    site.is_unharmed();
}
