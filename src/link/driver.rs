//! Drives one socket after its opening handshake: read, dispatch, write, heartbeat, close. The same for both sides.
//!
//! tungstenite's synchronous core sees only memory: it reads from a slice of a buffer that all connections of a thread
//! share, and its answers go into memory too. So an idle connection owns next to nothing, and message ends and memory are
//! ours to count. Each poll reads what is there, dispatches it, and then writes everything that came of it at once.

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    io,
    mem::take,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::ReadBuf,
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};
use tungstenite::{
    Error, Message,
    protocol::{CloseFrame, Role, frame::coding::CloseCode},
};

use crate::{
    Frame, WsError, WsText,
    limits::Limits,
    link::{
        write_scheduler::WriteScheduler,
        writer::{Progress, SharedWriter, WriteStatus, WriterHandle},
    },
    outbox::{Closing, Outbox},
    protocol::{
        close::{close_code_of, fitting_reason},
        decoder::Decoder,
        heartbeat::{Heartbeat, Pulse},
        memory_stream::MemoryStream,
        read_block::Block,
    },
    runtime::{
        self, callback,
        debts::{self, Debts},
    },
    subject::Backlog,
    time::after,
    transport::socket::Socket,
};

/// The size of the read buffer that the connections of a thread share. Measured, with as much for a write: of 16 messages of
/// 16 KiB in flight each costs 0.74 of what it does with 64 KiB; half of that is due to the reading.
const READ_BUFFER_LEN: usize = 128 * 1024;

/// How many full read buffers one poll takes before it lets other connections have their turn.
const READS_A_POLL: usize = 4;

/// How many messages may wait for their subscribers, on a runtime of several threads, before no more are read.
pub(crate) const READ_AHEAD: usize = 1024;

/// How many messages one poll dispatches before what came of them is written, by this connection and by the others, and
/// before the reactor looks at the other sockets. That look costs 1.3 us, which with half as many was 5 % of a burst.
const MESSAGES_A_POLL: usize = 256;

/// How long a peer may take to hear why it is being dropped, and this side for what has come until then.
const LINGER: Duration = Duration::from_secs(1);

/// What a driver works with.
pub(crate) struct Link {
    pub(crate) role: Role,
    /// Whom the connection is to, as errors name it: printed only then.
    pub(crate) peer: Box<dyn fmt::Display + Send + Sync>,
    pub(crate) outbox: Outbox,
    /// Writes the messages pushed while the driver sleeps; without a scheduler the driver wakes up and does so itself.
    pub(crate) scheduler: Option<Arc<WriteScheduler>>,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) limits: Limits,
    /// Where what is received piles up if its subscribers do not keep up.
    pub(crate) inbound: Arc<dyn Backlog>,
    /// And where what is told of it does.
    pub(crate) events: Arc<dyn Backlog>,
    /// What came together with the opening handshake.
    pub(crate) early_bytes: Bytes,
}

/// What became of a message that was handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    Taken,
    /// The datatype could not decode it, and somebody else tells of that.
    Undecodable,
}

/// A link that is there: what is pushed is written from now on.
pub(crate) struct OpenLink<S: Socket> {
    writer: WriterHandle<S>,
    link: Link,
}

impl Link {
    /// Opens the link. `answer` goes out before any message: the end of a server's opening handshake.
    pub(crate) fn open<S: Socket>(mut self, socket: S, answer: Vec<u8>) -> OpenLink<S> {
        let writer = SharedWriter::open(socket, answer, self.role, self.outbox.clone(), self.scheduler.take());
        OpenLink { writer, link: self }
    }
}

