//! The fate of single messages: each has exactly one end, and an acknowledged one has arrived.

use std::{
    collections::HashSet,
    net::TcpStream,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rxplus::prelude::*;
use tungstenite::protocol::frame::{
    FrameSocket,
    coding::{Control, Data, OpCode},
};

use super::{
    sessions::{bound_again, resumable_client, session_events},
    support::{
        foreign::*,
        proxy::{Direction, End, Proxy},
        *,
    },
};

const AT_ONCE: Duration = Duration::from_millis(1);

fn resumable<D: WsDatatype>(server: ServerBuilder<D>) -> RxWsServer<D> {
    server.resumable(Resume::new()).bind().unwrap()
}

fn quiet_client(address: &str) -> RxWsClient<WsStr> {
    RxWsClient::builder(address, WsStr).ping_interval(None).conn_retry_timeout(AT_ONCE).connect().unwrap()
}

#[test]
fn message_is_queued_and_written_and_acknowledged() {
    let server = resumable(RxWsServer::builder("ws://127.0.0.1:0", WsStr));
    let proxy = Proxy::to(server.local_addr());
    proxy.silence(true);
    let client = RxWsClient::builder(proxy.url("/").as_str(), WsStr).resumable(Resume::new());
    let client = client.conn_retry_timeout(AT_ONCE).connect().unwrap();
    let delivery = client.send_tracked("hello").unwrap();
    assert_eq!(delivery.status(), DeliveryStatus::Queued);
    let changes = Recorder::on(delivery.changes());
    proxy.silence(false);
    let (heard, end) = changes.to_the_end();
    assert_eq!(heard, [DeliveryStatus::Queued, DeliveryStatus::Written, DeliveryStatus::Acknowledged]);
    assert!(end.is_complete());
    assert_eq!(delivery.wait(PATIENCE).unwrap(), Delivered::Acknowledged);
    let late = Recorder::on(delivery.changes());
    assert_eq!(late.to_the_end().0, [DeliveryStatus::Acknowledged]);
}

#[test]
fn plain_peer_acknowledges_by_the_pong_to_a_ping_behind_the_message() {
    let server = echo_server(WsStr);
    let client = quiet_client(&url(&server, "/"));
    let deliveries: Vec<_> = (0..100).map(|n| client.send_tracked(n.to_string()).unwrap()).collect();
    for delivery in deliveries {
        assert_eq!(delivery.wait(PATIENCE).unwrap(), Delivered::Acknowledged);
    }
    let sent = client.stats().sent;
    assert_eq!((sent.acknowledged, sent.retained, sent.lost), (100, 0, 0));
}

/// What comes on a link, frame by frame, without an answer.
struct Frames(FrameSocket<TcpStream>);

impl Frames {
    fn next(&mut self) -> (OpCode, Vec<u8>) {
        let frame = self.0.read(None).unwrap().unwrap();
        let (opcode, mask) = (frame.header().opcode, frame.header().mask.unwrap());
        (opcode, frame.payload().iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect())
    }

    /// The next frame, which is a message.
    fn text(&mut self) -> Vec<u8> {
        let (opcode, text) = self.next();
        assert_eq!(opcode, OpCode::Data(Data::Text));
        text
    }

    fn ping(&mut self) -> Vec<u8> {
        let (opcode, payload) = self.next();
        assert_eq!(opcode, OpCode::Control(Control::Ping));
        payload
    }

    fn pong(&mut self, payload: Vec<u8>) {
        self.0.send(tungstenite::protocol::frame::Frame::pong(payload)).unwrap();
    }
}

#[test]
fn one_ping_is_under_way_however_late_the_pong() {
    let server = ForeignServer::start();
    let client = quiet_client(&server.url());
    let mut peer = Frames(FrameSocket::new(server.accept().get_ref().try_clone().unwrap()));
    let one = client.send_tracked("one").unwrap();
    assert_eq!(peer.text(), b"one");
    let ping = peer.ping();
    let others = ["two", "three"].map(|text| {
        let delivery = client.send_tracked(text).unwrap();
        assert_eq!(peer.text(), text.as_bytes());
        delivery
    });
    client.next("not tracked");
    assert_eq!(peer.text(), b"not tracked");
    assert_eq!(one.status(), DeliveryStatus::Written);
    peer.pong(ping);
    assert_eq!(one.wait(PATIENCE).unwrap(), Delivered::Acknowledged);
    let ping = peer.ping();
    assert!(others.iter().all(|delivery| delivery.status() == DeliveryStatus::Written));
    peer.pong(ping);
    for delivery in others {
        assert_eq!(delivery.wait(PATIENCE).unwrap(), Delivered::Acknowledged);
    }
    client.next("end");
    assert_eq!(peer.text(), b"end");
}

#[test]
fn plain_link_that_breaks_before_the_pong_leaves_the_message_in_doubt() {
    let server = echo_server(WsStr);
    let proxy = Proxy::to(server.local_addr());
    let client = quiet_client(&proxy.url("/"));
    client.wait_connected(PATIENCE).unwrap();
    proxy.silence(true);
    let delivery = client.send_tracked("lost?").unwrap();
    until("it is written", || delivery.status() == DeliveryStatus::Written);
    proxy.end(End::Reset);
    assert_eq!(delivery.wait(PATIENCE).unwrap(), Delivered::Dropped(DropReason::Unconfirmed));
    until("it counts", || client.stats().sent.lost == 1);
}

#[test]
fn message_that_is_never_written_says_why() {
    let client = RxWsClient::builder("ws://127.0.0.1:1", WsStr).outbox(2, 100, Overflow::DropOldest);
    let client = client.conn_retry_timeout(Duration::from_secs(3600)).connect().unwrap();
    let [first, second, third] = ["a", "b", "c"].map(|text| client.send_tracked(text).unwrap());
    assert_eq!(first.wait(PATIENCE).unwrap(), Delivered::Dropped(DropReason::Overflow));
    assert_eq!(second.status(), DeliveryStatus::Queued);
    client.clear_outbox();
    assert_eq!(second.wait(PATIENCE).unwrap(), Delivered::Dropped(DropReason::Cleared));
    assert_eq!(third.wait(PATIENCE).unwrap(), Delivered::Dropped(DropReason::Cleared));
    let last = client.send_tracked("d").unwrap();
    assert!(matches!(last.wait(AT_ONCE), Err(WsError::TimedOut { .. })));
    client.clone().error(WsError::application("over"));
    drop(client);
    let end = last.wait(PATIENCE).unwrap();
    assert_eq!(end, Delivered::Dropped(DropReason::Closed));
}

#[test]
fn changes_are_told_on_the_thread_of_the_endpoint_whoever_caused_them() {
    let client = RxWsClient::builder("ws://127.0.0.1:1", WsStr).conn_retry_timeout(Duration::from_secs(3600));
    let client = client.connect().unwrap();
    let here = std::thread::current().id();
    for _ in 0..100 {
        let (tell, told) = std::sync::mpsc::channel();
        client.send_tracked("a").unwrap().changes().subscribe(move |_| tell.send(std::thread::current().id()).unwrap());
        client.clear_outbox();
        assert!(told.iter().all(|thread| thread != here));
    }
}

#[test]
fn refused_message_has_no_fate() {
    let client = RxWsClient::builder("ws://127.0.0.1:1", WsStr).outbox(1, 100, Overflow::DropLatest).connect().unwrap();
    let first = client.send_tracked("a").unwrap();
    assert!(matches!(client.send_tracked("b"), Err(SendError::Full(text)) if text == "b"));
    assert_eq!(first.status(), DeliveryStatus::Queued);
}

#[test]
fn close_frame_of_a_plain_peer_acknowledges_nothing() {
    let server = foreign_server(|_, peer| close(peer, 1000));
    let client = quiet_client(&format!("ws://{server}"));
    client.wait_connected(PATIENCE).unwrap();
    let delivery = client.send_tracked("goodbye").unwrap();
    client.clone().complete();
    let end = delivery.wait(PATIENCE).unwrap();
    assert!(matches!(end, Delivered::Dropped(DropReason::Unconfirmed | DropReason::Closed)), "{end:?}");
}

#[test]
fn server_counts_the_copies() {
    let server = resumable(RxWsServer::builder("ws://127.0.0.1:0", WsStr));
    let connections = Recorder::on(server.connections());
    let clients = [(); 3].map(|()| connected(&server, "/", WsStr));
    let heard = clients.each_ref().map(|client| Recorder::on(client.clone()));
    connections.items(3);
    let deliveries = server.send_tracked(TaggedData::new("/", "hello")).unwrap();
    let changes = Recorder::on(deliveries.changes());
    heard.iter().for_each(|heard| assert_eq!(heard.item(), "hello"));
    let sum = |counts: DeliveryCounts| counts.queued + counts.written + counts.acknowledged + counts.dropped;
    changes.find(|counts| {
        assert_eq!(sum(counts), 3, "{counts:?}");
        (counts.acknowledged == 3).then_some(())
    });
    let nobody = server.send_tracked(TaggedData::new("/nobody", "hello")).unwrap();
    assert_eq!(nobody.counts(), DeliveryCounts::default());
}

#[test]
fn observer_of_a_delivery_may_ask_for_it() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let (answer, answered) = answers(|delivery: Delivery| delivery.status());
    let delivery = client.send_tracked("hello").unwrap();
    let asked = delivery.clone();
    delivery.changes().subscribe(move |_| answer(asked.clone()));
    while answered.recv_timeout(PATIENCE).unwrap() != DeliveryStatus::Acknowledged {}
    let (answer, answered) = answers(|deliveries: Deliveries| deliveries.counts());
    let deliveries = server.send_tracked(TaggedData::new("/", "hello")).unwrap();
    let asked = deliveries.clone();
    deliveries.changes().subscribe(move |_| answer(asked.clone()));
    while answered.recv_timeout(PATIENCE).unwrap().acknowledged == 0 {}
}

