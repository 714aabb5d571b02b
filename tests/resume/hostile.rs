//! Peers that do not keep to the protocol: they are told so, and nobody else is harmed.

use rxplus::prelude::*;
use tungstenite::{Bytes, Message};

use super::{
    raw::{HELLO, Speaker, foreign_server},
    sessions::{resumable_client, resumable_server, session_events},
    support::*,
};

const LARGEST: u64 = (1 << 53) - 1;

/// A resumable echo server, and a client whose session goes on whatever others do.
struct Site {
    server: RxWsServer<WsStr>,
    events: Recorder<ServerEvent>,
    witness: RxWsClient<WsStr>,
    heard: Recorder<WsText>,
}

impl Site {
    fn new() -> Self {
        let server = echoing(resumable_server(Resume::new()));
        let events = Recorder::on(server.events());
        let witness = resumable_client(&url(&server, "/witness"));
        let heard = Recorder::on(witness.clone());
        witness.wait_connected(PATIENCE).unwrap();
        Self { server, events, witness, heard }
    }

    fn client(&self) -> Speaker {
        let mut client = Speaker::client(self.server.local_addr(), "/");
        client.token();
        client
    }

    fn linked(&self) -> (Speaker, String) {
        Speaker::linked(self.server.local_addr(), "/")
    }

    fn resuming(&self, token: &str, link: u64, received: u64) -> Speaker {
        Speaker::resuming(self.server.local_addr(), "/", token, link, received)
    }

    /// Waits for the event of a peer that was thrown out before it had a connection.
    fn refusal(&self) -> String {
        self.events.find(|event| match event {
            ServerEvent::Rejected { reason, .. } => Some(reason.to_string()),
            _ => None,
        })
    }

    /// Waits for the end of a connection: its code and error.
    fn failure(&self) -> (u16, String) {
        self.events.find(|event| match event {
            ServerEvent::Disconnected { code, error: Some(error), .. } => Some((code, error.to_string())),
            _ => None,
        })
    }

    fn is_unharmed(&self) {
        self.witness.send("still here").unwrap();
        assert_eq!(self.heard.item(), "still here");
        assert_eq!(self.server.stats().connections, 1);
    }
}

/// What no state allows.
fn malformed() -> Vec<String> {
    let verbs = [
        "",
        " ",
        "x",
        "NEW",
        "new ",
        "new 1",
        "ack",
        "ack ",
        "ack -1",
        "ack 01",
        "ack 1 1",
        "ack  1",
        "ack x",
        "at",
        "at 9007199254740992",
        "ack 18446744073709551616",
        "ask 1",
        "hello",
        "resume",
        "resume x 1 0",
        "resumed 1",
        "resume AAAAAAAAAAAAAAAAAAAAAB 2 0",
        "lost",
        "lost why",
        "lost ended 1",
        "ack 1\n",
        "ack\u{0}1",
        "äck 1",
    ];
    let long = format!("ack {}", "1".repeat(124));
    let verbs = verbs.into_iter().map(str::to_owned).chain([long]);
    verbs.map(|verb| format!("\u{10}{verb}")).collect()
}

fn control(verbs: &[&str]) -> Vec<String> {
    verbs.iter().map(|verb| format!("\u{10}{verb}")).collect()
}

#[test]
fn whatever_is_neither_new_nor_resume_after_hello_is_a_protocol_error() {
    let site = Site::new();
    let out_of_place = control(&["ack 0", "ask", "at 0", "resumed 0 0", "lost unknown", HELLO]);
    let payloads = vec!["payload".to_owned(), String::new(), "\u{10}\u{10}new".to_owned()];
    for message in [malformed(), out_of_place, payloads].concat() {
        let mut client = site.client();
        client.send(message.as_str());
        assert_eq!(client.code(), Some(1002), "{message:?}");
        site.refusal();
    }
    let mut client = site.client();
    client.0.send(Message::binary("\u{10}new")).unwrap();
    assert_eq!(client.code(), Some(1002));
    assert_eq!(site.refusal(), "a payload before the session was settled");
    site.is_unharmed();
}

#[test]
fn whatever_is_not_new_after_lost_is_a_protocol_error() {
    let site = Site::new();
    for message in [malformed(), control(&["ack 0", "at 0", "resume AAAAAAAAAAAAAAAAAAAAAA 3 0"])].concat() {
        let mut client = site.resuming("AAAAAAAAAAAAAAAAAAAAAA", 2, 0);
        assert_eq!(client.heard(), "lost unknown");
        client.send(message.as_str());
        assert_eq!(client.code(), Some(1002), "{message:?}");
        site.refusal();
    }
    site.is_unharmed();
}