impl<S: Socket> OpenLink<S> {
    /// Writes the answer that the link was opened with.
    pub(crate) async fn answered(&self) -> io::Result<()> {
        poll_fn(|cx| {
            self.writer.set_task(cx.waker().clone());
            let (progress, status) = self.writer.write(&mut Vec::new(), cx);
            match progress? {
                Progress::Blocked if status.answers_len > 0 => Poll::Pending,
                // What is left is the driver's.
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// The close code that decided it; 1006 when there was none (RFC 6455, section 7.1.5).
    pub(crate) code: u16,
    pub(crate) reason: Arc<str>,
    /// `None` after a closing handshake.
    pub(crate) error: Option<WsError>,
    /// Messages written since the last ping that a pong answered: the most that can have been lost. Counted last, when
    /// nothing is written any more.
    pub(crate) unconfirmed: u64,
}

impl Ending {
    /// The ending of a connection without a closing handshake.
    pub(crate) fn lost(error: WsError) -> Self {
        Self { code: CloseCode::Abnormal.into(), reason: "".into(), error: Some(error), unconfirmed: 0 }
    }
}

/// Serves a link until its connection ends, or is dropped because `cut` resolved. Text and binary messages go to `receive`;
/// all that have arrived, before the end is told.
pub(crate) fn drive<S, F>(link: OpenLink<S>, receive: F, cut: impl Future<Output = ()>) -> impl Future<Output = Ending>
where
    S: Socket,
    F: FnMut(Frame) -> Receipt,
{
    // Not an `async fn`, in which an argument keeps its place beside what becomes of it: the driver would be there twice.
    let mut driver = Driver::new(link, receive);
    let mut cut = Some(Box::pin(cut));
    poll_fn(move |cx| {
        callback::begin_turn();
        if cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
            cut = None;
            driver.cut();
        }
        let mut ending = ready!(driver.poll(cx));
        driver.let_go(&mut ending);
        Poll::Ready(*ending)
    })
}

/// How far the closing handshake (RFC 6455, section 7) is.
enum Phase {
    Open,
    /// Our close frame is on its way; the peer's is awaited.
    Closing(Closing),
    /// The peer's close frame has come; the rest is to be flushed.
    Closed {
        code: u16,
        reason: Arc<str>,
        deadline: Instant,
    },
    /// Something failed; the close frame that says why is on its way.
    Failing {
        code: u16,
        error: WsError,
        deadline: Instant,
    },
}

/// An end that is decided: nothing more is written, but what has arrived is heard before it is told.
struct Parting {
    error: WsError,
    /// Until when; a socket that failed ends by itself.
    until: Option<Instant>,
    /// How many bytes may be read: as many as can have arrived.
    left: usize,
}

/// How much a turn has read of what there was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// All. The socket wakes the task when more comes.
    Whole,
    /// A part. Nothing wakes the task for the rest.
    Part,
    /// Nothing, and the subscribers wake the task when they have caught up.
    Held,
}

struct Driver<S: Socket, F> {
    writer: WriterHandle<S>,
    link: Link,
    receive: F,
    decoder: Decoder,
    phase: Phase,
    parting: Option<Parting>,
    /// The peer has shut its side down, and is to be told what is left to say.
    is_heard_out: bool,
    /// What the protocol has to say to the peer, until the next write.
    answers: Vec<u8>,
    /// How things stand on the way out after the last write.
    write_status: WriteStatus,
    /// The task's waker. The writer has it too; the copy here is compared on each poll without a lock.
    waker: Waker,
    /// When waiting for the peer ends, if closing was asked for and messages come before it.
    close_by: Option<Instant>,
    pulse: Pulse,
    /// A ping is on its way to the system.
    is_pinging: bool,
    /// What was read and not dispatched, because the poll had dispatched its share; and what came with the handshake.
    unread: Bytes,
    /// When this poll began.
    now: Instant,
    /// Made when there is something to wait for; with when it wakes the task, so that it need not be asked each time.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How many of this connection a pong has confirmed.
    confirmed: u64,
    /// How many messages in a row could not be decoded.
    undecodable: usize,
    /// What callbacks have pushed and nobody has taken: nothing is read before that.
    debts: Debts,
}

impl<S, F> Driver<S, F>
where
    S: Socket,
    F: FnMut(Frame) -> Receipt,
{
    fn new(OpenLink { writer, mut link }: OpenLink<S>, receive: F) -> Self {
        let now = Instant::now();
        Self {
            writer,
            decoder: Decoder::new(link.role, link.limits.message_len, link.limits.frame()),
            phase: Phase::Open,
            parting: None,
            is_heard_out: false,
            answers: Vec::new(),
            write_status: WriteStatus::default(),
            waker: Waker::noop().clone(),
            close_by: None,
            pulse: Pulse::new(link.heartbeat, now, rand::random()),
            is_pinging: false,
            // Copied, since it holds on to the memory of the opening handshake.
            unread: Bytes::copy_from_slice(&take(&mut link.early_bytes)),
            now,
            timer: None,
            confirmed: 0,
            undecodable: 0,
            debts: Debts::default(),
            link,
            receive,
        }
    }

    /// Ends all writing, has a peer that takes nothing not be waited for, and counts what may be lost.
    fn let_go(&mut self, ending: &mut Ending) {
        let takes_nothing = match ending.error {
            Some(WsError::WriteStalled { .. }) => true,
            Some(_) => self.link.outbox.has_overflown(),
            None => false,
        };
        if takes_nothing {
            self.writer.reset_when_dropped();
        }
        // Others may have written until now.
        self.writer.close_socket();
        ending.unconfirmed = self.writer.written().saturating_sub(self.confirmed);
    }

    /// Drops the connection, since another one is wanted.
    fn cut(&mut self) {
        self.now = Instant::now();
        self.part(WsError::Cut(self.link.peer.to_string()), Some(self.now + LINGER));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Box<Ending>> {
        match self.step(cx) {
            Err(ending) => return Poll::Ready(ending),
            // Once the reactor has looked at the other sockets: a task that wakes itself is polled many times before that.
            Ok(again) if again => runtime::yield_now(cx),
            Ok(_) => {}
        }
        Poll::Pending
    }

    /// One turn; true when there is more to do at once.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, Box<Ending>> {
        self.now = Instant::now();
        if !self.waker.will_wake(cx.waker()) {
            self.waker = cx.waker().clone();
            self.writer.set_task(self.waker.clone());
        }
        self.link.outbox.note_awake();
        if self.link.outbox.has_overflown() {
            // It is to be dropped: the queue is gone, and what lies here unwritten goes with it.
            self.writer.return_unwritten();
        }
        let intake = self.read(cx)?;
        let unfinished = self.write(cx)?;
        self.leave_if_done(cx)?;
        let is_due = self.watch_the_clock(intake, cx)?;
        // While it is paused, the socket wakes it by taking what waits.
        Ok(is_due || unfinished || (intake == Intake::Part && !self.is_paused()))
    }

    /// A peer that does not take the answers to its pings is not read from, so that they cannot pile up. Messages do not
    /// count: two peers that each wait for the other to read would wait for ever.
    fn is_paused(&self) -> bool {
        self.answers.len() + self.write_status.answers_len > self.link.limits.write_buffer_len
    }

    /// Reads and dispatches what is there, unless callbacks are owed something.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Intake, Box<Ending>> {
        let mut debts = take(&mut self.debts);
        let mut intake = Ok(Intake::Held);
        if debts.poll_paid(cx).is_ready() {
            let mut buffer = ReadBuffer::take();
            intake = debts.incur(|| self.read_into(&mut buffer, cx));
            buffer.give_back();
        }
        let is_in_debt = debts.poll_paid(cx).is_pending();
        self.debts = debts;
        if is_in_debt {
            self.pulse.hear(self.now);
            return intake.map(|_| Intake::Held);
        }
        intake
    }

    /// Whether what is received waits for its subscribers, or what is told of it if that comes of what cannot be decoded.
    fn is_ahead(&self, cx: &Context<'_>) -> bool {
        let is_behind = |backlog: &Arc<dyn Backlog>| backlog.poll_at_most(READ_AHEAD, cx).is_pending();
        is_behind(&self.link.inbound) || (self.undecodable > 0 && is_behind(&self.link.events))
    }

    fn read_into(&mut self, buffer: &mut ReadBuffer, cx: &mut Context<'_>) -> Result<Intake, Box<Ending>> {
        let mut share = MESSAGES_A_POLL;
        for _ in 0..READS_A_POLL {
            if !debts::may_take_up_more() {
                break;
            }
            let is_ahead = self.is_ahead(cx);
            if is_ahead || self.is_paused() {
                // The heartbeat's clock stands still meanwhile: it is the write stall that decides.
                self.pulse.hear(self.now);
                return Ok(if is_ahead { Intake::Held } else { Intake::Part });
            }
            if !self.unread.is_empty() {
                // It has come, however long ago that was.
                self.pulse.hear(self.now);
                let unread = take(&mut self.unread);
                let rest = self.dispatch(&unread, &mut buffer.block, &mut share);
                self.unread = unread.slice_ref(rest);
            }
            if !self.unread.is_empty() {
                return Ok(Intake::Part);
            }
            let mut space = ReadBuf::new(&mut buffer.bytes);
            if let Some(intake) = self.fill(&mut space, cx)? {
                return Ok(intake);
            }
            let rest = self.dispatch(space.filled(), &mut buffer.block, &mut share);
            self.unread = Bytes::copy_from_slice(rest);
        }
        Ok(Intake::Part)
    }

    /// Reads from the socket; with nothing to read, returns how that is to be taken.
    fn fill(&mut self, space: &mut ReadBuf<'_>, cx: &mut Context<'_>) -> Result<Option<Intake>, Box<Ending>> {
        if self.is_heard_out {
            return Ok(Some(Intake::Whole));
        }
        if self.parting.as_ref().is_some_and(|parting| parting.left == 0) {
            // What comes now came later, from a peer that could go on for ever.
            return Err(self.parted());
        }
        match self.writer.poll_read(cx, space) {
            Poll::Pending => return Ok(Some(Intake::Whole)),
            Poll::Ready(Err(error)) => return Err(self.broken(error)),
            Poll::Ready(Ok(())) => {}
        }
        let len = space.filled().len();
        if len == 0 {
            return self.hung_up().map(|()| Some(Intake::Whole));
        }
        self.pulse.hear(self.now);
        if let Some(parting) = &mut self.parting {
            parting.left = parting.left.saturating_sub(len);
        }
        Ok(None)
    }

    /// Takes bytes through the protocol and hands on the messages they complete, as far as `share` reaches; returns the rest.
    /// What follows the peer's close frame, or its mistake, is not looked at (RFC 6455, sections 1.4 and 7.1.7).
    fn dispatch<'a>(&mut self, mut bytes: &'a [u8], block: &mut Block, share: &mut usize) -> &'a [u8] {
        while matches!(self.phase, Phase::Open | Phase::Closing(_)) {
            // Without bytes there is no message more, but the answer to a ping may be left.
            if !bytes.is_empty() && (*share == 0 || !debts::may_take_up_more()) {
                return bytes;
            }
            *share = share.saturating_sub(1);
            match self.decoder.decode(&mut bytes, block, &mut self.answers) {
                Ok(Message::Text(text)) => self.hand_on(Frame::Text(WsText::from_utf8_bytes(text))),
                Ok(Message::Binary(bytes)) => self.hand_on(Frame::Binary(bytes)),
                Ok(Message::Pong(payload)) => {
                    self.confirmed = self.confirmed.max(confirmed_by(&payload, self.writer.begun()));
                }
                Ok(Message::Close(frame)) => {
                    // Puts the answer into memory, which takes everything; the error is that the connection is closed.
                    let mut stream = MemoryStream::new(&[], &mut self.answers);
                    let _ = self.decoder.with_protocol(|protocol| protocol.flush(&mut stream));
                    self.close(frame);
                }
                Ok(Message::Ping(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => break,
                Err(error) => {
                    let (code, reason) = close_code_of(&error, &self.link.limits);
                    self.fail(code, reason);
                }
            }
        }
        &[]
    }

    /// Hands a message on. A server has enough of a peer that says nothing it understands.
    fn hand_on(&mut self, message: Frame) {
        match (self.receive)(message) {
            Receipt::Taken => self.undecodable = 0,
            Receipt::Undecodable => {
                self.undecodable += 1;
                if self.link.role == Role::Server && self.link.limits.undecodable == Some(self.undecodable) {
                    let count = self.undecodable;
                    let reason = format!("{count} messages in a row could not be decoded, Limits::undecodable");
                    self.fail(CloseCode::Invalid, reason);
                }
            }
        }
    }

    /// Writes what is there to be written, as far as the socket takes it, and our close frame behind the last message. True
    /// when it stopped before that, and nothing else wakes it.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Box<Ending>> {
        while self.parting.is_none() {
            let (progress, status) = self.writer.write(&mut self.answers, cx);
            self.write_status = status;
            self.note_ping();
            match progress {
                Ok(Progress::Done) => {
                    self.close_by = None;
                    return Ok(false);
                }
                Ok(Progress::Closing(closing)) => {
                    self.send_close(CloseCode::from(closing.code), &closing.reason);
                    self.enter(Phase::Closing(closing));
                }
                Ok(progress @ (Progress::Blocked | Progress::Unfinished)) => {
                    // A closing handshake waits for the messages before it.
                    self.close_by = self.link.outbox.closing().map(|closing| closing.deadline);
                    return Ok(matches!(progress, Progress::Unfinished));
                }
                Err(error) => self.part(self.transport(error), None),
            }
        }
        self.say_no_more()
    }