#[test]
fn waker_that_panics_ends_neither_the_link_nor_other_waits_for_a_delivery() {
    let server = resumable(RxWsServer::builder("ws://127.0.0.1:0", WsStr));
    let proxy = Proxy::to(server.local_addr());
    let client = RxWsClient::builder(proxy.url("/").as_str(), WsStr).resumable(Resume::new()).connect().unwrap();
    let events = Recorder::on(client.events());
    client.wait_connected(PATIENCE).unwrap();
    proxy.silence(true);
    let delivery = client.send_tracked("hello").unwrap();
    let waits = [(); 9].map(|()| poll_with_waker_that_panics(delivery.clone().into_future()));
    let (answer, answered) = answers(|delivery: Delivery| delivery.wait(PATIENCE).unwrap());
    let waiting = delivery.clone();
    thread::spawn(move || answer(waiting));
    proxy.silence(false);
    assert_eq!(answered.recv_timeout(PATIENCE).unwrap(), Delivered::Acknowledged);
    drop(waits);
    assert_eq!(client.send_tracked("goes on").unwrap().wait(PATIENCE).unwrap(), Delivered::Acknowledged);
    let is_end = |event: &Heard<ClientEvent>| matches!(event, Heard::Item(ClientEvent::Disconnected { .. }));
    assert!(!events.rest().iter().any(is_end));
}

