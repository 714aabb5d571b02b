//! The driver against peers whose every byte a test decides, on a clock that moves only when every task waits.

use std::{
    mem::take,
    pin::{Pin, pin},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use proptest::prelude::*;
use rxrust::{Observable as _, context::Context as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::{mpsc, oneshot},
    task::{JoinHandle, coop},
    time::{Instant, advance, sleep, timeout},
};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::FrameSocket};

use self::sockets::{
    ARRIVED_LEN, Breaking, Clearing, Keeping, Mute, PANIC, PANIC_IN_FLUSH, broken_after, full, unbroken,
};
use super::{
    read_buffer::{GATHERED_LEN, READ_BUFFER_LEN},
    *,
};
use crate::{
    Io, SerializedSubject, Tag, WsText,
    endpoint::routing_table::RoutingTable,
    link::session::{News, SessionLink},
    outbox::{OutboxBound, OutboxFrame, Overflow, Runs},
    protocol::heartbeat::Mark,
    runtime::{
        callback,
        debts::{self, Debts},
    },
    stats::Tally,
};

mod closing;
#[cfg(feature = "deflate")]
mod compression;
mod draining;
mod heartbeat;
mod reading;
mod scheduling;
mod session;
mod sockets;
mod writing;

const SECOND: Duration = Duration::from_secs(1);
const QUIET: Heartbeat = Heartbeat { interval: None, timeout: None };

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Opens the link, and serves it.
fn drive<S: Socket>(
    socket: S,
    link: NewLink,
    receive: impl FnMut(Frame) -> Receipt,
    cut: impl Future<Output = ()>,
) -> impl Future<Output = Ending> {
    let driving = Box::pin(super::drive(link.open(socket, Vec::new()), receive, Box::pin(cut)));
    async move { *Debts::default().owing(driving).await }
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

/// The settings of a driver, its link and its socket.
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
    session: Option<InSession>,
}

/// The end of a link's messages.
struct Audience {
    inbound: Arc<dyn Backlog>,
    news: Option<mpsc::UnboundedSender<News>>,
}

impl Recipient for Audience {
    fn inbound(&self) -> &dyn Backlog {
        &*self.inbound
    }

    fn hear_news(&self, news: News) {
        self.news.iter().for_each(|hear| hear.send(news).unwrap_or_default());
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer")
    }
}

/// The session that a link belongs to.
struct InSession {
    window: Tally,
    tell: mpsc::UnboundedSender<News>,
}

impl InSession {
    fn begin(&self, outbox: &Outbox) -> SessionLink {
        outbox.begin_session(self.window, vec![]);
        SessionLink::new(outbox.received(), None)
    }
}

impl Plan {
    /// With a write scheduler for a server, as a server on one thread has.
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
            session: None,
        }
    }

    fn link(&self, outbox: &Outbox) -> NewLink {
        let link = Link {
            role: self.role,
            deflate: None,
            recipient: Arc::new(Audience {
                inbound: self.inbound.clone(),
                news: self.session.as_ref().map(|session| session.tell.clone()),
            }),
            outbox: outbox.clone(),
            limits: self.limits.clone().into(),
            events: self.events.clone(),
            session: self.session.as_ref().map(|session| session.begin(outbox).into()),
        };
        let Self { heartbeat, scheduler, early_bytes, .. } = self;
        NewLink { link, scheduler: scheduler.clone(), heartbeat: *heartbeat, early_bytes: early_bytes.clone() }
    }

    fn start(self) -> Rig {
        self.start_on(|socket| socket)
    }

    /// Starts the driver on the socket that `make` returns.
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

    /// Waits for `time`, and returns whether the connection is still open.
    async fn is_open_after(&self, time: Duration) -> bool {
        sleep(time).await;
        !self.task.is_finished()
    }
}

fn receipt<T>(_: T) -> Receipt {
    Receipt::Taken
}

fn outbox() -> Outbox {
    Outbox::unreported(OutboxBound::new(1 << 20, 1 << 30, Overflow::DropLatest))
}

/// With runs, as a message for many outboxes, if it is short enough.
fn push(outbox: &Outbox, runs: Option<&mut Runs>, frame: Frame) {
    let frame = OutboxFrame::from(frame);
    let pushed = match runs.and_then(|runs| runs.add(&frame, 100)) {
        Some(message) => outbox.offer_of_run(&message),
        None => outbox.offer(frame, None),
    };
    assert!(pushed.0.is_ok());
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

/// What a pong brings back to a ping behind so many messages.
fn mark(messages: u64) -> [u8; 12] {
    Mark { messages, number: 1 }.bytes()
}

fn heartbeat(interval: u64, timeout: u64) -> Heartbeat {
    Heartbeat { interval: Some(Duration::from_secs(interval)), timeout: Some(Duration::from_secs(timeout)) }
}

/// Subscribers that keep up, or do not.
#[derive(Default)]
struct Subscribers {
    keep_up: AtomicBool,
    inflated: AtomicUsize,
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

    fn inflated(&self) -> &AtomicUsize {
        &self.inflated
    }
}