    /// A ping counts from when the system has it.
    fn note_ping(&mut self) {
        if self.is_pinging && self.write_status.answers_len == 0 {
            self.is_pinging = false;
            self.pulse.pinged(Instant::now());
        }
    }

    /// Decides the end; what has arrived is still heard. What was decided first counts.
    fn part(&mut self, error: WsError, until: Option<Instant>) {
        if self.parting.is_none() {
            self.writer.stop_writing();
            let left = self.writer.arrived_len().saturating_add(READ_BUFFER_LEN);
            self.parting = Some(Parting { error, until, left });
            self.forget_answers();
        }
    }

    /// Nobody will hear them, and reading must not be paused for them.
    fn forget_answers(&mut self) {
        self.answers.clear();
        self.write_status = WriteStatus::default();
    }

    /// A turn's writing on a connection that is over: after the peer's last word there is nothing to wait for.
    fn say_no_more(&mut self) -> Result<bool, Box<Ending>> {
        self.forget_answers();
        match self.phase {
            Phase::Open | Phase::Closing(_) => Ok(false),
            Phase::Closed { .. } | Phase::Failing { .. } => Err(self.parted()),
        }
    }

    /// No message follows a close frame, whoever sent it (RFC 6455, section 5.5.1).
    fn enter(&mut self, phase: Phase) {
        self.writer.stop_taking();
        self.phase = phase;
    }

