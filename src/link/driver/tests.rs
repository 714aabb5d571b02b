//! The driver against peers that are told byte for byte what to do, on a clock that only moves when all is still.

use std::{
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
};

use futures::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    sync::{mpsc, oneshot},
    task::{JoinHandle, coop},
    time::{advance, sleep, timeout},
};
use tokio_tungstenite::WebSocketStream;
use tungstenite::protocol::frame::FrameSocket;

use super::*;
use crate::{
    SerializedSubject, Tag,
    endpoint::switchboard::Switchboard,
    outbox::{OutboxBound, Overflow},
};

/// More than any of the sockets here holds.
const ARRIVED_LEN: usize = 2 << 20;

const SECOND: Duration = Duration::from_secs(1);
const QUIET: Heartbeat = Heartbeat { interval: None, timeout: None };

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl Socket for DuplexStream {
    fn reset_when_dropped(&self) {}

    fn has_arrived(&self) -> bool {
        false
    }

    fn arrived_len(&self) -> usize {
        ARRIVED_LEN
    }
}

/// Opens the link, and serves it.
fn drive<S: Socket>(
    socket: S,
    link: Link,
    receive: impl FnMut(Frame) -> Receipt,
    cut: impl Future<Output = ()>,
) -> impl Future<Output = Ending> {
    super::drive(link.open(socket, Vec::new()), receive, cut)
}

/// A driver at work, and the other end of its socket.
struct Rig {
    outbox: Outbox,
    peer: DuplexStream,
    heard: mpsc::UnboundedReceiver<Frame>,
    cut: oneshot::Sender<()>,
    task: JoinHandle<Ending>,
    began: Instant,
}

/// What is to be driven.
struct Plan {
    role: Role,
    heartbeat: Heartbeat,
    limits: Limits,
    inbound: Arc<dyn Backlog>,
    events: Arc<dyn Backlog>,
    early_bytes: Bytes,
    scheduler: Option<Arc<WriteScheduler>>,
    /// How many bytes the socket takes that the peer has not read.
    socket_len: usize,
}

impl Plan {
    /// With a scheduler on the side of the server, as it has one.
    fn new(role: Role) -> Self {
        Self {
            scheduler: (role == Role::Server).then(Arc::default),
            role,
            heartbeat: QUIET,
            limits: Limits::server(),
            inbound: SerializedSubject::<()>::new().backlog(),
            events: SerializedSubject::<()>::new().backlog(),
            early_bytes: Bytes::new(),
            socket_len: 1 << 20,
        }
    }

    fn link(&self, outbox: &Outbox) -> Link {
        Link {
            role: self.role,
            peer: Box::new("the peer"),
            outbox: outbox.clone(),
            scheduler: self.scheduler.clone(),
            heartbeat: self.heartbeat,
            limits: self.limits.clone(),
            inbound: self.inbound.clone(),
            events: self.events.clone(),
            early_bytes: self.early_bytes.clone(),
        }
    }

    fn start(self) -> Rig {
        self.start_on(|socket| socket)
    }

    /// On what `make` makes of the socket.
    fn start_on<S: Socket>(self, make: impl FnOnce(DuplexStream) -> S) -> Rig {
        let (socket, peer) = duplex(self.socket_len);
        let socket = make(socket);
        let outbox = outbox();
        let (say, heard) = mpsc::unbounded_channel();
        let (cut, is_cut) = oneshot::channel::<()>();
        let cut_off = async {
            if is_cut.await.is_err() {
                std::future::pending().await
            }
        };
        let link = self.link(&outbox);
        if let Some(scheduler) = self.scheduler {
            tokio::spawn(async move { scheduler.run().await });
        }
        let task = tokio::spawn(async move { drive(socket, link, |frame| receipt(say.send(frame)), cut_off).await });
        Rig { outbox, peer, heard, cut, task, began: Instant::now() }
    }
}

impl Rig {
    /// How the connection ended, and when, in whole seconds since the beginning.
    async fn ending(self) -> (Ending, u64) {
        let ending = self.task.await.unwrap();
        (ending, self.began.elapsed().as_secs())
    }

    /// Tells after a while whether it is still open.
    async fn is_open_after(&self, time: Duration) -> bool {
        sleep(time).await;
        !self.task.is_finished()
    }
}

fn receipt<T>(_: T) -> Receipt {
    Receipt::Taken
}

fn outbox() -> Outbox {
    Outbox::new(OutboxBound { messages: 1 << 20, len: 1 << 30, overflow: Overflow::DropLatest }, |_| {})
}

fn text(text: &str) -> Frame {
    Frame::Text(WsText::from(text))
}

fn binary(len: usize) -> Frame {
    Frame::Binary(vec![7; len].into())
}

/// A final frame as it is on the wire, masked with a key of the simplest kind if it is a client's.
fn wire(from: Role, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let masked = if from == Role::Client { 0x80 } else { 0 };
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        len @ ..126 => bytes.push(masked | len as u8),
        len @ ..65_536 => {
            bytes.push(masked | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(masked | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    if from == Role::Client {
        bytes.extend([0; 4]);
    }
    bytes.extend(payload);
    bytes
}

fn close_frame(from: Role, code: u16) -> Vec<u8> {
    wire(from, CLOSE, &code.to_be_bytes())
}

fn other(role: Role) -> Role {
    if role == Role::Server { Role::Client } else { Role::Server }
}

/// Reads one short frame that a server sent.
async fn read_frame(peer: &mut DuplexStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    peer.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; head[1].into()];
    peer.read_exact(&mut payload).await.unwrap();
    (head[0] & 0x0f, payload)
}

async fn websocket(peer: DuplexStream, role: Role) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(peer, role, None).await
}

fn heartbeat(interval: u64, timeout: u64) -> Heartbeat {
    Heartbeat { interval: Some(Duration::from_secs(interval)), timeout: Some(Duration::from_secs(timeout)) }
}

#[tokio::test(start_paused = true)]
async fn peer_that_is_silent_for_interval_and_timeout_is_gone() {
    let rig = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) }.start();
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert_eq!((ending.code, after), (1006, 50));
}

#[tokio::test(start_paused = true)]
async fn every_byte_is_life_also_one_that_completes_nothing() {
    let mut rig = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) }.start();
    for byte in wire(Role::Client, BINARY, &[0; 20]) {
        sleep(40 * SECOND).await;
        rig.peer.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(rig.heard.recv().await.map(|frame| frame.len()), Some(20));
    let before = rig.began.elapsed().as_secs();
    assert_eq!(rig.ending().await.1, before + 50);
}

