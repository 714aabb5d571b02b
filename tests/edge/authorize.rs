//! The program decides on whom to let in.

use std::{future::ready, net::TcpStream, time::Duration};

use rxplus::prelude::*;

use crate::{
    Site,
    raw::{REQUEST, Raw},
    support::Recorder,
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
        "/never" => std::future::pending().await,
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
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\n"), "{answer}");
    assert_eq!(site.refusal(), (Some(401), "say the word".into()));
}

#[test]
fn refused_client_does_not_hammer_and_is_told_the_status() {
    let site = Site::with(|builder| builder.authorize(decide));
    let refused = RxWsClient::builder(site.url("/no"), WsStr)
        .retry(RetryPolicy::exponential().on_rejected(Rejected::GiveUp))
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
fn decision_that_never_comes_is_ended_by_the_handshake_limit() {
    let limits = Limits::server().handshake(Duration::from_millis(300));
    let site = Site::with(|builder| builder.authorize(decide).limits(limits));
    let mut raw = Raw::connect(site.addr());
    raw.ask(&with_path("GET /never HTTP/1.1"));
    assert_eq!(raw.rest(), b"");
    assert!(site.refusal().1.contains("Limits::handshake"));
    site.is_unharmed();
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
    assert_eq!(seen.recv_timeout(crate::support::PATIENCE).unwrap(), ("GET".into(), addr));
}
