//! What is no WebSocket request gets an answer that says so.

use rxplus::prelude::*;

use crate::{
    Site,
    raw::{KEY, REQUEST, Raw, Side, TEXT, frame},
    support::Recorder,
};

/// The request with one line replaced, or left out if it is empty.
fn request(line: usize, by: &str) -> Vec<String> {
    let mut lines: Vec<_> = REQUEST.map(String::from).into();
    lines[line] = by.into();
    lines.retain(|line| !line.is_empty());
    lines
}

/// Sends a request and returns the whole answer.
fn answer(site: &Site, lines: &[String]) -> String {
    let mut raw = Raw::connect(site.addr());
    raw.ask(lines);
    String::from_utf8(raw.rest()).unwrap()
}

#[track_caller]
fn is_refused(site: &Site, lines: &[String], status: u16, line: &str) -> String {
    let answer = answer(site, lines);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{lines:?} got {answer:?}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.contains(line) && body.ends_with('\n') && body.lines().count() == 1, "{body:?}");
    let (told, reason) = site.refusal();
    assert_eq!((told, reason.as_str()), (Some(status), body.trim_end()), "the event tells the same");
    answer
}

#[test]
fn keys_and_hosts_that_are_not_exactly_one_get_400() {
    let site = Site::new();
    is_refused(&site, &request(5, ""), 400, "one Sec-WebSocket-Key");
    is_refused(&site, &request(5, &format!("{KEY}\r\n{KEY}")), 400, "one Sec-WebSocket-Key");
    is_refused(&site, &request(5, "Sec-WebSocket-Key: short"), 400, "one Sec-WebSocket-Key");
    is_refused(&site, &request(1, ""), 400, "one Host header");
    is_refused(&site, &["GET / HTTP/1.1".into()], 400, "one Host header");
    is_refused(&site, &request(1, "Host: a\r\nHost: b"), 400, "one Host header");
    site.is_unharmed();
}

