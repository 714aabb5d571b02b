//! Peers that take their time, with the limits as they are by default. All at once, since each takes ten seconds.

use std::{
    net::TcpListener,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use rxplus::prelude::*;

use crate::{
    Site,
    raw::{REQUEST, Raw, switching},
    support::Recorder,
};

/// The default of `Limits::handshake`, and of a client's `connect_timeout`.
const LIMIT: Duration = Duration::from_secs(10);

/// How much later than that a peer may be dropped.
const SLACK: Duration = Duration::from_secs(2);

/// Sends a byte a second until the other side hangs up, and returns how long that took.
fn drip(mut raw: Raw, bytes: &[u8]) -> Duration {
    let began = Instant::now();
    raw.0.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    for byte in bytes {
        // The pace of the attack; what comes earlier is the end of the stream.
        if !raw.send(&[*byte]) || raw.is_over() {
            break;
        }
    }
    began.elapsed()
}

#[track_caller]
fn is_over_in_time(what: &str, time: Duration) {
    println!("{what}: dropped after {time:?}");
    assert!((LIMIT - SLACK..LIMIT + SLACK).contains(&time), "{what}: {time:?}");
}

#[test]
fn a_byte_a_second_does_not_outlast_the_default_limits_of_either_side() {
    let site = Site::new();
    let addr = site.addr();
    let request = format!("{}\r\n\r\n", REQUEST.join("\r\n")).into_bytes();
    let to_server = thread::spawn(move || drip(Raw::connect(addr), &request));
    let silent = thread::spawn(move || drip_nothing(Raw::connect(addr)));
    let to_client = thread::spawn(drip_into_a_client);
    #[cfg(feature = "tls")]
    let to_tls_server = thread::spawn(drip_into_a_tls_server);
    // Others are served meanwhile.
    while !to_server.is_finished() {
        site.serves_a_good_client();
        sleep(Duration::from_millis(500));
    }
    is_over_in_time("a request of a byte a second", to_server.join().unwrap());
    is_over_in_time("silence after connecting", silent.join().unwrap());
    is_over_in_time("an answer of a byte a second", to_client.join().unwrap());
    #[cfg(feature = "tls")]
    is_over_in_time("a TLS hello of a byte a second", to_tls_server.join().unwrap());
    assert!((0..2).all(|_| site.refusal().1.contains("Limits::handshake")));
    site.is_unharmed();
}

/// Says nothing until the other side hangs up, and returns how long that took.
fn drip_nothing(mut raw: Raw) -> Duration {
    let began = Instant::now();
    raw.0.set_read_timeout(Some(LIMIT + 2 * SLACK)).unwrap();
    assert_eq!(raw.rest(), b"");
    began.elapsed()
}

fn drip_into_a_client() -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = RxWsClient::connect(format!("ws://{}", listener.local_addr().unwrap()), WsStr).unwrap();
    let events = Recorder::on(client.events());
    let (raw, accept) = Raw::asked(&listener);
    let time = drip(raw, switching(&accept).join("\r\n").as_bytes());
    let error = events.find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error.to_string()),
        _ => None,
    });
    assert!(error.contains("no handshake answer") && error.contains("within 10s"), "{error}");
    time
}

#[cfg(feature = "tls")]
fn drip_into_a_tls_server() -> Duration {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).tls(crate::tls::any_identity()).bind().unwrap();
    let events = Recorder::on(server.events());
    // A record of 512 bytes, with a client's hello of 508.
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 200]].concat();
    let time = drip(Raw::connect(server.local_addr()), &hello);
    let reason = events.find(|event| match event {
        ServerEvent::Rejected { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("Limits::handshake"), "{reason}");
    time
}
