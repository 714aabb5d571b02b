//! The program decides on whom to let in.

use std::{future::ready, net::TcpStream};

use rxplus::prelude::*;

use crate::{
    Site,
    crowds::is_run_apart,
    raw::{REQUEST, Raw},
    support::{PATIENCE, Recorder, until},
};

#[derive(Clone, Debug, PartialEq)]
struct User(String);

fn answer(site: &Site, lines: &[&str]) -> String {
    let mut raw = Raw::connect(site.addr());
    raw.ask(lines);
    raw.head()
}

fn with_path(path: &'static str) -> Vec<&'static str> {
    let mut lines = REQUEST.to_vec();
    lines[0] = path;
    lines
}

/// Lets `/` in, and decides on the other paths as their names say.
async fn decide(request: UpgradeRequest) -> Result<User, Refuse> {
    match request.path() {
        "/panic" => panic!("on purpose"),
        "/later" => {
            tokio::task::yield_now().await;
            panic!("on purpose")
        }
        "/no" => Err(Refuse::status(401).because("say the word").header("WWW-Authenticate", "Bearer")),
        path => Ok(User(format!("{path} {:?} {:?}", request.query(), request.header("HOST")))),
    }
}

#[test]
fn what_it_returns_is_kept_on_the_connection() {
    let site = Site::with(|builder| builder.authorize(decide));
    let granted = Recorder::on(site.server.connections().map(|connection| {
        (connection.grant::<User>().cloned(), connection.grant::<u8>().is_none(), connection.peer_addr())
    }));
    let client = Raw::connect(site.addr());
    let addr = client.0.local_addr().unwrap();
    let mut client = client;
    client.ask(&with_path("GET /a?b=c HTTP/1.1"));
    client.head();
    let user = granted.find(|(user, other, from)| (from == addr).then_some((user, other)));
    assert_eq!(user, (Some(User("/a Some(\"b=c\") Some(\"h\")".into())), true));
}

#[test]
fn refusal_has_its_status_text_and_headers() {
    let site = Site::with(|builder| builder.authorize(decide));
    let answer = answer(&site, &with_path("GET /no HTTP/1.1"));
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n"), "{answer}");
    assert_eq!(site.refusal(), (Some(401), "say the word".into()));
}

#[test]
fn refused_client_does_not_hammer_and_is_told_the_status() {
    let site = Site::with(|builder| builder.authorize(decide));
    let refused = RxWsClient::builder(site.url("/no"), WsStr)
        .retry(RetryPolicy::exponential().on_rejected(OnRejected::GiveUp))
        .connect()
        .unwrap();
    let heard = Recorder::on(refused.events());
    let error = heard.find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error.to_string()),
        _ => None,
    });
    assert!(error.contains("401"), "{error}");
}

#[test]
fn panic_in_it_is_500_and_harms_nobody_else() {
    let site = Site::with(|builder| builder.authorize(decide));
    for path in ["GET /panic HTTP/1.1", "GET /later HTTP/1.1"] {
        assert!(answer(&site, &with_path(path)).starts_with("HTTP/1.1 500 "));
        assert_eq!(site.refusal().0, Some(500));
        site.serves_a_good_client();
    }
}

#[test]
fn panic_before_its_first_await_is_500_as_well() {
    let site = Site::with(|builder| {
        builder.authorize(|request: UpgradeRequest| {
            assert!(request.path() == "/", "on purpose");
            ready(Ok::<_, Refuse>(()))
        })
    });
    assert!(answer(&site, &with_path("GET /panic HTTP/1.1")).starts_with("HTTP/1.1 500 "));
    site.serves_a_good_client();
}

#[test]
fn it_sees_who_asks() {
    let (send, seen) = std::sync::mpsc::channel();
    let site = Site::with(move |builder| {
        builder.authorize(move |request: UpgradeRequest| {
            let _ = send.send((request.method().to_owned(), request.peer_addr()));
            ready(Ok::<_, Refuse>(()))
        })
    });
    let _ = seen.try_iter().count();
    let raw = Raw(TcpStream::connect(site.addr()).unwrap());
    let addr = raw.0.local_addr().unwrap();
    let mut raw = raw;
    raw.ask(&REQUEST);
    assert_eq!(seen.recv_timeout(crate::support::PATIENCE).unwrap(), ("GET".into(), addr.into()));
}

#[test]
fn grant_adds_headers_and_its_value_is_kept_on_the_connection() {
    let site = Site::with(|builder| {
        builder.authorize(|request: UpgradeRequest| async move {
            Ok::<_, Refuse>(match request.path() {
                "/bad" => Grant::new(User("nobody".into())).header("Sec-WebSocket-Accept", "forged"),
                path => Grant::new(User(path.into())).header("Set-Cookie", "a=1").header("set-cookie", "b=2"),
            })
        })
    });
    let granted = Recorder::on(site.server.connections().map(|connection| connection.grant::<User>().cloned()));
    let head = answer(&site, &with_path("GET /a HTTP/1.1"));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"), "{head}");
    assert_eq!(granted.find(|user| user.filter(|user| user.0 == "/a")), User("/a".into()));
    assert!(answer(&site, &with_path("GET /bad HTTP/1.1")).starts_with("HTTP/1.1 500 "));
}