#[tokio::test(start_paused = true)]
async fn peer_that_answers_pings_stays() {
    let rig = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Client) }.start();
    let Rig { peer, task, .. } = rig;
    let mut peer = websocket(peer, Role::Server).await;
    assert!(timeout(3600 * SECOND, async { while peer.next().await.is_some() {} }).await.is_err());
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn clock_is_watched_also_by_a_task_that_has_used_up_its_turn() {
    let (socket, _peer) = duplex(1 << 20);
    let link = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) }.link(&outbox());
    let mut first = true;
    // Polled before the driver, it leaves nothing of the share of work that tokio gives a task at a time.
    let busy = poll_fn(move |cx| {
        let is_first = take(&mut first);
        while is_first && pin!(coop::consume_budget()).poll(cx).is_ready() {}
        Poll::<()>::Pending
    });
    let driving = drive(socket, link, receipt, busy);
    let ending = timeout(100 * SECOND, tokio::spawn(driving)).await.expect("the driver never looked at the clock");
    assert!(matches!(ending.unwrap().error, Some(WsError::PeerGone { .. })));
}

#[tokio::test]
async fn socket_that_is_ready_is_written_to_by_a_task_that_always_uses_up_its_turn() {
    let (socket, mut peer) = duplex(1 << 20);
    let outbox = outbox();
    let busy = poll_fn(|cx| {
        while pin!(coop::consume_budget()).poll(cx).is_ready() {}
        Poll::<()>::Pending
    });
    let _driving = tokio::spawn(drive(socket, Plan::new(Role::Client).link(&outbox), receipt, busy));
    outbox.push(binary(10)).unwrap();
    let mut frame = [0; 16];
    timeout(30 * SECOND, peer.read_exact(&mut frame)).await.expect("nothing was written").unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_heartbeat_nothing_is_sent_and_silence_is_borne() {
    let mut rig = Plan::new(Role::Server).start();
    assert!(rig.is_open_after(100_000 * SECOND).await);
    assert!(timeout(SECOND, rig.peer.read_u8()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn longest_times_there_are_are_no_limits() {
    let limits = Limits::server().write_stalled(Duration::MAX).close_timeout(Duration::MAX);
    let forever = Heartbeat { interval: Some(Duration::MAX), timeout: Some(Duration::MAX) };
    let rig = Plan { heartbeat: forever, limits, socket_len: 16, ..Plan::new(Role::Server) }.start();
    rig.outbox.push(binary(100)).unwrap();
    rig.outbox.close(1000, "", Duration::MAX);
    assert!(rig.is_open_after(100_000 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn while_reading_is_paused_the_write_stall_decides_and_not_the_heartbeat() {
    let limits = Limits::server().write_buffer_len(1000).write_stalled(90 * SECOND);
    let mut rig = Plan { heartbeat: heartbeat(10, 10), limits, socket_len: 64, ..Plan::new(Role::Server) }.start();
    let flood = async {
        loop {
            rig.peer.write_all(&wire(Role::Client, PING, b"?")).await.unwrap();
        }
    };
    assert!(timeout(80 * SECOND, flood).await.is_err());
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
    assert_eq!(after, 90);
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_nothing_is_dropped_and_the_message_is_kept_whole() {
    let rig = Plan { socket_len: 64, ..Plan::new(Role::Server) }.start();
    let outbox = rig.outbox.clone();
    outbox.push(binary(10)).unwrap();
    outbox.push(binary(1000)).unwrap();
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
    assert_eq!((ending.unconfirmed, after), (1, 30));
    assert_eq!((outbox.stats().written.len, outbox.stats().queued.len), (10, 1000));
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_a_byte_now_and_then_is_not_stalled() {
    let mut rig = Plan { socket_len: 64, ..Plan::new(Role::Server) }.start();
    rig.outbox.push(binary(1000)).unwrap();
    for _ in 0..100 {
        sleep(29 * SECOND).await;
        rig.peer.read_u8().await.unwrap();
    }
    assert!(!rig.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn pings_are_not_piled_up_for_a_peer_that_takes_nothing() {
    let limits = Limits::server().write_stalled(Duration::MAX);
    let often = Heartbeat { interval: Some(SECOND), timeout: None };
    let mut rig = Plan { heartbeat: often, limits, socket_len: 64, ..Plan::new(Role::Server) }.start();
    rig.outbox.push(binary(1000)).unwrap();
    assert!(rig.is_open_after(10_000 * SECOND).await);
    let mut sent = Vec::new();
    let _ = timeout(SECOND / 2, rig.peer.read_to_end(&mut sent)).await;
    assert!(sent.len() < 1100, "{} bytes", sent.len());
}

#[tokio::test(start_paused = true)]
async fn closing_sends_what_is_queued_first_and_is_clean_once_the_peer_answers() {
    for role in [Role::Server, Role::Client] {
        let rig = Plan::new(role).start();
        let Rig { peer, outbox, task, .. } = rig;
        outbox.push(text("last")).unwrap();
        outbox.close(1001, "bye", 5 * SECOND);
        let mut peer = websocket(peer, other(role)).await;
        assert_eq!(peer.next().await.unwrap().unwrap(), Message::text("last"));
        assert!(matches!(peer.next().await, Some(Ok(Message::Close(Some(frame)))) if frame.reason == "bye"));
        assert!(peer.next().await.is_none());
        drop(peer);
        let ending = task.await.unwrap();
        assert!(ending.error.is_none() && ending.code == 1001, "{ending:?}");
        assert_eq!((outbox.stats().written.messages, outbox.is_empty()), (1, true));
    }
}

#[tokio::test(start_paused = true)]
async fn close_frame_of_the_peer_is_answered_and_the_server_hangs_up_first() {
    let mut rig = Plan::new(Role::Server).start();
    rig.peer.write_all(&wire(Role::Client, CLOSE, b"\x0f\xa0enough")).await.unwrap();
    assert_eq!(read_frame(&mut rig.peer).await, (CLOSE, b"\x0f\xa0enough".to_vec()));
    assert_eq!(rig.peer.read(&mut [0]).await.unwrap(), 0);
    let (ending, after) = rig.ending().await;
    assert!(ending.error.is_none(), "{ending:?}");
    assert_eq!((ending.code, &*ending.reason, after), (4000, "enough", 0));
}

#[tokio::test(start_paused = true)]
async fn client_leaves_hanging_up_to_the_server_but_waits_no_longer_than_a_second() {
    for hangs_up in [true, false] {
        let mut rig = Plan::new(Role::Client).start();
        rig.peer.write_all(&close_frame(Role::Server, 1000)).await.unwrap();
        // The answer: head, key, code. After it the client waits and does not hang up itself.
        rig.peer.read_exact(&mut [0; 8]).await.unwrap();
        assert!(timeout(SECOND / 2, rig.peer.read_u8()).await.is_err());
        if hangs_up {
            rig.peer.shutdown().await.unwrap();
        }
        let began = rig.began;
        let ending = rig.task.await.unwrap();
        assert!(ending.error.is_none() && ending.code == 1000, "{ending:?}");
        assert_eq!(began.elapsed(), if hangs_up { SECOND / 2 } else { SECOND });
    }
}

#[tokio::test(start_paused = true)]
async fn close_frames_that_cross_make_one_closing_handshake() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan::new(role).start();
        rig.outbox.close(1001, "", 5 * SECOND);
        rig.peer.write_all(&close_frame(other(role), 4001)).await.unwrap();
        let len = if role == Role::Server { 4 } else { 8 };
        rig.peer.read_exact(&mut vec![0; len]).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        let mut rest = Vec::new();
        rig.peer.read_to_end(&mut rest).await.unwrap();
        let (ending, after) = rig.ending().await;
        assert!(ending.error.is_none() && ending.code == 4001, "{ending:?}");
        assert_eq!((rest.len(), after), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_close_frame_is_ignored() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan::new(role).start();
        let mut bytes = close_frame(other(role), 1000);
        bytes.extend(wire(other(role), TEXT, b"late"));
        bytes.extend([0xff; 100]);
        rig.peer.write_all(&bytes).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        assert_eq!(rig.heard.recv().await, None);
        let (ending, after) = rig.ending().await;
        assert!(ending.error.is_none() && ending.code == 1000, "{ending:?}");
        assert_eq!(after, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn closing_is_given_up_at_its_deadline() {
    // A peer that reads nothing, and one that reads everything and answers nothing.
    for socket_len in [64, 1 << 20] {
        let rig = Plan { socket_len, ..Plan::new(Role::Server) }.start();
        rig.outbox.push(binary(1000)).unwrap();
        rig.outbox.close(1013, "", 5 * SECOND);
        let (ending, after) = rig.ending().await;
        assert!(matches!(ending.error, Some(WsError::ClosingTimedOut { .. })), "{ending:?}");
        assert_eq!((ending.code, after), (1006, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_is_given_up_at_its_deadline_whatever_the_peer_sends_meanwhile() {
    let mut rig = Plan::new(Role::Server).start();
    rig.outbox.close(1000, "", 5 * SECOND);
    sleep(4 * SECOND + SECOND / 2).await;
    rig.peer.write_all(&wire(Role::Server, TEXT, b"not masked")).await.unwrap();
    assert_eq!(rig.ending().await.1, 5);
}

#[tokio::test(start_paused = true)]
async fn messages_are_still_heard_while_the_answer_to_a_close_frame_is_awaited() {
    let mut rig = Plan::new(Role::Server).start();
    rig.outbox.close(1000, "", 5 * SECOND);
    assert_eq!(read_frame(&mut rig.peer).await.0, CLOSE);
    rig.peer.write_all(&wire(Role::Client, TEXT, b"on its way")).await.unwrap();
    assert_eq!(rig.heard.recv().await, Some(text("on its way")));
    rig.peer.write_all(&close_frame(Role::Client, 1000)).await.unwrap();
    assert!(rig.ending().await.0.error.is_none());
}

#[tokio::test(start_paused = true)]
async fn peer_that_hangs_up_without_a_close_frame_is_an_abnormal_closure() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan::new(role).start();
        rig.peer.shutdown().await.unwrap();
        let (ending, after) = rig.ending().await;
        assert!(matches!(ending.error, Some(WsError::AbnormalClosure { .. })), "{ending:?}");
        assert_eq!((ending.code, after), (1006, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn mistakes_of_a_peer_are_answered_with_the_code_that_names_them() {
    let too_long = wire(Role::Client, BINARY, &[0; 201]);
    let fragments = [[0x02, 0x80 | 101].as_slice(), &[0; 105], &[0x00, 0x80 | 101], &[0; 105]].concat();
    for (code, bytes) in [
        (1002, wire(Role::Server, TEXT, b"not masked")),
        (1002, wire(Role::Client, 3, b"no such opcode")),
        (1002, wire(Role::Client, 0, b"continues nothing")),
        (1002, wire(Role::Client, CLOSE, b"1")),
        (1002, [&[PING][..], &wire(Role::Client, PING, b"a fragment")[1..]].concat()),
        (1002, wire(Role::Client, PING, &[0; 126])),
        (1002, [&[0xc1][..], &wire(Role::Client, TEXT, b"reserved bit")[1..]].concat()),
        (1007, wire(Role::Client, TEXT, b"\xff")),
        (1007, wire(Role::Client, CLOSE, b"\x03\xe8\xff")),
        (1009, too_long),
        (1009, fragments),
    ] {
        let mut rig = Plan { limits: Limits::server().message_len(200), ..Plan::new(Role::Server) }.start();
        rig.peer.write_all(&bytes).await.unwrap();
        let (opcode, payload) = read_frame(&mut rig.peer).await;
        assert_eq!((opcode, &payload[..2]), (CLOSE, &u16::to_be_bytes(code)[..]), "{bytes:?}");
        // It says no more, hears no more, and leaves when the peer does.
        assert_eq!(rig.peer.read(&mut [0]).await.unwrap(), 0);
        rig.peer.write_all(&wire(Role::Client, TEXT, b"late")).await.unwrap();
        drop(rig.peer);
        let ending = rig.task.await.unwrap();
        assert!(matches!(ending.error, Some(WsError::Protocol { .. })), "{ending:?}");
        assert_eq!((ending.code, rig.heard.recv().await, rig.began.elapsed()), (code, None, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_made_a_mistake_and_stays_is_dropped_after_a_second() {
    // One that reads the reason, one that does not, and one that goes on sending.
    for (socket_len, sends) in [(1 << 20, false), (2, false), (1 << 20, true)] {
        let mut rig = Plan { socket_len, ..Plan::new(Role::Server) }.start();
        rig.peer.write_all(&wire(Role::Server, TEXT, b"")).await.unwrap();
        if sends {
            while rig.peer.write_all(&[0; 1 << 16]).await.is_ok() {
                sleep(SECOND / 10).await;
            }
        }
        let (ending, after) = rig.ending().await;
        assert!(matches!(ending.error, Some(WsError::Protocol { .. })), "{ending:?}");
        assert_eq!((ending.code, after), (1002, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn pings_of_a_peer_that_reads_no_pongs_take_bounded_memory_and_the_connection_recovers() {
    const LIMIT: usize = 100_000;
    let limits = Limits::server().write_buffer_len(LIMIT);
    let mut rig = Plan { limits, socket_len: 4096, ..Plan::new(Role::Server) }.start();
    let ping = wire(Role::Client, PING, &[b'p'; 125]);
    let mut taken = 0;
    while timeout(SECOND, rig.peer.write_all(&ping)).await.is_ok() {
        taken += 1;
        assert!(taken * 127 < LIMIT + 2 * READ_BUFFER_LEN + 2 * 4096, "{taken} pings were taken");
    }
    // The last one was written in part: from here on the bytes of this peer mean nothing, but all is taken and answered.
    let (mut read, mut write) = tokio::io::split(rig.peer);
    let pongs = tokio::spawn(async move {
        for _ in 0..taken {
            let mut pong = [0; 127];
            read.read_exact(&mut pong).await.unwrap();
            assert_eq!((pong[0] & 0x0f, pong[126]), (PONG, b'p'));
        }
    });
    pongs.await.unwrap();
    timeout(SECOND, write.write_all(&[b'p'; 131])).await.expect("reading has resumed").unwrap();
}

#[tokio::test(start_paused = true)]
async fn reading_that_paused_while_it_answered_goes_on_without_a_wake_up() {
    let limits = Limits::server().write_buffer_len(1);
    let mut rig = Plan { limits, ..Plan::new(Role::Server) }.start();
    let mut bytes = wire(Role::Client, PING, b"?").repeat(2 * READ_BUFFER_LEN / 7);
    bytes.extend(wire(Role::Client, TEXT, b"heard"));
    rig.peer.write_all(&bytes).await.unwrap();
    assert_eq!(rig.heard.recv().await, Some(text("heard")));
    assert_eq!(rig.began.elapsed(), Duration::ZERO);
}

/// A socket that takes a given number of bytes, and then none any more: what has come can still be read.
struct Mute {
    stream: DuplexStream,
    left: usize,
    /// What it says then; nothing if it only has no room.
    error: Option<io::ErrorKind>,
    has_arrived: Arc<AtomicBool>,
}

fn unbroken(stream: DuplexStream) -> Mute {
    Mute { stream, left: usize::MAX, error: None, has_arrived: Arc::default() }
}

fn broken_after(left: usize) -> impl FnOnce(DuplexStream) -> Mute {
    move |stream| Mute { left, error: Some(io::ErrorKind::BrokenPipe), ..unbroken(stream) }
}

fn full(stream: DuplexStream) -> Mute {
    Mute { left: 0, ..unbroken(stream) }
}

impl Socket for Mute {
    fn reset_when_dropped(&self) {}

    fn has_arrived(&self) -> bool {
        self.has_arrived.load(Ordering::Relaxed)
    }

    fn arrived_len(&self) -> usize {
        self.stream.arrived_len()
    }
}

impl AsyncRead for Mute {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for Mute {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return self.error.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())));
        }
        let count = bytes.len().min(self.left);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..count]))?;
        self.left -= written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How many messages come, each of them short: more than a turn dispatches, and than a read buffer has room for.
const BURST: usize = 40_000;

fn burst(from: Role) -> Vec<u8> {
    wire(from, TEXT, b"four").repeat(BURST)
}

impl Rig {
    /// How many messages were heard until the end, and what that was.
    async fn heard_until_the_end(mut self) -> (usize, Ending) {
        let mut count = 0;
        while self.heard.recv().await.is_some() {
            count += 1;
        }
        (count, self.task.await.unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_heard_when_a_write_fails_and_then_why() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan::new(role).start_on(broken_after(20));
        rig.outbox.push(binary(1)).unwrap();
        rig.outbox.push(binary(100)).unwrap();
        rig.peer.write_all(&burst(other(role))).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        let outbox = rig.outbox.clone();
        let (count, ending) = rig.heard_until_the_end().await;
        assert_eq!((count, ending.code, ending.unconfirmed), (BURST, 1006, 1));
        assert!(matches!(ending.error, Some(WsError::Transport { .. })), "{ending:?}");
        assert_eq!((outbox.stats().written.messages, outbox.stats().queued.messages), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn close_code_that_has_arrived_is_told_when_a_write_fails() {
    for role in [Role::Server, Role::Client] {
        for closes in [true, false] {
            let mut rig = Plan::new(role).start_on(broken_after(0));
            rig.outbox.push(text("an answer")).unwrap();
            if closes {
                rig.outbox.close(1001, "", 5 * SECOND);
            }
            rig.peer.write_all(&[burst(other(role)), close_frame(other(role), 4000)].concat()).await.unwrap();
            let (count, ending) = rig.heard_until_the_end().await;
            assert!(ending.error.is_none(), "{ending:?}");
            assert_eq!((count, ending.code), (BURST, 4000));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pong_that_has_arrived_confirms_when_a_write_fails() {
    let mut rig = Plan::new(Role::Server).start_on(broken_after(10));
    (0..3).for_each(|_| rig.outbox.push(binary(3)).unwrap());
    // Two are written; that the first one has come is known.
    rig.peer.write_all(&[burst(Role::Client), wire(Role::Client, PONG, &1u64.to_be_bytes())].concat()).await.unwrap();
    let (count, ending) = rig.heard_until_the_end().await;
    assert_eq!((count, ending.unconfirmed), (BURST, 1));
}

#[tokio::test(start_paused = true)]
async fn peer_that_goes_on_when_nothing_can_be_written_to_it_is_not_heard_for_ever() {
    let mut rig = Plan::new(Role::Server).start_on(broken_after(0));
    rig.outbox.push(binary(1)).unwrap();
    let mut sent = 0;
    while rig.peer.write_all(&burst(Role::Client)).await.is_ok() {
        sent += BURST;
    }
    let (count, ending) = rig.heard_until_the_end().await;
    assert!(matches!(ending.error, Some(WsError::Transport { .. })), "{ending:?}");
    assert!((BURST..=sent + BURST).contains(&count) && sent * 10 < 2 * ARRIVED_LEN, "{sent} sent, {count} heard");
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_heard_before_another_connection_takes_the_place_of_this_one() {
    let mut rig = Plan::new(Role::Client).start();
    assert!(rig.is_open_after(SECOND).await);
    let (cut, _) = oneshot::channel();
    rig.peer.write_all(&[burst(Role::Server), close_frame(Role::Server, 4000)].concat()).await.unwrap();
    std::mem::replace(&mut rig.cut, cut).send(()).unwrap();
    let began = rig.began;
    let (count, ending) = rig.heard_until_the_end().await;
    assert!(matches!(ending.error, Some(WsError::Cut(_))), "{ending:?}");
    assert_eq!((count, began.elapsed()), (BURST, SECOND));
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_heard_when_the_time_for_closing_is_over_but_for_no_more_than_a_second() {
    for (held_for, is_heard) in [(5 * SECOND + SECOND / 2, true), (10 * SECOND, false)] {
        let subscribers = Arc::new(Subscribers::default());
        let mut rig = Plan { inbound: subscribers.clone(), ..Plan::new(Role::Server) }.start();
        rig.outbox.close(1001, "", 5 * SECOND);
        rig.peer.write_all(&[burst(Role::Client), close_frame(Role::Client, 4000)].concat()).await.unwrap();
        sleep(held_for).await;
        subscribers.catch_up();
        let began = rig.began;
        let (count, ending) = rig.heard_until_the_end().await;
        let expected = if is_heard { (BURST, 4000) } else { (0, 1006) };
        assert_eq!((count, ending.code), expected, "{ending:?}");
        assert_eq!((ending.error.is_none(), began.elapsed()), (is_heard, held_for));
    }
}

#[tokio::test(start_paused = true)]
async fn what_lies_behind_pings_is_heard_when_their_answers_are_not_taken() {
    let limits = Limits::server().write_buffer_len(100);
    let mut rig = Plan { limits, ..Plan::new(Role::Server) }.start_on(full);
    let pings = wire(Role::Client, PING, &[0; 100]).repeat(1000);
    rig.peer.write_all(&[pings, burst(Role::Client)].concat()).await.unwrap();
    let began = rig.began;
    let (count, ending) = rig.heard_until_the_end().await;
    assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
    assert_eq!((count, began.elapsed()), (BURST, 30 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn close_frame_of_a_peer_that_has_shut_its_side_down_is_answered() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan { socket_len: 9, ..Plan::new(role) }.start();
        // In its way there is a message, of which the socket takes a part at a time.
        rig.outbox.push(binary(50)).unwrap();
        assert!(rig.is_open_after(SECOND).await);
        rig.peer.write_all(&close_frame(other(role), 4000)).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        rig.peer.read_to_end(&mut bytes).await.unwrap();
        let mut frames = FrameSocket::new(io::Cursor::new(bytes));
        let read = [0; 2].map(|_| frames.read(None).unwrap().unwrap().header().opcode.to_string());
        assert_eq!(read, ["BINARY", "CLOSE"]);
        let ending = rig.task.await.unwrap();
        assert!(ending.error.is_none(), "{ending:?}");
        assert_eq!((ending.code, rig.began.elapsed()), (4000, SECOND));
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_has_shut_its_side_down_is_told_its_mistake() {
    let mut rig = Plan::new(Role::Server).start();
    rig.peer.write_all(&wire(Role::Server, TEXT, b"not masked")).await.unwrap();
    rig.peer.shutdown().await.unwrap();
    let (opcode, payload) = read_frame(&mut rig.peer).await;
    assert_eq!((opcode, &payload[..2]), (CLOSE, &1002u16.to_be_bytes()[..]));
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::Protocol { .. })), "{ending:?}");
    assert_eq!(after, 0);
}

#[tokio::test(start_paused = true)]
async fn peer_that_has_shut_its_side_down_and_takes_nothing_is_waited_for_no_longer_than_a_second() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan { socket_len: 8, ..Plan::new(role) }.start();
        rig.outbox.push(binary(50)).unwrap();
        assert!(rig.is_open_after(SECOND).await);
        rig.peer.write_all(&close_frame(other(role), 4000)).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        let began = rig.began;
        let ending = rig.task.await.unwrap();
        assert_eq!((ending.code, began.elapsed()), (4000, 2 * SECOND), "{ending:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_is_well_is_not_gone_after_a_time_in_which_this_side_stood_still() {
    let Rig { peer, task, .. } = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Client) }.start();
    let mut peer = websocket(peer, Role::Server).await;
    for _ in 0..10 {
        assert!(timeout(100 * SECOND, async { while peer.next().await.is_some() {} }).await.is_err());
        advance(1000 * SECOND).await;
    }
    assert!(timeout(3600 * SECOND, async { while peer.next().await.is_some() {} }).await.is_err());
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn silent_peer_has_its_timeout_after_a_time_in_which_this_side_stood_still_and_no_more() {
    for stands_still_after in [1, 2, 30, 49] {
        let rig = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) }.start();
        assert!(rig.is_open_after(stands_still_after * SECOND).await);
        advance(1000 * SECOND).await;
        let back = Instant::now();
        let ending = rig.task.await.unwrap();
        assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
        assert_eq!(back.elapsed(), 20 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn peer_whose_messages_take_long_to_be_handled_is_alive() {
    let heard = Arc::new(AtomicUsize::new(0));
    let (socket, mut peer) = duplex(1 << 20);
    let link = Plan { heartbeat: heartbeat(3, 2), ..Plan::new(Role::Server) }.link(&outbox());
    let count = heard.clone();
    let block = move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        receipt(pin!(advance(SECOND / 10)).poll(&mut Context::from_waker(Waker::noop())))
    };
    peer.write_all(&wire(Role::Client, TEXT, b"x").repeat(1000)).await.unwrap();
    let ending = tokio::spawn(drive(socket, link, block, std::future::pending())).await.unwrap();
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert_eq!(heard.load(Ordering::Relaxed), 1000);
}

#[tokio::test(start_paused = true)]
async fn peer_of_which_the_reactor_has_not_told_yet_is_not_gone() {
    let plan = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) };
    let has_arrived = Arc::new(AtomicBool::new(true));
    let arrived = has_arrived.clone();
    let rig = plan.start_on(|stream| Mute { has_arrived: arrived, ..unbroken(stream) });
    assert!(rig.is_open_after(1000 * SECOND).await);
    has_arrived.store(false, Ordering::Relaxed);
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert!((1000..=1050).contains(&after), "{after}");
}

#[tokio::test(start_paused = true)]
async fn peer_that_could_not_be_pinged_is_not_gone() {
    let limits = Limits::server().write_stalled(1000 * SECOND);
    let rig = Plan { heartbeat: heartbeat(3, 2), limits, ..Plan::new(Role::Server) }.start_on(full);
    rig.outbox.push(binary(1000)).unwrap();
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
    assert_eq!(after, 1000);
}

#[tokio::test(start_paused = true)]
async fn ping_counts_from_when_the_system_has_taken_it() {
    let mut rig = Plan { heartbeat: heartbeat(30, 20), socket_len: 1, ..Plan::new(Role::Server) }.start();
    // A ping has ten bytes, of which one has room in the socket, and the peer takes one every ten seconds.
    for _ in 0..8 {
        rig.peer.read_u8().await.unwrap();
        sleep(10 * SECOND).await;
    }
    rig.peer.read_u8().await.unwrap();
    let asked = Instant::now();
    let ending = rig.task.await.unwrap();
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert_eq!(asked.elapsed().as_secs(), 20);
}

/// Subscribers that keep up, or do not.
#[derive(Default)]
struct Subscribers {
    keep_up: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Subscribers {
    fn catch_up(&self) {
        self.keep_up.store(true, Ordering::Relaxed);
        self.waiting.lock().unwrap().take().into_iter().for_each(Waker::wake);
    }
}

impl Backlog for Subscribers {
    fn poll_at_most(&self, _: usize, cx: &Context<'_>) -> Poll<()> {
        if self.keep_up.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        *self.waiting.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_subscribers_do_not_keep_up_and_that_is_not_the_peers_silence() {
    let subscribers = Arc::new(Subscribers::default());
    let plan = Plan { heartbeat: heartbeat(10, 10), inbound: subscribers.clone(), ..Plan::new(Role::Server) };
    let mut rig = plan.start();
    rig.peer.write_all(&wire(Role::Client, TEXT, b"waits")).await.unwrap();
    assert!(rig.is_open_after(1000 * SECOND).await);
    assert!(rig.heard.try_recv().is_err());
    subscribers.catch_up();
    assert_eq!(rig.heard.recv().await, Some(text("waits")));
    assert_eq!(rig.ending().await.1, 1020);
}

#[tokio::test(start_paused = true)]
async fn messages_survive_segments_of_one_byte_and_fragments_with_pings_between() {
    let mut rig = Plan { socket_len: 1, ..Plan::new(Role::Server) }.start();
    let zero = [0; 4];
    let first = [&[0x01, 0x80 | 2], &zero[..], "gr".as_bytes()].concat();
    // Cut in the middle of a character.
    let second = [&[0x00, 0x80 | 1], &zero[..], &"ö".as_bytes()[..1]].concat();
    let third = [&[0x80, 0x80 | 3], &zero[..], &"öße".as_bytes()[1..4]].concat();
    let last = wire(Role::Client, BINARY, &[]);
    let ping = wire(Role::Client, PING, b"ping");
    let bytes = [first, ping.clone(), second, ping, third, last].concat();
    let (mut read, mut write) = tokio::io::split(rig.peer);
    tokio::spawn(async move { write.write_all(&bytes).await.map(|()| write) });
    let mut pongs = [0; 12];
    read.read_exact(&mut pongs).await.unwrap();
    assert_eq!(&pongs, b"\x8a\x04ping\x8a\x04ping");
    assert_eq!(rig.heard.recv().await, Some(text("größ")));
    assert_eq!(rig.heard.recv().await, Some(binary(0)));
}

#[tokio::test(start_paused = true)]
async fn what_came_with_the_handshake_is_heard_first() {
    let early = [wire(Role::Client, TEXT, b"early"), wire(Role::Client, TEXT, b"torn")[..8].to_vec()].concat();
    let mut rig = Plan { early_bytes: early.into(), ..Plan::new(Role::Server) }.start();
    assert_eq!(rig.heard.recv().await, Some(text("early")));
    rig.peer.write_all(b"rn").await.unwrap();
    assert_eq!(rig.heard.recv().await, Some(text("torn")));
    assert_eq!(rig.began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn close_frame_that_came_with_the_handshake_is_answered() {
    let early_bytes = close_frame(Role::Client, 1000).into();
    let mut rig = Plan { early_bytes, ..Plan::new(Role::Server) }.start();
    assert_eq!(read_frame(&mut rig.peer).await, (CLOSE, vec![3, 232]));
    assert!(rig.ending().await.0.error.is_none());
}

#[tokio::test(start_paused = true)]
async fn messages_of_no_length_are_sent_and_counted() {
    let mut rig = Plan::new(Role::Server).start();
    for frame in [text(""), binary(0), text("")] {
        rig.outbox.push(frame).unwrap();
    }
    for opcode in [TEXT, BINARY, TEXT] {
        assert_eq!(read_frame(&mut rig.peer).await, (opcode, vec![]));
    }
    assert_eq!(rig.outbox.stats().written.messages, 3);
}

#[tokio::test(start_paused = true)]
async fn driver_that_sleeps_is_woken_by_a_push_and_by_a_close() {
    let mut rig = Plan::new(Role::Server).start();
    for n in 0..100 {
        assert!(rig.is_open_after(SECOND).await);
        rig.outbox.push(text(&n.to_string())).unwrap();
        assert_eq!(read_frame(&mut rig.peer).await, (TEXT, n.to_string().into_bytes()));
    }
    sleep(SECOND).await;
    rig.outbox.close(1000, "", 5 * SECOND);
    assert_eq!(read_frame(&mut rig.peer).await.0, CLOSE);
    assert_eq!(rig.began.elapsed(), 101 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn unconfirmed_counts_what_was_written_since_the_last_ping_that_was_answered() {
    let often = Heartbeat { interval: Some(10 * SECOND), timeout: None };
    let rig = Plan { heartbeat: often, ..Plan::new(Role::Client) }.start();
    let Rig { peer, outbox, cut, task, .. } = rig;
    let mut peer = websocket(peer, Role::Server).await;
    for _ in 0..3 {
        outbox.push(text("confirmed")).unwrap();
    }
    // Answers the pings of these 25 seconds.
    assert!(timeout(25 * SECOND, async { while peer.next().await.is_some() {} }).await.is_err());
    peer.send(Message::Pong(Bytes::copy_from_slice(&u64::MAX.to_be_bytes()))).await.unwrap();
    for _ in 0..2 {
        outbox.push(text("not confirmed")).unwrap();
    }
    sleep(SECOND / 10).await;
    cut.send(()).unwrap();
    let ending = task.await.unwrap();
    assert!(matches!(ending.error, Some(WsError::Cut(_))), "{ending:?}");
    assert_eq!(ending.unconfirmed, 2);
}

#[tokio::test(start_paused = true)]
async fn cancelled_driver_leaves_the_rest_to_the_next_one() {
    let rig = Plan { socket_len: 64, ..Plan::new(Role::Server) }.start();
    rig.outbox.push(binary(10)).unwrap();
    rig.outbox.push(binary(1000)).unwrap();
    assert!(rig.is_open_after(SECOND).await);
    rig.task.abort();
    assert!(rig.task.await.unwrap_err().is_cancelled());
    let mut batch = Vec::new();
    rig.outbox.take(&Context::from_waker(Waker::noop()), 1 << 20, &mut batch);
    assert_eq!(batch, [binary(1000)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_while_the_driver_sleeps_is_written_without_waking_it() {
    let (socket, mut peer) = duplex(1 << 20);
    let (outbox, polls) = (outbox(), Arc::new(AtomicUsize::new(0)));
    let plan = Plan::new(Role::Server);
    let (link, scheduler, counted) = (plan.link(&outbox), plan.scheduler.unwrap(), polls.clone());
    tokio::spawn(async move { scheduler.run().await });
    let mut driving = Box::pin(drive(socket, link, receipt, std::future::pending()));
    let task = tokio::spawn(poll_fn(move |cx| {
        counted.fetch_add(1, Ordering::SeqCst);
        driving.as_mut().poll(cx)
    }));
    sleep(SECOND).await;
    let before = polls.load(Ordering::SeqCst);
    for n in 1..=100 {
        outbox.push(binary(n)).unwrap();
        assert_eq!(read_frame(&mut peer).await, (BINARY, vec![7; n]));
    }
    assert_eq!((outbox.stats().written.messages, polls.load(Ordering::SeqCst)), (100, before));
    outbox.close(1000, "", SECOND);
    assert_eq!(read_frame(&mut peer).await.0, CLOSE);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn driver_writes_for_itself_once_the_scheduler_is_gone() {
    let (socket, mut peer) = duplex(1 << 20);
    let (outbox, plan) = (outbox(), Plan::new(Role::Server));
    let (link, scheduler) = (plan.link(&outbox), plan.scheduler.unwrap());
    let scheduling = tokio::spawn(async move { scheduler.run().await });
    let _driving = tokio::spawn(drive(socket, link, receipt, std::future::pending()));
    sleep(SECOND).await;
    // Due when it goes, and asked of it when it is gone.
    outbox.push(binary(1)).unwrap();
    scheduling.abort();
    assert_eq!(read_frame(&mut peer).await, (BINARY, vec![7; 1]));
    assert!(scheduling.await.unwrap_err().is_cancelled());
    outbox.push(binary(2)).unwrap();
    assert_eq!(read_frame(&mut peer).await, (BINARY, vec![7; 2]));
}

#[tokio::test(start_paused = true)]
async fn what_breaks_while_the_scheduler_writes_ends_the_connection_with_its_reason() {
    let taken = Arc::default();
    let socket = Breaking { portions: vec![usize::MAX].into_iter().cycle(), left: 12, taken };
    let (outbox, plan) = (outbox(), Plan::new(Role::Server));
    let (link, scheduler) = (plan.link(&outbox), plan.scheduler.unwrap());
    tokio::spawn(async move { scheduler.run().await });
    let driving = tokio::spawn(drive(socket, link, receipt, std::future::pending()));
    sleep(SECOND).await;
    outbox.push(binary(10)).unwrap();
    sleep(SECOND).await;
    assert!(!driving.is_finished());
    outbox.push(binary(10)).unwrap();
    let ending = timeout(SECOND, driving).await.expect("it was not told").unwrap();
    let Some(WsError::Transport { source, .. }) = ending.error else { panic!("{:?}", ending.error) };
    assert_eq!((source.kind(), ending.unconfirmed), (io::ErrorKind::BrokenPipe, 1));
    assert_eq!((outbox.stats().written.messages, outbox.stats().queued.messages), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_nothing_of_what_the_scheduler_writes_is_dropped_too() {
    let rig = Plan { socket_len: 64, ..Plan::new(Role::Server) }.start();
    sleep(SECOND).await;
    rig.outbox.push(binary(1000)).unwrap();
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
    assert_eq!(after, 31);
}

#[tokio::test(start_paused = true)]
async fn burst_that_is_passed_on_to_many_makes_no_good_reader_look_slow() {
    const LISTENERS: usize = 600;
    const BURST: usize = 3000;
    let bound = OutboxBound { messages: 1024, len: 1 << 20, overflow: Overflow::Disconnect };
    let (plan, switchboard, path) = (Plan::new(Role::Server), Switchboard::default(), Tag::from("/"));
    let scheduler = plan.scheduler.clone().unwrap();
    tokio::spawn(async move { scheduler.run().await });
    let listeners: Vec<_> = (0..LISTENERS).map(|_| (duplex(1 << 20), Outbox::new(bound, |_| {}))).collect();
    let mut peers = Vec::new();
    for ((socket, peer), outbox) in listeners {
        let _line = switchboard.connect(path.clone(), outbox.clone());
        tokio::spawn(drive(socket, plan.link(&outbox), receipt, std::future::pending()));
        peers.push((peer, outbox));
    }
    sleep(SECOND).await;
    let (socket, mut talker) = duplex(1 << 20);
    talker.write_all(&wire(Role::Client, BINARY, b"x").repeat(BURST)).await.unwrap();
    let pass_on = move |frame| receipt(switchboard.push(&path, frame));
    tokio::spawn(drive(socket, plan.link(&outbox()), pass_on, std::future::pending()));
    sleep(SECOND).await;
    for (_, outbox) in &peers {
        assert_eq!((outbox.stats().written.messages, outbox.has_overflown()), (BURST as u64, false));
    }
}

#[test]
fn no_wake_up_is_lost_between_pushes_of_several_threads_drivers_and_the_scheduler() {
    const EACH: usize = 20_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let outboxes: Vec<_> = (0..3).map(|_| outbox()).collect();
    let pushing = [1, 2].map(|_| {
        let outboxes = outboxes.clone();
        std::thread::spawn(move || {
            for number in 0..EACH {
                outboxes.iter().for_each(|outbox| outbox.push(binary(8)).unwrap());
                // Now and then, so that they find a driver that sleeps, and one that does not.
                (0..number % 64).for_each(|_| std::hint::spin_loop());
            }
        })
    });
    runtime.block_on(async {
        let plan = Plan::new(Role::Server);
        let scheduler = plan.scheduler.clone().unwrap();
        tokio::spawn(async move { scheduler.run().await });
        let mut hearing = Vec::new();
        for outbox in &outboxes {
            // The second size is one that is full again and again.
            let (socket, mut peer) = duplex(if hearing.len() == 1 { 1000 } else { 1 << 20 });
            tokio::spawn(drive(socket, plan.link(outbox), receipt, std::future::pending()));
            hearing.push(tokio::spawn(async move {
                for _ in 0..2 * EACH {
                    assert_eq!(read_frame(&mut peer).await, (BINARY, vec![7; 8]));
                }
            }));
        }
        for heard in hearing {
            timeout(30 * SECOND, heard).await.expect("somebody sleeps").unwrap();
        }
    });
    pushing.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Those who push write for themselves, the task and the scheduler beside them: whoever is last leaves nothing behind.
#[test]
fn no_wake_up_is_lost_between_those_who_push_into_full_outboxes_drivers_and_the_scheduler() {
    const ROUNDS: usize = 1_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (role, overflow) in [Role::Server, Role::Client].into_iter().zip([Overflow::DropLatest, Overflow::DropOldest]) {
        let outbox = Outbox::new(OutboxBound { messages: 2, len: 1 << 20, overflow }, |_| {});
        let (done, mut rounds) = mpsc::unbounded_channel();
        let threads = [0, 1].map(|thread| {
            let (outbox, done) = (outbox.clone(), done.clone());
            let (begin, begun) = std::sync::mpsc::channel();
            let pushing = std::thread::spawn(move || {
                for round in begun {
                    // From none to more than there is room for.
                    (0..round % 8 * 30 + thread).for_each(|_| _ = outbox.push(binary(8)));
                    done.send(()).unwrap();
                }
            });
            (begin, pushing)
        });
        runtime.block_on(async {
            let plan = Plan::new(role);
            // It is full again and again.
            let (socket, mut peer) = duplex(50);
            tokio::spawn(drive(socket, plan.link(&outbox), receipt, std::future::pending()));
            if let Some(scheduler) = plan.scheduler {
                tokio::spawn(async move { scheduler.run().await });
            }
            let reading = tokio::spawn(async move { tokio::io::copy(&mut peer, &mut tokio::io::sink()).await });
            for round in 0..ROUNDS {
                threads.iter().for_each(|(begin, _)| begin.send(round).unwrap());
                let emptied = async {
                    rounds.recv().await.unwrap();
                    rounds.recv().await.unwrap();
                    while !outbox.is_empty() {
                        tokio::task::yield_now().await;
                    }
                };
                // Well before the write-stall limit wakes whoever sleeps.
                timeout(10 * SECOND, emptied).await.expect("somebody sleeps");
            }
            reading.abort();
        });
        for (begin, pushing) in threads {
            drop(begin);
            pushing.join().unwrap();
        }
    }
}

/// A socket from which nothing comes; it takes bytes in given portions and breaks after a given number of them.
struct Breaking {
    portions: std::iter::Cycle<std::vec::IntoIter<usize>>,
    left: usize,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Socket for Breaking {
    fn reset_when_dropped(&self) {}

    fn has_arrived(&self) -> bool {
        false
    }

    fn arrived_len(&self) -> usize {
        ARRIVED_LEN
    }
}

impl AsyncRead for Breaking {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = self.portions.next().unwrap_or(1).min(self.left).min(bytes.len());
        if count == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.left -= count;
        self.taken.lock().unwrap().extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The payloads of the messages that are whole in `bytes`.
fn whole_messages(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let mut frames = FrameSocket::new(io::Cursor::new(bytes));
    let mut messages = Vec::new();
    while let Ok(Some(mut frame)) = frames.read(None) {
        let mask = frame.header_mut().mask.take().unwrap_or_default();
        let unmask = |(n, byte): (usize, &u8)| byte ^ mask[n % 4];
        if frame.header().opcode.to_string() != "CLOSE" {
            messages.push(frame.payload().iter().enumerate().map(unmask).collect());
        }
    }
    messages
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn broken_links_lose_nothing_send_nothing_twice_and_keep_the_order(
        is_client: bool,
        is_scheduled: bool,
        pushed_before in 0..12usize,
        lens in prop::collection::vec(prop_oneof![Just(0), 1..300usize, Just(66_000)], 1..12),
        portions in prop::collection::vec(prop_oneof![0..4usize, 1..400usize, 1..40_000usize], 1..10),
        cuts in prop::collection::vec(0..3_000usize, 0..6),
    ) {
        // One portion at least lets something through.
        prop_assume!(portions.iter().any(|len| *len > 0));
        let role = if is_client { Role::Client } else { Role::Server };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (outbox, scheduler) = (outbox(), Arc::new(WriteScheduler::default()));
        let message = |(n, len): (usize, &usize)| [&(n as u32).to_be_bytes()[..], &vec![n as u8; *len]].concat();
        let sent: Vec<_> = lens.iter().enumerate().map(message).collect();
        let mut unsent = sent.iter();
        unsent.by_ref().take(pushed_before).for_each(|message| outbox.push(Frame::Binary(message.clone().into())).unwrap());
        let last = cuts.len();
        let mut arrived = Vec::new();
        for (n, left) in cuts.into_iter().chain([usize::MAX]).enumerate() {
            let taken = Arc::new(Mutex::new(Vec::new()));
            let socket = Breaking { portions: portions.clone().into_iter().cycle(), left, taken: taken.clone() };
            let link = Plan { scheduler: is_scheduled.then(|| scheduler.clone()), ..Plan::new(role) }.link(&outbox);
            let pushing = async {
                for message in unsent.by_ref().take(if n == last { usize::MAX } else { 1 }) {
                    outbox.push(Frame::Binary(message.clone().into())).unwrap();
                    sleep(SECOND).await;
                }
                if n == last {
                    outbox.close(1000, "", SECOND);
                }
                std::future::pending::<()>().await
            };
            runtime.block_on(async {
                let over = sleep(60 * SECOND);
                tokio::select! {
                    _ = drive(socket, link, receipt, over) => {}
                    () = scheduler.run() => {}
                    () = pushing => {}
                }
            });
            arrived.extend(whole_messages(take(&mut taken.lock().unwrap())));
            prop_assert_eq!(outbox.stats().written.messages, arrived.len() as u64);
        }
        prop_assert_eq!(arrived, sent);
        prop_assert!(outbox.is_empty());
    }
}

/// Events whose subscribers keep up, or do not.
#[derive(Default)]
struct Told {
    is_full: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Backlog for Told {
    fn poll_at_most(&self, _: usize, cx: &Context<'_>) -> Poll<()> {
        *self.waiting.lock().unwrap() = Some(cx.waker().clone());
        if self.is_full.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[tokio::test(start_paused = true)]
async fn driver_that_causes_events_is_held_while_too_many_wait() {
    let told = Arc::new(Told::default());
    told.is_full.store(true, Ordering::Relaxed);
    let plan = Plan { events: told.clone(), ..Plan::new(Role::Server) };
    let (socket, mut peer) = duplex(1 << 16);
    let (say, mut heard) = mpsc::unbounded_channel();
    let receive = move |frame: Frame| {
        say.send(frame.len()).unwrap();
        Receipt::Undecodable
    };
    let _driving = tokio::spawn(drive(socket, plan.link(&outbox()), receive, std::future::pending()));
    for len in [1, 2] {
        peer.write_all(&wire(Role::Client, BINARY, &vec![0; len])).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    // It had caused none before the first.
    assert_eq!((heard.recv().await, heard.try_recv().is_err()), (Some(1), true));
    told.is_full.store(false, Ordering::Relaxed);
    told.waiting.lock().unwrap().take().unwrap().wake();
    assert_eq!(heard.recv().await, Some(2));
}
