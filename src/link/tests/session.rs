//! What a link says and hears for its session, and what is left when it breaks at any byte.

use super::*;

const WIDE: Tally = Tally { messages: 4096, len: 1 << 22 };

/// A link of a session at work on the server, and its client.
struct Serving {
    rig: Rig,
    told: mpsc::UnboundedReceiver<News>,
}

impl Serving {
    fn start(window: Tally, socket_len: usize) -> Self {
        Self::start_with(window, socket_len, Limits::server())
    }

    fn start_with(window: Tally, socket_len: usize, limits: Limits) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let session = InSession { window, tell };
        let rig = Plan { session: Some(session), socket_len, limits, ..Plan::new(Role::Server) }.start();
        Self { rig, told }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.rig.peer.write_all(bytes).await.unwrap();
    }

    async fn say(&mut self, text: &str) {
        self.send(&control(Role::Client, text)).await;
    }

    /// The next frame of the server's, a short one, as text.
    async fn frame(&mut self) -> String {
        let (opcode, payload) = read_frame(&mut self.rig.peer).await;
        assert_eq!(opcode, TEXT);
        String::from_utf8(payload).unwrap().replace('\u{10}', "DLE ")
    }

    /// Whether the server writes nothing for that long.
    async fn is_silent_for(&mut self, time: Duration) -> bool {
        timeout(time, self.rig.peer.read_u8()).await.is_err()
    }

    fn elapsed(&self) -> u128 {
        self.rig.began.elapsed().as_millis()
    }

    fn push(&self, count: usize) {
        (0..count).for_each(|n| self.rig.outbox.push(text(&n.to_string())).unwrap());
    }
}

fn control(from: Role, text: &str) -> Vec<u8> {
    wire(from, TEXT, format!("\u{10}{text}").as_bytes())
}

fn messages(count: usize) -> Vec<u8> {
    wire(Role::Client, TEXT, b"x").repeat(count)
}