#[test]
fn delivery_can_be_awaited_and_belongs_to_a_group_as_well() {
    let server = resumable(RxWsServer::builder("ws://127.0.0.1:0", WsStr));
    let address = format!("ws://{}", server.local_addr());
    let group = RxWsClientGroup::builder(address.as_str(), WsStr).resumable(Resume::new()).build().unwrap();
    let delivery = group.send_tracked(TaggedData::new("/a", "hello")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let end = runtime.block_on(async { delivery.await });
    assert_eq!(end, Delivered::Acknowledged);
}

#[test]
fn waiting_on_the_thread_that_does_the_work_is_an_error() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let (answer, answered) = answers(|client: RxWsClient<WsStr>| client.send_tracked("x").unwrap().wait(PATIENCE));
    let inside = client.clone();
    client.clone().log_errors().subscribe(move |_| answer(inside.clone()));
    client.send("go").unwrap();
    let answer = answered.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(answer, Err(WsError::WouldDeadlock(_))), "{answer:?}");
}

/// Notes what a server hears, until the subscription ends.
fn note(server: &RxWsServer<WsStr>, heard: &Arc<Mutex<HashSet<WsText>>>) -> impl Subscription + use<> {
    let heard = heard.clone();
    server.clone().log_errors().subscribe(move |td| _ = heard.lock().unwrap().insert(td.data))
}