    fn send_close(&mut self, code: CloseCode, reason: &str) {
        let frame = CloseFrame { code, reason: fitting_reason(reason).into() };
        // Into memory, which takes everything; after a close frame of the peer's there is no other to send.
        let mut stream = MemoryStream::new(&[], &mut self.answers);
        let _ = self.decoder.with_protocol(|protocol| protocol.close(&mut stream, Some(frame)));
    }

    /// Notes the peer's close frame.
    fn close(&mut self, frame: Option<CloseFrame>) {
        // Without a code, 1005 stands for that (RFC 6455, section 7.1.5).
        let (code, reason) = frame.map_or((1005, "".into()), |frame| (frame.code.into(), frame.reason.as_str().into()));
        self.enter(Phase::Closed { code, reason, deadline: self.linger() });
    }

    /// Says why to the peer before it is dropped.
    fn fail(&mut self, code: CloseCode, reason: String) {
        self.send_close(code, &reason);
        let error = WsError::Protocol { peer: self.link.peer.to_string(), reason };
        self.enter(Phase::Failing { code: code.into(), error, deadline: self.linger() });
    }

    /// Until when the peer may take what is left; a deadline that is set already holds all the same.
    fn linger(&self) -> Instant {
        let own = self.now + LINGER;
        self.closing_deadline().map_or(own, |set| set.min(own))
    }