#[test]
fn request_with_a_body_gets_400_however_it_says_so() {
    let site = Site::new();
    for body in [
        "Content-Length: 5",
        // A proxy may have gone by the second one: what we would take for frames, it would take for a body.
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 0, 5",
        "Content-Length: +0",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
    ] {
        is_refused(&site, &request(1, &format!("Host: a\r\n{body}")), 400, "has no body");
    }
    let mut raw = Raw::connect(site.addr());
    raw.ask(&request(1, "Host: a\r\nContent-Length: 0"));
    assert!(raw.head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn what_is_no_http_gets_400() {
    let site = Site::new();
    is_refused(&site, &["\u{1}\u{2}\u{3} garbage".into()], 400, "no HTTP/1.1 request");
    // HTTP/0.9, and the preface of HTTP/2.
    is_refused(&site, &["GET /".into()], 400, "no HTTP/1.1 request");
    is_refused(&site, &["PRI * HTTP/2.0".into(), "".into(), "SM".into()], 400, "no HTTP/1.1 request");
    for header in [
        "no colon",
        "X : a space before the colon",
        "X: folded\r\n as in old times",
        " X: begins with a space",
        "X: a bare \r return",
        "X: a \0 byte",
        ": no name",
    ] {
        is_refused(&site, &request(1, &format!("Host: a\r\n{header}")), 400, "no HTTP/1.1 request");
    }
    site.is_unharmed();
}

#[test]
fn targets_that_are_no_path_are_refused() {
    let site = Site::new();
    is_refused(&site, &request(0, "GET * HTTP/1.1"), 400, "for no path");
    is_refused(&site, &request(0, "GET h:80 HTTP/1.1"), 400, "for no path");
    is_refused(&site, &request(0, "GET http:///a HTTP/1.1"), 400, "for no path");
    is_refused(&site, &request(0, "GET http:// HTTP/1.1"), 400, "for no path");
    is_refused(&site, &request(0, "GET ?a HTTP/1.1"), 400, "for no path");
    is_refused(&site, &request(0, "OPTIONS * HTTP/1.1"), 405, "begins with GET");
    is_refused(&site, &request(0, "CONNECT h:80 HTTP/1.1"), 405, "begins with GET");
    for target in ["", "a", "/ /", "/\u{1}", "/\0"] {
        is_refused(&site, &request(0, &format!("GET {target} HTTP/1.1")), 400, "");
    }
    site.is_unharmed();
}

/// The path and query of the connection that `target` opens, or the status that it is refused with.
fn opened(site: &Site, target: &[u8]) -> Result<(String, Option<String>), u16> {
    let connections = Recorder::on(site.server.connections());
    let mut raw = Raw::connect(site.addr());
    let lines = REQUEST[1..].join("\r\n");
    raw.send(&[b"GET ", target, b" HTTP/1.1\r\n", lines.as_bytes(), b"\r\n\r\n"].concat());
    let answer = raw.head();
    if !answer.starts_with("HTTP/1.1 101 ") {
        return Err(answer.split(' ').nth(1).unwrap().parse().unwrap());
    }
    let connection = connections.item();
    drop(raw);
    site.is_empty();
    Ok((connection.path().to_string(), connection.query().map(String::from)))
}

#[test]
fn path_is_taken_as_it_stands() {
    let site = Site::new();
    for (target, path, query) in [
        ("/%61/../b//", "/%61/../b//", None),
        ("/a?b?c=%20&d", "/a", Some("b?c=%20&d")),
        ("/a?", "/a", Some("")),
        // A proxy's way to ask; the host is in it once more.
        ("http://other.example/a?b", "/a", Some("b")),
        ("http://other.example", "/", None),
        ("/a#b", "/a", None),
        // What should have been escaped, as other servers take it.
        ("/a\"<>`{}|^\\?\"<b>`{}|^\\=%zz", "/a\"<>`{}|^\\", Some("\"<b>`{}|^\\=%zz")),
        ("/?a=http://b/c", "/", Some("a=http://b/c")),
        ("/http://b/c", "/http://b/c", None),
        ("/\u{fc}", "/\u{fc}", None),
    ] {
        assert_eq!(opened(&site, target.as_bytes()), Ok((path.into(), query.map(String::from))), "{target}");
    }
    assert_eq!(opened(&site, b"/\xff"), Err(400));
    site.is_unharmed();
}

#[test]
fn path_that_is_served_under_one_spelling_is_not_served_under_another() {
    let site = Site::with(|builder| builder.paths(["/", "/a"]));
    assert_eq!(opened(&site, b"/a"), Ok(("/a".into(), None)));
    for target in ["/%61", "/A", "/a/", "//a", "/b/../a", "/a%00", "/a;b"] {
        assert_eq!(opened(&site, target.as_bytes()), Err(404), "{target}");
    }
}

#[test]
fn refused_peer_is_hung_up_on_and_its_second_request_not_looked_at() {
    let site = Site::new();
    let mut raw = Raw::connect(site.addr());
    let refused = format!("{}\r\n\r\n", request(0, "POST / HTTP/1.1").join("\r\n"));
    let good = format!("{}\r\n\r\n", REQUEST.join("\r\n"));
    raw.send(format!("{refused}{good}").as_bytes());
    let answer = String::from_utf8(raw.rest()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Connection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    site.is_unharmed();
}

#[test]
fn request_and_frame_that_come_byte_by_byte_are_heard() {
    let site = Site::new();
    let mut raw = Raw::connect(site.addr());
    for byte in format!("{}\r\n\r\n", REQUEST.join("\r\n")).bytes().chain(hello()) {
        raw.send(&[byte]);
    }
    assert!(raw.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.take(7), b"\x81\x05hello");
}

fn hello() -> Vec<u8> {
    frame(Side::Client, TEXT, b"hello")
}

#[test]
fn message_longer_than_a_head_may_come_right_behind_one() {
    let site = Site::new();
    let mut raw = Raw::connect(site.addr());
    let text = vec![b'x'; 100_000];
    let request = format!("{}\r\n\r\n", REQUEST.join("\r\n"));
    raw.send(&[request.as_bytes(), &frame(Side::Client, TEXT, &text), &hello()].concat());
    raw.head();
    assert!(raw.take(10 + text.len()).ends_with(&text));
    assert_eq!(raw.take(7), b"\x81\x05hello");
}

#[test]
fn tls_hello_on_a_plain_port_gets_400_and_the_event_says_what_it_was() {
    let site = Site::new();
    let mut raw = Raw::connect(site.addr());
    raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on");
    assert!(raw.rest().starts_with(b"HTTP/1.1 400 "));
    drop(raw);
    assert!(site.refusal().1.contains("connect with ws://"));
    site.is_unharmed();
}

#[test]
fn unserved_origin_gets_403_and_unserved_path_404() {
    let site = Site::with(|builder| builder.paths(["/", "/a"]).origins(["https://ours.example"]));
    is_refused(&site, &request(0, "GET /b HTTP/1.1"), 404, "path");
    is_refused(&site, &request(1, "Host: h\r\nOrigin: https://other.example"), 403, "\"https://other.example\"");
    site.is_unharmed();
}

/// What `origin` gets of a server that serves pages of `served`.
fn status_for(site: &Site, origin: &str) -> String {
    let mut raw = Raw::connect(site.addr());
    raw.ask(&request(1, &format!("Host: h\r\nOrigin: {origin}")));
    raw.head().split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn origins_are_the_same_however_they_are_written() {
    for served in ["https://ours.example", "https://ours.example/", "HTTPS://Ours.example:443"] {
        let site = Site::with(|builder| builder.origins([served, "app://ours", "null"]));
        for origin in ["https://ours.example", "https://ours.example:443", "app://ours", "null"] {
            assert_eq!(status_for(&site, origin), "101", "{served}, {origin}");
        }
        for origin in
            ["http://ours.example", "https://ours.example:80", "https://ours.example.evil", "", "ours.example"]
        {
            assert_eq!(status_for(&site, origin), "403", "{served}, {origin}");
        }
    }
}

#[test]
fn server_with_an_impossible_origin_or_subprotocol_is_not_made() {
    let builder = || RxWsServer::builder("ws://127.0.0.1:0", WsStr);
    for origin in ["ours.example", "https://ours.example/chat", "http://localhost:*", " https://ours.example", "*", ""]
    {
        let error = builder().origins(["https://good.example", origin]).bind().unwrap_err();
        assert!(matches!(&error, WsError::InvalidOrigin(given) if given == origin), "{error}");
        assert!(error.to_string().contains("write it as browsers send it"), "{error}");
    }
    for name in ["two words", "", "a,b", "line\nbreak", "\u{fc}", "rxplus.plain", "a+rxplus.resume.1"] {
        let error = builder().subprotocols(["good", name]).bind().unwrap_err();
        assert!(matches!(&error, WsError::InvalidSubprotocol(given) if given == name), "{error}");
    }
}

#[test]
fn empty_headers_for_subprotocols_and_extensions_are_as_none() {
    let site = Site::with(|builder| builder.subprotocols(["chat"]));
    let mut raw = Raw::connect(site.addr());
    raw.ask(&request(1, "Host: h\r\nSec-WebSocket-Protocol:\r\nSec-WebSocket-Extensions:"));
    let head = raw.head();
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("Sec-WebSocket-Protocol"), "{head}");
}

#[test]
fn other_methods_get_405_and_are_told_which_one_to_use() {
    let site = Site::new();
    for method in ["POST", "OPTIONS", "BREW"] {
        let answer = is_refused(&site, &request(0, &format!("{method} / HTTP/1.1")), 405, "begins with GET");
        assert!(answer.contains("Allow: GET\r\n"), "{answer}");
    }
    site.is_unharmed();
}

#[test]
fn answer_to_head_has_no_content() {
    let site = Site::new();
    let answer = answer(&site, &request(0, "HEAD / HTTP/1.1"));
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("Allow: GET\r\n") && answer.contains("Content-Length: "), "{answer}");
    assert_eq!(site.refusal().0, Some(405));
}

#[test]
fn headers_are_spelled_as_rfc_6455_spells_them() {
    let site = Site::with(|builder| builder.subprotocols(["chat"]));
    let mut raw = Raw::connect(site.addr());
    raw.ask(&request(1, "Host: h\r\nSec-WebSocket-Protocol: chat"));
    let head = raw.head();
    let names: Vec<_> = head.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    assert_eq!(names, ["Connection", "Upgrade", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol"]);
}

#[test]
fn wrong_versions_and_plain_http_get_426_with_the_version_to_use() {
    let site = Site::new();
    for lines in [
        request(0, "GET / HTTP/1.0"),
        request(2, ""),
        request(3, ""),
        request(3, "Upgrade: h2c"),
        request(4, ""),
        request(4, "Sec-WebSocket-Version: 8"),
        request(4, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13"),
    ] {
        let answer = is_refused(&site, &lines, 426, "WebSocket");
        assert!(answer.contains("Sec-WebSocket-Version: 13\r\nDate: "), "{answer}");
        assert!(answer.contains("Upgrade: websocket\r\nConnection: Upgrade, close\r\n"), "{answer}");
    }
    site.is_unharmed();
}

#[test]
fn too_large_a_head_gets_431_even_if_the_peer_is_still_sending_it() {
    let site = Site::new();
    let long = format!("Host: h\r\nX: {}", "x".repeat(64 * 1024));
    is_refused(&site, &request(1, &long), 431, "Limits::header_len");
    let many: String = (0..1000).map(|number| format!("\r\nX{number}: x")).collect();
    is_refused(&site, &request(1, &format!("Host: h{many}")), 431, "Limits::header_len");
    let path = format!("GET /{} HTTP/1.1", "x".repeat(64 * 1024));
    is_refused(&site, &request(0, &path), 431, "Limits::header_len");
    site.is_unharmed();
}

#[test]
fn one_connection_too_many_gets_503() {
    let site = Site::with(|builder| builder.max_connections(1));
    let only = Raw::upgraded(site.addr());
    is_refused(&site, &request(0, "GET / HTTP/1.1"), 503, "Limits::connections");
    drop(only);
    site.is_empty();
    site.is_unharmed();
}

#[test]
fn frames_that_come_with_the_request_are_heard() {
    let site = Site::new();
    let mut raw = Raw::connect(site.addr());
    raw.send(&[format!("{}\r\n\r\n", REQUEST.join("\r\n")).as_bytes(), &hello()].concat());
    raw.head();
    assert_eq!(raw.take(7), b"\x81\x05hello");
}

#[test]
fn server_with_a_wss_address_and_no_certificate_is_not_made() {
    let error = RxWsServer::bind("wss://127.0.0.1:0", WsStr).unwrap_err().to_string();
    assert!(error.contains(".tls(ServerTls::"), "{error}");
}
