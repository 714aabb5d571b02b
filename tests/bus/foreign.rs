//! Other programs on the broker, which speak NATS and know nothing of rxplus.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use super::*;

/// The protocol of NATS by hand.
struct Program(BufReader<TcpStream>);

impl Program {
    fn on(broker: &NatsServer) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", broker.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut program = Self(BufReader::new(stream));
        assert!(program.line().starts_with("INFO "));
        program.write(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n");
        program
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Until the broker has done what it was told.
    fn ping(&mut self) {
        self.write(b"PING\r\n");
        assert_eq!(self.line(), "PONG");
    }

    fn publish(&mut self, subject: &str, header: Option<&str>, payload: &[u8]) {
        let headers = header.map(|value| format!("NATS/1.0\r\nRx: {value}\r\n\r\n"));
        let head = match &headers {
            Some(headers) => format!("HPUB {subject} {} {}\r\n{headers}", headers.len(), headers.len() + payload.len()),
            None => format!("PUB {subject} {}\r\n", payload.len()),
        };
        self.write(&[head.as_bytes(), payload, b"\r\n"].concat());
    }
}

fn listening(broker: &NatsServer) -> (RxBus<WsStr>, Recorder<TaggedData<WsText>>) {
    let bus = RxBus::connect(broker.url(), WsStr).unwrap();
    let heard = Recorder::on(bus.clone());
    bus.wait_connected(PATIENCE).unwrap();
    (bus, heard)
}

#[test]
#[ignore = "needs nats-server"]
fn program_without_rxplus_hears_the_payload_as_it_is_and_speaks_to_all() {
    let broker = NatsServer::start("");
    let (bus, heard) = listening(&broker);
    let mut program = Program::on(&broker);
    program.write(b"SUB rx.> 1\r\n");
    program.ping();
    bus.next(TaggedData::new("/chat/room.1", "grüß"));
    assert_eq!(heard.item(), TaggedData::new("/chat/room.1", "grüß".into()));
    let head = program.line();
    assert!(head.starts_with("HMSG rx.chat.room=2E1 1 "), "{head}");
    assert_eq!(program.line(), "NATS/1.0");
    let mark = program.line();
    assert!(mark.starts_with("Rx: t.") && mark.ends_with(".1"), "{mark}");
    assert_eq!((program.line(), program.line()), (String::new(), "grüß".into()));
    program.publish("rx.chat", None, b"hello");
    assert_eq!(heard.item(), TaggedData::new("/chat", "hello".into()));
}

/// Such a listener answers nothing: a question that it hears must not wait for it.
#[test]
#[ignore = "needs nats-server"]
fn one_who_listens_to_everything_keeps_the_broker_from_no_confirmation() {
    let broker = NatsServer::start("");
    let mut program = Program::on(&broker);
    program.write(b"SUB > 1\r\n");
    program.ping();
    let (bus, _heard) = listening(&broker);
    bus.next(TaggedData::new("/a", "x"));
    bus.clone().complete();
    assert_eq!(bus.wait_closed(PATIENCE).unwrap().unsent, 0);
}

#[test]
#[ignore = "needs nats-server"]
fn hostile_messages_are_skipped_or_delivered_and_end_nothing() {
    let broker = NatsServer::start("");
    let (bus, heard) = listening(&broker);
    let undecodable = bus_event(&bus, |event| match event {
        BusEvent::Undecodable { path, from: None, len: 2, .. } => Some(path),
        _ => None,
    });
    let gap = bus_event(&bus, |event| match event {
        BusEvent::Gap { missed, .. } if missed > 1 << 60 => Some(missed),
        _ => None,
    });
    let mut program = Program::on(&broker);
    // No paths.
    for subject in ["rx", "rx.=4A", "rx.=", "rx.a=", "rx.=FF", "rx.~", "rxa.b"] {
        program.publish(subject, None, b"nowhere");
    }
    let most = u64::MAX.to_string();
    for mark in
        ["", "x", "t.a", "t..1", "b.a.-1", &"t.".repeat(100), "n.a.1", &format!("n.a.{most}"), &format!("n.b.{most}")]
    {
        program.publish("rx.a", Some(mark), b"x");
    }
    program.publish("rx.a", Some("t.c.1"), b"first");
    program.publish("rx.a", Some("t.c.1"), b"twice");
    program.publish("rx.a", Some(&format!("t.c.{most}")), b"last");
    program.publish("rx.b", None, &[0xff, 0xfe]);
    program.publish("rx.end", None, b"end");
    let mut all = Vec::new();
    heard.note_until(&mut all, |item| item.tag == "/end");
    let all: Vec<_> = all.iter().map(|item| (item.tag.as_str(), item.data.as_str())).collect();
    let marked = [("/a", "x"); 6].into_iter().chain([("/a", "first"), ("/a", "last"), ("/end", "end")]);
    let expected: Vec<_> = [("/", "nowhere")].into_iter().chain(marked).collect();
    assert_eq!(all, expected);
    assert_eq!((undecodable(), gap()), ("/b".into(), u64::MAX - 1));
}

/// What a bus had given to a link before that broke can reach the broker behind the subscriptions of its next link, which the broker
/// takes for somebody else.
#[test]
#[ignore = "needs nats-server"]
fn bus_does_not_hear_what_comes_back_of_its_own() {
    let broker = NatsServer::start("");
    let (bus, heard) = listening(&broker);
    let gap = Recorder::on(bus.events().filter(|event| matches!(event, BusEvent::Gap { .. })));
    let mut program = Program::on(&broker);
    program.write(b"SUB rx.a 1\r\n");
    program.ping();
    bus.next(TaggedData::new("/a", "own"));
    program.line();
    program.line();
    let mark = program.line().strip_prefix("Rx: ").unwrap().to_owned();
    let name = mark.strip_prefix("t.").unwrap().strip_suffix(".1").unwrap();
    for again in [mark.clone(), format!("t.{name}.2"), format!("n.{name}.9"), format!("t.{name}-2.1")] {
        program.publish("rx.a", Some(&again), b"own");
    }
    program.publish("rx.a", Some(&format!("t.{name}x.1")), b"of another");
    program.publish("rx.a", None, b"end");
    let data = heard.items(3).into_iter().map(|item| item.data);
    assert_eq!(data.collect::<Vec<_>>(), ["own", "of another", "end"]);
    assert!(gap.rest().is_empty());
}
