//! What a peer has said is heard, its close code included, although nothing can be written to it any more.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
};

use rxplus::prelude::*;

use crate::{
    Site, alone,
    raw::{CLOSE, REQUEST, Raw, Side, TEXT, frame},
    support::{PATIENCE, Recorder, connected},
};

/// How many messages the peer says: more than a turn dispatches.
const BURST: usize = 5_000;

fn burst(side: Side) -> Vec<u8> {
    frame(side, TEXT, b"word").repeat(BURST)
}

/// A burst, and a close frame behind it.
fn last_words(side: Side) -> Vec<u8> {
    [burst(side), frame(side, CLOSE, b"\x0f\xa3bad key")].concat()
}

/// For a callback: waits at the first call until something is sent, or everything is dropped.
fn gate() -> (mpsc::Sender<()>, impl FnMut() + Send + 'static) {
    let (open, opened) = mpsc::channel();
    let mut opened = Some(opened);
    let wait = move || _ = opened.take().map(|opened: mpsc::Receiver<()>| opened.recv_timeout(PATIENCE));
    (open, wait)
}

/// A client's opening handshake.
fn upgrade(stream: &mut (impl Read + Write)) {
    let request: String = REQUEST.iter().map(|line| format!("{line}\r\n")).collect();
    stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

/// An echo server hears a client that has hung up before the first answer is written, and that `says` so much.
fn server_hears(site: &Site, says: impl FnOnce()) {
    let heard = Recorder::on(site.server.clone());
    let (open, mut wait) = gate();
    site.server.clone().log_errors().subscribe(move |_| wait());
    says();
    drop(open);
    assert_eq!(heard.items(BURST).len(), BURST);
}

fn ending(site: &Site) -> (u16, String, Option<String>) {
    site.events.find(|event| match event {
        ServerEvent::Disconnected { code, reason, error, .. } => {
            Some((code, reason.to_string(), error.map(|error| error.to_string())))
        }
        _ => None,
    })
}

#[test]
fn server_hears_all_that_a_client_said_before_it_hung_up() {
    let site = Site::over(|builder| builder);
    server_hears(&site, || {
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        upgrade(&mut stream);
        stream.write_all(&last_words(Side::Client)).unwrap();
    });
    assert_eq!(ending(&site), (4003, "bad key".into(), None));
}

#[test]
fn server_hears_all_of_a_client_that_goes_without_a_close_frame() {
    let site = Site::over(|builder| builder);
    server_hears(&site, || {
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        upgrade(&mut stream);
        stream.write_all(&burst(Side::Client)).unwrap();
    });
    let (code, _, error) = ending(&site);
    assert!(code == 1006 && error.is_some(), "{code} {error:?}");
}

#[test]
fn client_hears_all_that_a_server_said_before_it_hung_up() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = RxWsClient::connect(format!("ws://{}", listener.local_addr().unwrap()), WsStr).unwrap();
    let (heard, events) = (Recorder::on(client.clone()), Recorder::on(client.events()));
    let (open, mut wait) = gate();
    let answers = client.clone();
    client.clone().log_errors().subscribe(move |text| {
        wait();
        answers.next(text);
    });
    let mut raw = Raw::accepted(&listener);
    assert!(raw.send(&last_words(Side::Server)));
    drop((raw, open));
    assert_eq!(heard.items(BURST).len(), BURST);
    let ending = events.find(|event| match event {
        ClientEvent::Disconnected { code, reason, error, .. } => Some((code, reason.to_string(), error.is_none())),
        _ => None,
    });
    assert_eq!(ending, (4003, "bad key".into(), true));
}

#[test]
fn close_frame_of_a_client_that_has_shut_its_side_down_is_answered() {
    let site = Site::over(|builder| builder);
    let (open, mut wait) = gate();
    site.server.clone().log_errors().subscribe(move |_| wait());
    let mut raw = Raw::upgraded(site.addr());
    raw.send(&[frame(Side::Client, TEXT, b"word"), frame(Side::Client, CLOSE, b"\x03\xe8")].concat());
    raw.0.shutdown(Shutdown::Write).unwrap();
    drop(open);
    assert_eq!(raw.close_code(), Some(1000));
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use crate::tls::{Authority, client_of, serve};

    #[test]
    fn server_hears_all_that_a_client_said_before_it_hung_up_over_tls() {
        let authority = Authority::new();
        let site = serve(&authority.issue("127.0.0.1"));
        server_hears(&site, || {
            let mut stream = client_of(&site, &authority);
            upgrade(&mut stream);
            stream.write_all(&last_words(Side::Client)).unwrap();
        });
        assert_eq!(ending(&site), (4003, "bad key".into(), None));
    }

    #[test]
    fn what_was_said_before_a_broken_record_of_tls_is_heard() {
        let authority = Authority::new();
        let site = serve(&authority.issue("127.0.0.1"));
        let heard = Recorder::on(site.server.clone());
        let mut stream = client_of(&site, &authority);
        upgrade(&mut stream);
        // In one segment, so that both are read at once.
        stream.conn.writer().write_all(&frame(Side::Client, TEXT, b"word")).unwrap();
        let mut bytes = Vec::new();
        stream.conn.write_tls(&mut bytes).unwrap();
        bytes.extend(b"\x17\x03\x03\x00\x20 32 bytes that nobody encrypted..");
        stream.sock.write_all(&bytes).unwrap();
        assert_eq!(heard.item().data, "word");
        let (code, _, error) = ending(&site);
        assert!(code == 1006 && error.is_some(), "{code} {error:?}");
    }
}

#[test]
fn message_pushed_before_complete_is_sent_though_another_thread_pushes_too() {
    for _ in 0..50 {
        let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
        let client = connected(&server, "/", WsStr);
        let heard = Recorder::on(client.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| (0..500).for_each(|_| server.next(TaggedData::new("/", "other"))));
            server.send(TaggedData::new("/", "last")).unwrap();
            server.clone().complete();
        });
        heard.find(|text| (text == "last").then_some(()));
        client.complete();
    }
}
