//! Datatypes on the wire.

use std::collections::BTreeMap;

use tungstenite::Message;

use super::*;

type Pose = BTreeMap<String, (f64, Option<i32>)>;

fn pose() -> Pose {
    BTreeMap::from([("arm".into(), (0.5, None)), ("leg".into(), (-1.25, Some(7)))])
}

/// An echo server and a client of the same datatype, and what the client hears.
fn echoing<D: WsDatatype<Item: Into<D::Outgoing>>>(
    server: D,
    client: D,
) -> (RxWsServer<D>, RxWsClient<D>, Recorder<D::Item>) {
    let server = echo_server(server);
    let client = connected(&server, "/", client);
    let heard = Recorder::on(client.clone());
    (server, client, heard)
}

#[test]
fn pair_receives_one_type_and_sends_another() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsObject::<u32, String>::pair()).unwrap();
    server.clone().map(|td| td.map(|number| number.to_string())).subscribe_with(server.clone());
    let client = connected(&server, "/", WsObject::<String, u32>::default());
    let heard = Recorder::on(client.clone());
    client.next(7_u32);
    assert_eq!(heard.item(), "7");
}

#[test]
fn strings_travel_as_text() {
    let (_server, client, heard) = echoing(WsStr, WsStr);
    for text in ["", "hello", "grüße, 世界 🌍", "\0\n"] {
        client.next(text);
        assert_eq!(heard.item(), text);
    }
}

#[test]
fn bytes_travel_as_binary() {
    let (_server, client, heard) = echoing(WsBytes, WsBytes);
    for bytes in [vec![], vec![0, 255, 128], vec![7; 70_000]] {
        client.next(bytes.clone());
        assert_eq!(heard.item(), bytes);
    }
}

#[test]
fn objects_travel_as_message_pack() {
    let (_server, client, heard) = echoing(WsObject::<Pose>::new(), WsObject::new());
    client.next(pose());
    assert_eq!(heard.item(), pose());
}

#[cfg(feature = "json")]
#[test]
fn objects_travel_as_json() {
    let server = echo_server(WsJson::<Pose>::new());
    let mut peer = foreign_client(server.local_addr(), "/");
    let json = r#"{"arm":[0.5,null]}"#;
    peer.send(Message::text(json)).unwrap();
    assert_eq!(read(&mut peer), Message::text(json));
}

#[test]
fn each_datatype_uses_its_own_kind_of_message() {
    let server = ForeignServer::start();
    let text = RxWsClient::connect(server.url(), WsStr).unwrap();
    text.next("hello");
    let mut peer = server.accept();
    assert!(read(&mut peer).is_text());
    let bytes = RxWsClient::connect(server.url(), WsBytes).unwrap();
    bytes.next(vec![1]);
    let mut peer_of_bytes = server.accept();
    assert!(read(&mut peer_of_bytes).is_binary());
    let object = RxWsClient::connect(server.url(), WsObject::<u8>::new()).unwrap();
    object.next(1);
    assert!(read(&mut server.accept()).is_binary());
}

fn by_path() -> WsByPath {
    WsByPath::new(|path| match path {
        "/audio" => WsKind::Bytes,
        "/pose" => WsKind::Object,
        _ => WsKind::Str,
    })
}

#[test]
fn server_and_group_choose_the_datatype_by_path() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", by_path()).unwrap();
    server.clone().subscribe_with(server.clone());
    let group = RxWsClientGroup::new(url(&server, "/"), by_path()).unwrap();
    let heard = Recorder::on(group.clone());
    let object = Payload::object(&pose()).unwrap();
    let payloads = [("/audio", vec![1, 2, 3].into()), ("/pose", object), ("/chat", Payload::from("hello"))];
    for (path, payload) in payloads {
        group.next(TaggedData::new(path, payload.clone()));
        let echo = heard.item();
        assert_eq!(echo, TaggedData::new(path, payload));
        if path == "/pose" {
            assert_eq!(echo.data.decode::<Pose>().unwrap(), pose());
        }
    }
    server.complete();
}

#[test]
fn datatype_by_path_speaks_with_those_that_have_one_kind() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", by_path()).unwrap();
    server.clone().subscribe_with(server.clone());
    let audio = connected(&server, "/audio", WsBytes);
    let (heard, bytes) = (Recorder::on(audio.clone()), vec![1, 2, 3]);
    audio.next(bytes.clone());
    assert_eq!(heard.item(), bytes);
    let pose_client = connected(&server, "/pose", WsObject::<Pose>::new());
    let heard = Recorder::on(pose_client.clone());
    pose_client.next(pose());
    assert_eq!(heard.item(), pose());
    let chat = connected(&server, "/chat", WsStr);
    let heard = Recorder::on(chat.clone());
    chat.next("hello");
    assert_eq!(heard.item(), "hello");
    server.complete();
}