/// Says that it is well to those who ask plainly, and lets in who speaks WebSocket.
async fn tell_health(request: UpgradeRequest) -> Result<(), Refuse> {
    match (request.path(), request.asks_to_upgrade()) {
        ("/healthz", false) => Err(Refuse::status(200).because(format!("fine, {}", request.method()))),
        ("/empty", false) => Err(Refuse::status(204)),
        ("/panic", _) => panic!("on purpose"),
        _ => Ok(()),
    }
}

#[test]
fn plain_requests_are_answered_by_it_if_it_is_told_to() {
    let site = Site::with(|builder| builder.paths(["/"]).answer_plain_requests(true).authorize(tell_health));
    let all = |request: &str| {
        let mut raw = Raw::connect(site.addr());
        raw.ask(&[request, "Host: h"]);
        String::from_utf8(raw.rest()).unwrap()
    };
    let healthy = all("GET /healthz HTTP/1.1");
    assert!(healthy.starts_with("HTTP/1.1 200 OK\r\n") && healthy.ends_with("\r\n\r\nfine, GET\n"), "{healthy}");
    assert_eq!(site.refusal(), (Some(200), "fine, GET".into()));
    let head = all("HEAD /healthz HTTP/1.1");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(all("OPTIONS /healthz HTTP/1.0").starts_with("HTTP/1.1 200 OK\r\n"));
    let empty = all("GET /empty HTTP/1.1");
    assert!(empty.starts_with("HTTP/1.1 204 No Content\r\n") && !empty.contains("Content-Length"), "{empty}");
    // One that it would let in is still no upgrade.
    assert!(all("GET / HTTP/1.1").starts_with("HTTP/1.1 426 "));
    assert!(all("POST / HTTP/1.1").starts_with("HTTP/1.1 405 "));
    assert!(all("GET /panic HTTP/1.1").starts_with("HTTP/1.1 500 "));
    // And the paths of connections are as before.
    assert!(answer(&site, &with_path("GET /healthz HTTP/1.1")).starts_with("HTTP/1.1 404 "));
    site.is_unharmed();
}

/// One that keeps its socket open, while the server goes on or ends.
#[test]
fn answer_is_told_with_its_status_before_the_peer_hangs_up() {
    for ends in [false, true] {
        let site = Site::with(|builder| builder.answer_plain_requests(true).authorize(tell_health));
        let mut raw = Raw::connect(site.addr());
        raw.ask(&["GET /healthz HTTP/1.1", "Host: h"]);
        assert!(raw.rest().ends_with(b"fine, GET\n"));
        if ends {
            site.server.clone().complete();
        }
        assert_eq!(site.refusal(), (Some(200), "fine, GET".into()));
        drop(raw);
    }
}

#[test]
fn plain_requests_do_not_reach_it_otherwise() {
    let site = Site::with(|builder| builder.authorize(tell_health));
    let mut raw = Raw::connect(site.addr());
    raw.ask(&["GET /healthz HTTP/1.1", "Host: h"]);
    assert!(raw.rest().starts_with(b"HTTP/1.1 426 "));
}

/// A server whose answer is more than a socket takes. For a test that is run apart: others measure memory.
fn long_winded() -> Site {
    let long = "x".repeat(32 * 1024 * 1024);
    Site::over(|builder| builder.authorize(move |_| ready(Ok::<_, Refuse>(Grant::new(()).header("X-Long", &long)))))
}

/// A peer that is let in and does not read the answer, once a message has been pushed to it.
fn deaf_peer(site: &Site) -> Raw {
    let mut raw = Raw::connect(site.addr());
    raw.ask(&REQUEST);
    until("being on its path", || site.server.path_stats("/").connections == 1);
    site.server.send(TaggedData::new("/", "lost")).unwrap();
    until("being counted", || site.server.stats().sent.queued.messages == 1);
    raw
}

#[test]
fn connection_that_cannot_be_told_of_it_never_was() {
    if is_run_apart("authorize::connection_that_cannot_be_told_of_it_never_was") {
        return;
    }
    let site = long_winded();
    let connections = Recorder::on(site.server.connections());
    let raw = deaf_peer(&site);
    let stats = site.server.stats();
    assert_eq!((stats.accepted, stats.connections, site.server.path_stats("/").connections), (1, 1, 1));
    drop(raw);
    let mut told = Vec::new();
    site.events.note_until(&mut told, |event| matches!(event, ServerEvent::Rejected { status: None, .. }));
    let [ServerEvent::Dropped { reason: DropReason::Closed, dropped, .. }, _] = &told[..] else { panic!("{told:?}") };
    let stats = site.server.stats();
    assert_eq!((stats.accepted, stats.connections, stats.sent.queued), (0, 0, Tally::default()));
    assert_eq!((stats.sent.accepted, stats.sent.dropped.closed), (*dropped, *dropped));
    assert_eq!(dropped.messages, 1);
    assert!(connections.rest().is_empty());
    site.server.clone().complete();
    let report = site.server.wait_closed(PATIENCE).unwrap();
    assert_eq!(report, CloseReport::default());
}

#[test]
fn connection_that_cannot_be_told_is_withdrawn_when_the_server_ends_too() {
    if is_run_apart("authorize::connection_that_cannot_be_told_is_withdrawn_when_the_server_ends_too") {
        return;
    }
    let site = long_winded();
    let _raw = deaf_peer(&site);
    site.server.clone().complete();
    let report = site.server.wait_closed(PATIENCE).unwrap();
    assert_eq!((report.unsent, report.unsent_len), (1, 4));
    let (told, _) = site.events.to_the_end();
    assert!(!told.iter().any(|event| matches!(event, ServerEvent::Connected { .. })), "{told:?}");
}
