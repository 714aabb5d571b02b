//! Several links for one session: the newest has it.

use std::{thread, time::Duration};

use rxplus::prelude::*;

use super::{
    raw::{Speaker, foreign_server},
    sessions::{Pair, resumable_client, resumable_server, session_events},
    support::{foreign::read_to_the_end, *},
};

fn echo() -> RxWsServer<WsStr> {
    echoing(resumable_server(Resume::new()))
}

fn is_served(link: &mut Speaker, text: &str) {
    link.send(text);
    assert_eq!(link.payloads(1), [text]);
}

/// Two links at once: a clone, as of a tab in a browser.
#[test]
fn clone_takes_a_session_once_and_the_other_is_told() {
    let server = echo();
    let addr = server.local_addr();
    let (mut own, token) = Speaker::linked(addr.clone(), "/");
    let mut clone = Speaker::resuming(addr.clone(), "/", &token, 2, 0);
    assert_eq!(clone.heard(), "resumed 0 0");
    clone.say("at 0");
    read_to_the_end(&mut own.0);
    // The owner has the same number now, and the clone keeps its link.
    assert_eq!(Speaker::resuming(addr.clone(), "/", &token, 2, 0).code(), Some(4900));
    assert_eq!(Speaker::resuming(addr.clone(), "/", &token, 1, 0).code(), Some(4900));
    assert_eq!(Speaker::resuming(addr.clone(), "/", &token, 0, 0).code(), Some(4900));
    is_served(&mut clone, "still here");
    assert_eq!(server.stats().connections, 1);
}

/// The older attempt arrives last.
#[test]
fn attempt_that_arrives_late_does_not_take_the_session_from_a_newer_one() {
    let server = echo();
    let addr = server.local_addr();
    let (first, token) = Speaker::linked(addr.clone(), "/");
    let mut held_back = Speaker::client(addr.clone(), "/");
    held_back.token();
    drop(first);
    let mut newer = Speaker::resuming(addr.clone(), "/", &token, 3, 0);
    assert_eq!(newer.heard(), "resumed 0 0");
    newer.say("at 0");
    held_back.say(&format!("resume {token} 2 0"));
    assert_eq!(held_back.code(), Some(4900));
    is_served(&mut newer, "still here");
}

#[test]
fn newest_of_many_links_has_the_session() {
    let runtime = IoRuntime::with_threads("crowd", 4).unwrap();
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime);
    let server = echoing(builder.resumable(Resume::new()).bind().unwrap());
    let addr = server.local_addr();
    let (_first, token) = Speaker::linked(addr.clone(), "/");
    let attempt = |number: u64| {
        let (addr, token) = (addr.clone(), token.clone());
        thread::spawn(move || {
            let mut link = Speaker::resuming(addr, "/", &token, number, 0);
            (link.heard_or_end(), link)
        })
    };
    let attempts: Vec<_> = (2..18).map(attempt).collect();
    let links: Vec<_> = attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect();
    let (said, mut newest) = links.into_iter().next_back().unwrap();
    assert_eq!(said.as_deref(), Some("resumed 0 0"));
    newest.say("at 0");
    is_served(&mut newest, "the newest");
    assert_eq!(server.stats().connections, 1);
}

#[test]
fn client_whose_session_is_taken_over_begins_another_and_does_not_take_it_back() {
    let foreign = foreign_server();
    let client = resumable_client(&foreign.url());
    let events = session_events(&client);
    let mut link = Speaker::begin(foreign);
    client.send("taken").unwrap();
    assert_eq!(link.payloads(1), ["taken"]);
    link.close(4900);
    let expected = SessionEvent::Lost { why: SessionLoss::TakenOver, missed: None, unconfirmed: 1, kept: 0 };
    assert_eq!((events.item(), events.item()), (SessionEvent::Opened, expected));
    let mut other = Speaker::begin(foreign);
    client.send("more").unwrap();
    assert_eq!(other.payloads(1), ["more"]);
    drop(other);
    // Refused before the session was settled.
    let (mut refused, said) = Speaker::wanted(foreign);
    assert!(said.starts_with("resume "));
    refused.close(4900);
    Speaker::begin(foreign);
    let lost = events.find(|event| matches!(event, SessionEvent::Lost { .. }).then_some(event));
    assert_eq!(lost, expected);
}

/// Half-open: nothing passes, and nobody says so.
#[test]
fn link_that_is_dead_without_a_word_is_found_by_the_heartbeat_and_resumed() {
    const OFTEN: Duration = Duration::from_millis(50);
    const SOON: Duration = Duration::from_millis(300);
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(OFTEN).ping_timeout(SOON);
    let server = builder.resumable(Resume::new()).bind().unwrap();
    let pair = Pair::by(server, |builder| builder.ping_interval(OFTEN).ping_timeout(SOON));
    for round in 0..3 {
        pair.proxy.silence(true);
        let of = |n: usize| 10 * round + n;
        (0..10).for_each(|n| pair.client.send(of(n).to_string()).unwrap());
        (0..10).for_each(|n| pair.connection.send(of(n).to_string()).unwrap());
        until("both know", || pair.client.response().is_none() && !pair.connection.is_linked());
        pair.proxy.silence(false);
        assert_eq!(pair.resumed(), 0);
        assert_eq!(pair.up.items(10), texts(of(0)..of(10)));
        assert_eq!(pair.down.items(10), texts(of(0)..of(10)));
    }
}

/// Storm: everybody at once.
#[test]
fn crowd_that_is_cut_at_once_comes_back_without_a_loss() {
    const COUNT: usize = 200;
    let server = resumable_server(Resume::new());
    let proxy = proxy::Proxy::to(server.local_addr());
    let up = Recorder::on(server.clone());
    let clients: Vec<_> = (0..COUNT).map(|n| resumable_client(&proxy.url(&format!("/{n}")))).collect();
    clients.iter().for_each(|client| client.wait_connected(PATIENCE).map(drop).unwrap());
    for _ in 0..3 {
        let links = proxy.links();
        proxy.end(proxy::End::Reset);
        clients.iter().for_each(|client| client.send("again").unwrap());
        up.items(COUNT);
        until("all are back", || proxy.links() >= links + COUNT && server.stats().parked == 0);
    }
    assert_eq!((server.stats().connections, up.rest().len()), (COUNT, 0));
}