#[test]
fn undecodable_frame_is_told_counted_and_skipped() {
    let server = echo_server(WsStr);
    let events = Recorder::on(server.events());
    let mut peer = foreign_client(server.local_addr(), "/chat");
    peer.send(Message::binary(vec![1, 2, 3])).unwrap();
    peer.send(Message::text("next")).unwrap();
    assert_eq!(read(&mut peer), Message::text("next"));
    let (peer, error, len) = events.find(|event| match event {
        ServerEvent::Undecodable { peer, error, len, .. } => Some((peer, error, len)),
        _ => None,
    });
    assert_eq!((peer.path.as_str(), len), ("/chat", 3));
    assert!(error.to_string().contains("binary"), "{error}");
    assert_eq!(server.stats().undecodable, 1);
}

#[test]
fn undecodable_frame_is_skipped_by_a_client_and_a_group_too() {
    let server = ForeignServer::start();
    let group = RxWsClientGroup::new(server.url(), WsObject::<u8>::new()).unwrap();
    let (heard, events) = (Recorder::on(group.clone()), Recorder::on(group.events()));
    let client = group.open("/pose").unwrap();
    let mut peer = server.accept();
    peer.send(Message::text("no object")).unwrap();
    peer.send(Message::binary(vec![0xc1])).unwrap(); // what MessagePack never uses
    peer.send(Message::binary(vec![7])).unwrap();
    assert_eq!(heard.item(), TaggedData::new("/pose", 7));
    let lens = [(); 2].map(|()| {
        events.find(|tagged| match tagged.data {
            ClientEvent::Undecodable { len, .. } => Some((tagged.tag.to_string(), len)),
            _ => None,
        })
    });
    assert_eq!(lens, [("/pose".into(), 9), ("/pose".into(), 1)]);
    assert_eq!(client.stats().undecodable, 2);
}

#[test]
fn datatype_that_panics_on_a_frame_is_an_event_and_the_stream_goes_on() {
    let (server, client, heard) = echoing(Touchy, Touchy);
    let events = Recorder::on(server.events());
    client.next("decode panics");
    client.next("fine");
    assert_eq!(heard.item(), "fine");
    events.find(|event| matches!(event, ServerEvent::Undecodable { .. }).then_some(()));
}

/// Refuses some texts, and has a bug with others.
struct Touchy;

impl WsDatatype for Touchy {
    type Item = WsText;
    type Outgoing = WsText;

    fn encode(&self, path: &str, item: &WsText) -> Result<Frame, DatatypeError> {
        if item == "unencodable" { Err(DatatypeError::new("it has no encoding")) } else { WsStr.encode(path, item) }
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<WsText, DatatypeError> {
        let text = WsStr.decode(path, frame)?;
        assert_ne!(text, "decode panics", "a bug of the datatype's");
        Ok(text)
    }
}

#[test]
fn value_that_cannot_be_encoded_is_handed_back_by_send_and_told_by_next() {
    let server = echo_server(Touchy);
    let connections = Recorder::on(server.connections());
    let group = RxWsClientGroup::new(url(&server, "/"), Touchy).unwrap();
    let client = group.open("/").unwrap();
    let connection = connections.item();
    let heard = Recorder::on(client.clone());

    let item = || WsText::from("unencodable");
    let tagged = || TaggedData::new("/", item());
    assert!(matches!(client.send(item()), Err(SendError::Encode(it, _)) if it == item()));
    assert!(matches!(connection.send(item()), Err(SendError::Encode(it, _)) if it == item()));
    assert!(matches!(group.send(tagged()), Err(SendError::Encode(it, _)) if it == tagged()));
    assert!(matches!(server.send(tagged()), Err(SendError::Encode(it, _)) if it == tagged()));

    let told = (Recorder::on(client.events()), Recorder::on(group.events()));
    let told_by_server = (Recorder::on(connection.events()), Recorder::on(server.events()));
    client.next(item());
    told.0.find(|event| matches!(event, ClientEvent::Unencodable { .. }).then_some(()));
    group.next(tagged());
    told.1.find(|event| matches!(event.data, ClientEvent::Unencodable { .. }).then_some(()));
    connection.next(item());
    told_by_server.0.find(|event| matches!(event, ServerEvent::Unencodable { .. }).then_some(()));
    server.next(tagged());
    told_by_server.1.find(|event| matches!(event, ServerEvent::Unencodable { .. }).then_some(()));

    assert_eq!((client.stats().unencodable, connection.stats().unencodable, server.stats().unencodable), (2, 2, 2));
    client.next("goes on");
    assert_eq!(heard.item(), "goes on");
}