/// The links break, and every tenth time the server is another one, which knows nothing: what was written is in doubt then.
#[test]
fn each_of_many_messages_over_links_that_break_has_one_end_and_it_is_true() {
    const ROUND: usize = 1_000;
    const ROUNDS: usize = 100;
    let heard = Arc::default();
    // A host of its own, where no client of another test can have taken the port meanwhile.
    let mut server = resumable(RxWsServer::builder(format!("ws://{}:0", host_of_its_own(8)), WsStr));
    let mut noting = note(&server, &heard);
    let (proxy, address) = (Proxy::to(server.local_addr()), format!("ws://{}", server.local_addr()));
    let client = resumable_client(&proxy.url("/"));
    let events = session_events(&client);
    let mut deliveries = Vec::new();
    for round in 1..=ROUNDS {
        client.wait_connected(PATIENCE).unwrap();
        until("there is room", || client.stats().sent.queued.messages < 5_000);
        deliveries.extend((0..ROUND).map(|n| client.send_tracked(format!("{round} {n}")).unwrap()));
        if round % 10 == 0 {
            proxy.silence(true);
            proxy.refuse(true);
            proxy.end(End::Reset);
            noting.unsubscribe();
            drop(server);
            server = bound_again(&address);
            noting = note(&server, &heard);
            proxy.silence(false);
            proxy.refuse(false);
            events.find(|event| matches!(event, SessionEvent::Lost { .. }).then_some(()));
        } else {
            let direction = if round % 2 == 0 { Direction::Up } else { Direction::Down };
            proxy.cut_after(direction, round % 13, if round % 3 == 0 { End::Fin } else { End::Reset });
            client.send("poke").unwrap();
            events.find(|event| matches!(event, SessionEvent::Resumed { .. }).then_some(()));
        }
    }
    let ends: Vec<_> = deliveries.iter().map(|delivery| delivery.wait(PATIENCE).unwrap()).collect();
    let heard = heard.lock().unwrap();
    let mut doubtful = 0;
    for (index, end) in ends.iter().enumerate() {
        let message = format!("{} {}", index / ROUND + 1, index % ROUND);
        match end {
            Delivered::Acknowledged => assert!(heard.contains(message.as_str()), "{message}"),
            end => {
                assert_eq!(*end, Delivered::Dropped(DropReason::Unconfirmed), "{message}");
                doubtful += 1;
            }
        }
    }
    let sent = client.stats().sent;
    assert_eq!(sent.acknowledged + sent.lost, sent.accepted.messages, "{sent:?}");
    assert!(doubtful > 0 && doubtful <= sent.lost, "{doubtful} of {sent:?}");
}

#[test]
fn message_has_an_end_when_the_runtime_of_its_client_is_gone() {
    let server = echo_server(WsStr);
    let proxy = Proxy::to(server.local_addr());
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = IoRuntime::from_tokio(tokio.handle().clone());
    let builder = RxWsClient::builder(proxy.url("/").as_str(), WsStr).runtime(&runtime);
    let client = builder.ping_interval(None).connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    proxy.silence(true);
    let written = client.send_tracked("written").unwrap();
    until("it is written", || written.status() == DeliveryStatus::Written);
    proxy.refuse(true);
    proxy.end(End::Reset);
    until("it knows", || client.response().is_none());
    let queued = client.send_tracked("queued").unwrap();
    tokio.shutdown_background();
    assert_eq!(written.wait(PATIENCE).unwrap(), Delivered::Dropped(DropReason::Unconfirmed));
    assert_eq!(queued.wait(PATIENCE).unwrap(), Delivered::Dropped(DropReason::Closed));
}