#[test]
fn control_message_out_of_its_place_ends_a_session_that_is_linked() {
    let site = Site::new();
    let resume = format!("resume {} 2 0", "A".repeat(22));
    let out_of_place =
        control(&["new", &resume, "resumed 0 0", "lost ended 0 0", HELLO, "ack 1", "ack 9007199254740991"]);
    for message in [malformed(), out_of_place].concat() {
        let (mut client, token) = site.linked();
        client.send(message.as_str());
        assert_eq!(client.code(), Some(1002), "{message:?}");
        assert_eq!(site.failure().0, 1002, "{message:?}");
        assert_eq!(site.resuming(&token, 2, 0).heard(), "lost ended 0 0");
        site.refusal();
    }
    site.is_unharmed();
}

#[test]
fn position_that_falls_ends_the_session() {
    let site = Site::new();
    for script in [["at 5", "at 4"], ["at 9007199254740991", "at 0"]] {
        let (mut client, _) = site.linked();
        script.into_iter().for_each(|verb| client.say(verb));
        assert_eq!(client.code(), Some(1002), "{script:?}");
        assert!(site.failure().1.contains("goes back"));
    }
    let (mut client, _) = site.linked();
    ["a", "b"].into_iter().for_each(|text| client.send(text));
    assert_eq!(client.payloads(2), ["a", "b"]);
    ["ack 2", "ack 1"].into_iter().for_each(|verb| client.say(verb));
    assert_eq!(client.code(), Some(1002));
    assert!(site.failure().1.contains("`ack` goes back"));
    site.is_unharmed();
}

/// A position that no control message could tell any more.
#[test]
fn message_beyond_the_largest_number_ends_the_session() {
    let site = Site::new();
    let (mut client, token) = site.linked();
    client.say(&format!("at {LARGEST}"));
    client.say("ask");
    assert_eq!(client.heard(), format!("ack {LARGEST}"));
    client.send("one too many");
    assert_eq!(client.code(), Some(1002));
    assert_eq!(site.failure().0, 1002);
    assert_eq!(site.resuming(&token, 2, 0).heard(), format!("lost ended {LARGEST} 0"));
    site.is_unharmed();
}

#[test]
fn resumed_link_begins_with_the_position_of_its_next_message() {
    let site = Site::new();
    for first in ["payload", "\u{10}ack 0", "\u{10}ask", "\u{10}new"] {
        let (client, token) = site.linked();
        drop(client);
        let mut again = site.resuming(&token, 2, 0);
        assert_eq!(again.heard(), "resumed 0 0");
        again.send(first);
        assert_eq!(again.code(), Some(1002), "{first:?}");
        assert!(site.failure().1.contains("`at` is missing"));
    }
    site.is_unharmed();
}

#[test]
fn position_that_was_never_sent_costs_the_link_and_not_the_session() {
    let site = Site::new();
    let (client, token) = site.linked();
    drop(client);
    for link in [2, 3, 4, 5, 6, 7, 8, 9, 10, 11] {
        assert_eq!(site.resuming(&token, link, LARGEST - link).code(), Some(1002));
    }
    let mut again = site.resuming(&token, 12, 0);
    assert_eq!(again.heard(), "resumed 0 0");
    again.say("at 0");
    again.send("a");
    assert_eq!(again.payloads(1), ["a"]);
    drop(again);
    let mut ended = site.resuming(&token, LARGEST, 1);
    assert_eq!(ended.heard(), "resumed 1 1");
    site.witness.send("still here").unwrap();
    assert_eq!(site.heard.item(), "still here");
}

#[test]
fn control_messages_come_in_fragments_and_between_pings_like_any_message() {
    use tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };
    let site = Site::new();
    let mut client = site.client();
    for (text, opcode, is_last) in
        [("\u{10}n", Data::Text, false), ("e", Data::Continue, false), ("w", Data::Continue, true)]
    {
        client.0.send(Message::Ping(Bytes::from_static(b"between"))).unwrap();
        client.0.send(Message::Frame(Frame::message(text, OpCode::Data(opcode), is_last))).unwrap();
    }
    while !matches!(client.0.read().unwrap(), Message::Text(text) if text.as_str() == "\u{10}ack 0") {}
    client.0.send(Message::binary("\u{10}new")).unwrap();
    client.say("ask");
    while !matches!(client.0.read().unwrap(), Message::Text(text) if text.as_str() == "\u{10}ack 1") {}
    drop(client);
    site.witness.send("still here").unwrap();
    assert_eq!(site.heard.item(), "still here");
}