#[tokio::test(start_paused = true)]
async fn ack_goes_out_at_128_messages_and_not_before() {
    let mut serving = Serving::start(WIDE, 1 << 20);
    serving.send(&messages(127)).await;
    assert!(serving.is_silent_for(SECOND / 2).await);
    serving.send(&messages(1)).await;
    assert_eq!((serving.frame().await.as_str(), serving.elapsed()), ("DLE ack 128", 500));
    assert!(serving.is_silent_for(100 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn limit_of_a_message_is_that_of_the_program_and_counts_no_escape() {
    for (message, is_taken) in [
        (wire(Role::Client, BINARY, &[7; 200]), true),
        (wire(Role::Client, TEXT, &[0x10; 201]), true),
        (wire(Role::Client, BINARY, &[7; 201]), false),
        (wire(Role::Client, TEXT, &[0x10; 202]), false),
    ] {
        let mut serving = Serving::start_with(WIDE, 1 << 20, Limits::server().message_len(200));
        serving.send(&message).await;
        if is_taken {
            assert_eq!(serving.rig.heard.recv().await.unwrap().len(), 200);
        } else {
            let (opcode, payload) = read_frame(&mut serving.rig.peer).await;
            let (code, reason) = payload.split_at(2);
            assert_eq!((opcode, code), (CLOSE, &u16::to_be_bytes(1009)[..]));
            assert!(String::from_utf8_lossy(reason).contains("the limit of 200"));
            assert!(serving.rig.heard.try_recv().is_err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ack_goes_out_at_32_kib_and_not_before() {
    let mut serving = Serving::start(WIDE, 1 << 20);
    serving.send(&wire(Role::Client, BINARY, &[7; 32 * 1024 - 1])).await;
    assert!(serving.is_silent_for(SECOND / 2).await);
    serving.send(&messages(1)).await;
    assert_eq!((serving.frame().await.as_str(), serving.elapsed()), ("DLE ack 2", 500));
}

#[tokio::test(start_paused = true)]
async fn ack_goes_out_a_second_after_the_first_message_that_it_is_for() {
    let mut serving = Serving::start(WIDE, 1 << 20);
    for (sent, ack, at) in [(0, "DLE ack 2", 1000), (5000, "DLE ack 4", 6000)] {
        tokio::time::sleep_until(serving.rig.began + Duration::from_millis(sent)).await;
        serving.send(&messages(1)).await;
        sleep(SECOND * 9 / 10).await;
        serving.send(&messages(1)).await;
        assert_eq!(serving.frame().await, ack);
        assert!((at..at + 5).contains(&serving.elapsed()), "{} ms", serving.elapsed());
    }
    assert!(serving.is_silent_for(100 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn ack_answers_ask_at_once_and_once_for_all_that_came_together() {
    let mut serving = Serving::start(WIDE, 1 << 20);
    serving.say("ask").await;
    assert_eq!(serving.frame().await, "DLE ack 0");
    let asks = [messages(1), control(Role::Client, "ask"), messages(1), control(Role::Client, "ask")];
    serving.send(&asks.concat()).await;
    assert_eq!((serving.frame().await.as_str(), serving.elapsed()), ("DLE ack 2", 0));
    assert!(serving.is_silent_for(100 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn ack_waits_for_a_socket_that_is_blocked_and_goes_out_once_when_it_takes_bytes_again() {
    let mut serving = Serving::start(WIDE, 256);
    serving.rig.outbox.push(binary(1000)).unwrap();
    for _ in 0..3 {
        serving.send(&messages(70)).await;
        // A driver that does not sleep would stop the clock for ever.
        sleep(3 * SECOND).await;
    }
    let blocked = serving.elapsed();
    let mut frame = [0; 1004];
    serving.rig.peer.read_exact(&mut frame).await.unwrap();
    assert!(frame[4..].iter().all(|byte| *byte == 7));
    assert_eq!((serving.frame().await.as_str(), serving.elapsed()), ("DLE ack 210", blocked));
    assert!(serving.is_silent_for(100 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn full_window_holds_the_rest_and_asks_once_until_an_ack_comes() {
    let mut serving = Serving::start(Tally { messages: 3, len: 1 << 20 }, 1 << 20);
    serving.push(8);
    for frame in ["0", "1", "2", "DLE ask"] {
        assert_eq!(serving.frame().await, frame);
    }
    serving.push(2);
    assert!(serving.is_silent_for(30 * SECOND).await);
    serving.say("ack 2").await;
    for frame in ["3", "4", "DLE ask"] {
        assert_eq!(serving.frame().await, frame);
    }
    serving.say("ack 5").await;
    for frame in ["5", "6", "7", "DLE ask"] {
        assert_eq!(serving.frame().await, frame);
    }
    serving.say("ack 8").await;
    for frame in ["0", "1"] {
        assert_eq!(serving.frame().await, frame);
    }
    assert!(serving.is_silent_for(100 * SECOND).await);
    assert_eq!(serving.rig.outbox.stats().retained, 2);
}

#[tokio::test(start_paused = true)]
async fn window_is_full_at_its_bytes_as_well_and_an_empty_one_takes_any_message() {
    let mut serving = Serving::start(Tally { messages: 4096, len: 10 }, 1 << 20);
    for len in [100, 4, 4, 4] {
        serving.rig.outbox.push(text(&"x".repeat(len))).unwrap();
    }
    assert_eq!(serving.frame().await.len(), 100);
    assert_eq!(serving.frame().await, "DLE ask");
    serving.say("ack 1").await;
    for frame in ["xxxx", "xxxx", "xxxx"] {
        assert_eq!(serving.frame().await, frame);
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_does_not_answer_ask_is_dropped_after_a_minute() {
    let mut serving = Serving::start(Tally { messages: 1, len: 1 << 20 }, 1 << 20);
    serving.push(2);
    for frame in ["0", "DLE ask"] {
        assert_eq!(serving.frame().await, frame);
    }
    let (ending, after) = serving.rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert_eq!((ending.unconfirmed, after), (1, 60));
}

#[tokio::test(start_paused = true)]
async fn ack_of_nothing_new_answers_no_ask() {
    let mut serving = Serving::start(Tally { messages: 1, len: 1 << 20 }, 1 << 20);
    serving.push(2);
    for frame in ["0", "DLE ask"] {
        assert_eq!(serving.frame().await, frame);
    }
    for _ in 0..3 {
        serving.say("ack 0").await;
        assert!(serving.is_silent_for(15 * SECOND).await);
    }
    let (ending, after) = serving.rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert_eq!(after, 60);
}

#[tokio::test(start_paused = true)]
async fn at_comes_before_the_payload_behind_a_hole() {
    let mut serving = Serving::start(Tally { messages: 1, len: 1 << 20 }, 1 << 20);
    serving.push(4);
    for frame in ["0", "DLE ask"] {
        assert_eq!(serving.frame().await, frame);
    }
    serving.rig.outbox.clear();
    serving.push(1);
    serving.say("ack 1").await;
    for frame in ["DLE at 4", "0"] {
        assert_eq!(serving.frame().await, frame);
    }
}

#[tokio::test(start_paused = true)]
async fn gap_that_the_peer_announces_is_told_before_the_message_behind_it() {
    let mut serving = Serving::start(WIDE, 1 << 20);
    let script = [messages(1), control(Role::Client, "at 1"), messages(1), control(Role::Client, "at 5"), messages(1)];
    serving.send(&script.concat()).await;
    for _ in 0..3 {
        serving.rig.heard.recv().await.unwrap();
    }
    assert_eq!(serving.told.try_recv(), Ok(News::Gap { missed: 3 }));
    assert!(serving.told.try_recv().is_err());
    assert_eq!(serving.frame().await, "DLE ack 6");
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_close_frame() {
    let mut serving = Serving::start(WIDE, 1 << 20);
    serving.rig.outbox.close(1000, "", 100 * SECOND);
    assert_eq!(read_frame(&mut serving.rig.peer).await.0, CLOSE);
    serving.send(&[messages(128), control(Role::Client, "ask")].concat()).await;
    assert!(serving.is_silent_for(10 * SECOND).await);
    let mut mistaken = Serving::start(WIDE, 1 << 20);
    mistaken.send(&[messages(128), control(Role::Client, "bye")].concat()).await;
    assert_eq!(read_frame(&mut mistaken.rig.peer).await.0, CLOSE);
    assert_eq!(mistaken.rig.peer.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn close_frame_acknowledges_nothing_that_the_peer_has_not_said() {
    let mut serving = Serving::start(WIDE, 1 << 20);
    serving.push(3);
    for _ in 0..3 {
        serving.frame().await;
    }
    serving.rig.outbox.close(1000, "", 100 * SECOND);
    assert_eq!(read_frame(&mut serving.rig.peer).await.0, CLOSE);
    // It may have crossed the server's: the client has said how far it was before.
    serving.send(&[control(Role::Client, "ack 1"), close_frame(Role::Client, 1000)].concat()).await;
    let ending = serving.rig.task.await.unwrap();
    let sent = serving.rig.outbox.stats();
    assert_eq!((ending.unconfirmed, sent.acknowledged, sent.retained), (2, 1, 2));
}

/// One end of a session, as its frames tell it.
#[derive(Default)]
struct End {
    position: u64,
    payloads: Vec<String>,
}

impl End {
    /// Hears the frames that have come whole.
    fn hear(&mut self, mut bytes: &[u8]) {
        while let [_, len, rest @ ..] = bytes {
            let (mask_len, len) = (if *len >= 0x80 { 4 } else { 0 }, usize::from(len & 0x7f));
            let Some(payload) = rest.get(mask_len..mask_len + len) else { return };
            self.hear_text(std::str::from_utf8(payload).unwrap());
            bytes = &rest[mask_len + len..];
        }
    }

    fn hear_text(&mut self, text: &str) {
        match text.strip_prefix('\u{10}') {
            None => {
                self.position += 1;
                self.payloads.push(text.into());
            }
            Some(verb) => verb.strip_prefix("at ").into_iter().for_each(|at| self.position = at.parse().unwrap()),
        }
    }
}

/// A server that keeps its session, and what its client has heard.
struct Session {
    outbox: Outbox,
    client: End,
    heard: Vec<String>,
}

impl Session {
    /// With a hole at its beginning, and more messages than its window holds.
    fn new() -> Self {
        let outbox = outbox();
        outbox.begin_session(Tally { messages: 2, len: 1 << 20 }, vec![]);
        (0..2).for_each(|_| outbox.push(text("dropped")).unwrap());
        outbox.clear();
        (2..6).for_each(|n| outbox.push(text(&n.to_string())).unwrap());
        Self { outbox, client: End::default(), heard: vec![] }
    }

    /// Serves a link on which the client says each part once the server has nothing to write, and which breaks after `up`
    /// bytes of the client's or `down` of the server's. Returns what the client has said.
    async fn link(&mut self, say: impl Fn(&End) -> Vec<Vec<u8>>, mut up: usize, down: usize) -> Vec<u8> {
        let (socket, mut peer) = duplex(1 << 20);
        let plan = Plan { scheduler: None, ..Plan::new(Role::Server) };
        let mut link = plan.link(&self.outbox);
        link.link.session = Some(SessionLink::new(self.outbox.received(), None).into());
        let (hand_on, mut heard) = mpsc::unbounded_channel();
        let receive = move |frame| receipt(hand_on.send(frame));
        let (mut said, mut written) = (vec![], vec![]);
        let driving = tokio::spawn(drive(broken_after(down)(socket), link, receive, std::future::pending()));
        for part in 0.. {
            let mut end = End { position: self.client.position, payloads: vec![] };
            end.hear(&written);
            let Some(part) = say(&end).get(part).cloned() else { break };
            let part = &part[..part.len().min(up)];
            peer.write_all(part).await.unwrap();
            said.extend(part);
            up -= part.len();
            let ended = timeout(SECOND / 10, peer.read_to_end(&mut written)).await.is_ok();
            if ended || up == 0 {
                break;
            }
        }
        drop(peer);
        driving.await.unwrap();
        self.client.hear(&written);
        while let Some(Frame::Text(text)) = heard.recv().await {
            self.heard.push(text.to_string());
        }
        said
    }
}

fn first_link(client: &End) -> Vec<Vec<u8>> {
    let client_says = |text: &str| wire(Role::Client, TEXT, text.as_bytes());
    let ack = control(Role::Client, &format!("ack {}", client.position));
    vec![
        [client_says("a"), client_says("b"), control(Role::Client, "at 4"), client_says("c")].concat(),
        [ack.clone(), client_says("d")].concat(),
        ack,
    ]
}

fn second_link(client: &End) -> Vec<Vec<u8>> {
    vec![control(Role::Client, &format!("ack {}", client.position)); 6]
}

#[tokio::test(start_paused = true)]
async fn link_cut_at_any_byte_in_either_direction_loses_and_repeats_nothing() {
    const UP: usize = 80;
    const DOWN: usize = 40;
    for (up, down) in (0..UP).flat_map(|up| (0..DOWN).map(move |down| (up, down))) {
        let mut session = Session::new();
        let said = session.link(first_link, up, down).await;
        let mut server = End::default();
        server.hear(&said);
        assert_eq!((session.outbox.received(), &session.heard), (server.position, &server.payloads), "{up} {down}");
        let next = session.outbox.rewind(session.client.position).unwrap();
        assert_eq!(next, session.client.position.max(2), "{up} {down}");
        session.client.position = next;
        session.link(second_link, usize::MAX, usize::MAX).await;
        assert_eq!((session.client.position, session.client.payloads.join("").as_str()), (6, "2345"), "{up} {down}");
        let whole = up == UP - 1 && down == DOWN - 1;
        assert!(!whole || session.heard == ["a", "b", "c", "d"] && session.outbox.received() == 6);
    }
}