    /// Shuts the socket down once nothing more is to be said.
    fn leave_if_done(&mut self, cx: &mut Context<'_>) -> Result<(), Box<Ending>> {
        // It is the server that closes the socket after a closing handshake (RFC 6455, section 7.1.1). One that failed stays
        // until the peer hangs up: dropped with bytes unread it would take the close frame along.
        let closes = match self.phase {
            Phase::Open | Phase::Closing(_) => return Ok(()),
            Phase::Closed { .. } => self.is_heard_out || self.link.role == Role::Server,
            Phase::Failing { .. } => self.is_heard_out,
        };
        let shuts = closes || matches!(self.phase, Phase::Failing { .. });
        // An error here is one of a socket that is to be dropped anyway.
        let shut = shuts && self.write_status.is_flushed && self.writer.poll_shutdown(cx).is_ready();
        if closes && shut { Err(self.ended()) } else { Ok(()) }
    }

    /// Pings, and ends what takes too long. True when there is something to do at once.
    fn watch_the_clock(&mut self, intake: Intake, cx: &mut Context<'_>) -> Result<bool, Box<Ending>> {
        self.judge()?;
        if let Some(parting) = &self.parting {
            let is_heard = intake == Intake::Whole && !self.writer.has_arrived();
            if is_heard || parting.until.is_some_and(|until| until <= self.now) {
                return Err(self.parted());
            }
        }
        let pings = self.ping_if_due();
        Ok(self.arm(cx) || pings)
    }