#[test]
fn ask_again_and_again_is_answered_and_buries_nobody() {
    let site = Site::new();
    let (mut client, _) = site.linked();
    for _ in 0..10_000 {
        client.say("ask");
    }
    client.send("behind");
    assert_eq!(client.payloads(1), ["behind"]);
    let sent = site.server.stats().sent.written.messages;
    assert!(sent <= 1, "{sent}");
    site.witness.send("still here").unwrap();
    assert_eq!(site.heard.item(), "still here");
}

#[test]
fn client_that_says_new_and_goes_again_and_again_leaves_no_more_than_the_bound() {
    let limits = Limits::server().sessions(3);
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits).resumable(Resume::new()).bind().unwrap();
    for _ in 0..50 {
        drop(Speaker::linked(server.local_addr(), "/"));
    }
    until("all but three are given up", || server.stats().connections == 3 && server.stats().parked == 3);
}

/// What a client does with a server whose link begins like this.
fn failure_of_client(script: &[&str]) -> String {
    let foreign = foreign_server();
    let client = resumable_client(&foreign.url());
    let events = Recorder::on(client.events());
    let mut link = Speaker::accept(foreign);
    script.iter().for_each(|message| link.send(*message));
    let failed = events.find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error.to_string()),
        _ => None,
    });
    assert_eq!(link.code(), Some(1002), "{script:?}");
    // The next link is as good as any.
    let mut good = Speaker::begin(foreign);
    client.send("up").unwrap();
    assert_eq!(good.payloads(1), ["up"]);
    failed
}

#[test]
fn server_that_does_not_begin_with_hello_is_refused_by_the_client() {
    for first in
        ["payload", "\u{10}ack 0", "\u{10}new", "\u{10}resumed 0 0", "\u{10}lost unknown", "\u{10}hello x 1", "\u{10}"]
    {
        failure_of_client(&[first]);
    }
}

#[test]
fn server_that_does_not_answer_new_with_ack_0_is_refused_by_the_client() {
    let hello = format!("\u{10}{HELLO}");
    for answer in
        ["payload", "\u{10}ack 1", "\u{10}at 0", "\u{10}resumed 0 0", "\u{10}ask", "\u{10}lost unknown", &hello]
    {
        failure_of_client(&[&hello, answer]);
    }
}

#[test]
fn server_that_breaks_the_protocol_costs_a_link_and_nothing_else() {
    let verbs =
        ["new", "ack 2", "ack 9007199254740991", "resumed 0 0", "lost ended 0 0", HELLO, "at 9007199254740992", "x"];
    for verb in verbs {
        let foreign = foreign_server();
        let client = resumable_client(&foreign.url());
        let mut link = Speaker::begin(foreign);
        client.send("up").unwrap();
        assert_eq!(link.payloads(1), ["up"]);
        link.say(verb);
        assert_eq!(link.code(), Some(1002), "{verb}");
        let (mut again, said) = Speaker::wanted(foreign);
        assert_eq!(said, format!("resume {} 2 0", "A".repeat(22)), "{verb}");
        again.say("resumed 0 0");
        assert_eq!((again.heard(), again.payloads(1)), ("at 0".into(), vec!["up".to_owned()]), "{verb}");
    }
}

#[test]
fn server_that_claims_more_than_was_sent_is_refused_by_the_client() {
    for answer in ["resumed 2 0", "resumed 9007199254740991 0", "payload", "ack 1", "new"] {
        let foreign = foreign_server();
        let client = resumable_client(&foreign.url());
        let events = session_events(&client);
        assert_eq!(
            {
                Speaker::begin(foreign);
                events.item()
            },
            SessionEvent::Opened
        );
        client.send("up").unwrap();
        let (mut link, _) = Speaker::wanted(foreign);
        link.say(answer);
        assert_eq!(link.code(), Some(1002), "{answer}");
        let (mut again, _) = Speaker::wanted(foreign);
        again.say("resumed 0 3");
        assert!(matches!(events.item(), SessionEvent::Resumed { missed: 3, .. }));
        assert_eq!((again.heard(), again.payloads(1)), ("at 0".into(), vec!["up".to_owned()]), "{answer}");
    }
}