    /// Ends what takes too long.
    fn judge(&mut self) -> Result<(), Box<Ending>> {
        if self.parting.is_some() {
            return Ok(());
        }
        let is_late = self.closing_deadline().is_some_and(|deadline| deadline <= self.now);
        if matches!(self.phase, Phase::Closed { .. } | Phase::Failing { .. }) {
            return if is_late { Err(self.ended()) } else { Ok(()) };
        }
        let peer = || self.link.peer.to_string();
        if self.pulse.is_overdue(self.now) && self.writer.has_arrived() {
            // The reactor has not told of it yet.
            self.pulse.hear(self.now);
        } else if let Some(silent) = self.pulse.silence(self.now) {
            return Err(self.lost(WsError::PeerGone { peer: peer(), silent }));
        }
        let stall = self.link.limits.write_stalled;
        if self.write_status.stalled.is_some_and(|since| after(since, stall) <= self.now) {
            self.part(WsError::WriteStalled { peer: peer(), stalled: stall }, None);
        } else if is_late {
            self.part(WsError::ClosingTimedOut { peer: peer() }, Some(self.now + LINGER));
        }
        Ok(())
    }

    /// True after a ping, which has to be written.
    fn ping_if_due(&mut self) -> bool {
        // To a peer that takes nothing pings would only pile up.
        let is_open =
            matches!(self.phase, Phase::Open) && self.parting.is_none() && self.write_status.stalled.is_none();
        let pings = self.pulse.ping_due(self.now) && is_open;
        if pings {
            // Under the lock: neither does a message come between those that are counted and the ping, nor is one taken back.
            let mut locked = self.writer.lock();
            let payload = Message::Ping(Bytes::copy_from_slice(&self.writer.begun().to_be_bytes()));
            // Into memory, which takes everything; and the phase says that the protocol still takes messages.
            let mut stream = MemoryStream::new(&[], &mut self.answers);
            let _ = self.decoder.with_protocol(|protocol| protocol.write(&mut stream, payload));
            locked.answer(&mut self.answers);
            self.is_pinging = true;
        }
        pings
    }

    /// Sets the timer to the next thing to do. True when that is due already.
    fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let stalled = self.write_status.stalled.map(|since| after(since, self.link.limits.write_stalled));
        let deadlines = match &self.parting {
            Some(parting) => [parting.until, None, None],
            None => [self.pulse.deadline(), stalled, self.closing_deadline()],
        };
        let Some(next) = deadlines.into_iter().flatten().min() else { return false };
        // A timer that is too early costs one look; setting it anew for each message would cost more.
        if self.timer.as_ref().is_some_and(|(set, _)| self.now < *set && *set <= next) {
            return false;
        }
        let (set, timer) = self.timer.get_or_insert_with(|| (next, Box::pin(sleep_until(next))));
        *set = next;
        timer.as_mut().reset(next);
        // Whatever is left of the task's share of work: with nothing left the timer would not note whom to wake, and it is
        // asked again only when it has run out.
        Pin::new(&mut unconstrained(timer.as_mut())).poll(cx).is_ready()
    }

    fn closing_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open => self.close_by,
            Phase::Closing(Closing { deadline, .. })
            | Phase::Closed { deadline, .. }
            | Phase::Failing { deadline, .. } => Some(*deadline),
        }
    }

    fn broken(&self, error: io::Error) -> Box<Ending> {
        match self.phase {
            Phase::Open | Phase::Closing(_) if self.parting.is_none() => self.lost(self.transport(error)),
            _ => self.parted(),
        }
    }

    fn transport(&self, error: io::Error) -> WsError {
        WsError::Transport { peer: self.link.peer.to_string(), source: Arc::new(error) }
    }

    /// The peer's end of the stream.
    fn hung_up(&mut self) -> Result<(), Box<Ending>> {
        match self.phase {
            _ if self.parting.is_some() => Err(self.parted()),
            Phase::Open | Phase::Closing(_) => {
                Err(self.lost(WsError::AbnormalClosure { peer: self.link.peer.to_string() }))
            }
            // It may have shut down its own side alone, and wait for the answer.
            Phase::Closed { .. } | Phase::Failing { .. } => {
                self.is_heard_out = true;
                Ok(())
            }
        }
    }

    /// The ending of a connection on which nothing is written any more.
    fn parted(&self) -> Box<Ending> {
        match (&self.parting, &self.phase) {
            (Some(Parting { error, .. }), Phase::Open | Phase::Closing(_)) => self.lost(error.clone()),
            // Whatever the peer said last: another connection is wanted at once.
            (Some(Parting { error: error @ WsError::Cut(_), .. }), _) => self.lost(error.clone()),
            _ => self.ended(),
        }
    }

    /// The ending that the phase stands for.
    fn ended(&self) -> Box<Ending> {
        match &self.phase {
            Phase::Closed { code, reason, .. } => self.ending(*code, reason.clone(), None),
            Phase::Failing { code, error, .. } => self.ending(*code, error.to_string().into(), Some(error.clone())),
            Phase::Open | Phase::Closing(_) => self.lost(WsError::ClosingTimedOut { peer: self.link.peer.to_string() }),
        }
    }

    fn lost(&self, error: WsError) -> Box<Ending> {
        self.ending(CloseCode::Abnormal.into(), "".into(), Some(error))
    }

    fn ending(&self, code: u16, reason: Arc<str>, error: Option<WsError>) -> Box<Ending> {
        Box::new(Ending { code, reason, error, unconfirmed: 0 })
    }
}

/// How many messages a pong confirms: each ping carries the number of those before it.
fn confirmed_by(payload: &[u8], begun: u64) -> u64 {
    payload.try_into().map(u64::from_be_bytes).ok().filter(|count| *count <= begun).unwrap_or(0)
}

/// The memory for reading that the connections of a thread share.
struct ReadBuffer {
    bytes: Box<[u8]>,
    block: Block,
}

thread_local! {
    static SHARED: Cell<Option<ReadBuffer>> = const { Cell::new(None) };
}

impl ReadBuffer {
    /// Takes the thread's buffer; while a callback has another driver run inside this one, that one gets its own.
    fn take() -> Self {
        let new = || Self { bytes: vec![0; READ_BUFFER_LEN].into(), block: Block::default() };
        SHARED.take().unwrap_or_else(new)
    }

    fn give_back(self) {
        SHARED.set(Some(self));
    }
}

#[cfg(test)]
mod tests;
