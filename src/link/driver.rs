//! [`Driver`]: the state and the turn of the task that serves one socket.
//!
//! A turn reads the waiting bytes, dispatches them, and then writes all their consequences at once. tungstenite's
//! synchronous core sees only memory: it reads from a slice of a buffer that all connections of a thread share, and its
//! answers go into memory as well. So an idle connection owns next to nothing, and this crate itself counts memory and the
//! ends of messages.

use std::{
    io,
    mem::take,
    ops::ControlFlow::{Break, Continue},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{Role, frame::coding::CloseCode},
};

use crate::{
    Frame, WsError, WsText,
    link::{
        Ending, Flow, Link, OpenLink, READ_AHEAD, Receipt, Turn,
        closing::{Draining, LINGER, Phase},
        long_turns,
        read_ahead::ReadAhead,
        read_buffer::{GATHERED_LEN, READ_BUFFER_LEN, ReadBuffer, Space},
        write_scheduler::HandingOn,
        writer::{Progress, WriteStatus, WriterHandle},
    },
    protocol::{
        close::close_code_of,
        decoder::Decoder,
        heartbeat::{Mark, Pulse},
        read_block::Block,
    },
    random,
    runtime::{
        self, callback,
        debts::{self, Standing},
    },
    session::verb,
    subject::Backlog,
    transport::socket::Socket,
};

/// How many full read buffers one turn takes before other connections have their turn.
const READS_PER_TURN: usize = 4;

/// How many bytes one turn reads while a long message comes, by at most [so many reads](READS_OF_LONG_PER_TURN). Once a message is whole it is
/// looked at again, as UTF-8, and what came in earlier turns is no longer in the cache then: an echo of 1 MiB takes 1.25 times as long if each
/// turn reads only as much as for short messages. Others wait meanwhile, so [not always](long_turns).
const LONG_PER_TURN: usize = 1024 * 1024 + READ_BUFFER_LEN;

/// The kernel often has less for a read than it is asked for.
const READS_OF_LONG_PER_TURN: usize = 4 * READS_PER_TURN;

/// How many messages one turn dispatches before their consequences are written, by this connection and by the others, and
/// before the reactor looks at the other sockets. That look costs 1.3 us, which with half as many messages was 5 % of a
/// burst.
const MESSAGES_PER_TURN: usize = 256;

/// How many bytes of a message count as one more message there. The bytes that are read are bounded anyway, but not what they
/// are inflated to: so it is 2 MiB per turn, or one message.
const LEN_PER_MESSAGE: usize = 8 * 1024;

/// How much of the waiting bytes a turn has read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intake {
    /// All of it. The socket wakes the task when more comes.
    Whole,
    /// A part. Nothing wakes the task for the rest.
    Part,
    /// Nothing. The subscribers wake the task when they have caught up, or another thread when it has made owed deliveries.
    Held,
}

/// The outcome of a read from the socket.
enum Fill {
    /// So many were read, and so many of them are in the space that was given.
    Bytes {
        read: usize,
        here: usize,
    },
    Nothing,
}

pub(crate) struct Driver<S: Socket, F> {
    pub(crate) writer: WriterHandle<S>,
    pub(crate) link: Link,
    receive: F,
    pub(crate) decoder: Decoder,
    pub(crate) phase: Phase,
    /// In a box, as most connections have none.
    pub(crate) draining: Option<Box<Draining>>,
    /// The peer has shut its side down: nothing more is read, but it may still be waiting for the last bytes of this side.
    pub(crate) has_hung_up: bool,
    /// Control frames for the peer, until the next write.
    pub(crate) answers: Vec<u8>,
    /// The state of the writer after the last write.
    pub(crate) write_status: WriteStatus,
    /// The task's waker. The writer has it too; the copy here is compared on each turn without a lock.
    waker: Waker,
    /// The deadline of a closing handshake that was asked for, while messages still go out before it.
    pub(crate) close_by: Option<Instant>,
    pub(crate) pulse: Pulse,
    /// A ping was queued, and the operating system has not taken it yet.
    pub(crate) is_pinging: bool,
    /// Bytes that were read and not dispatched, because the turn had dispatched its share, and bytes that came with the
    /// opening handshake.
    unread: Bytes,
    /// When this turn began.
    pub(crate) now: Instant,
    /// Made for the first deadline. Stored with the time it is set to, so that not each turn needs to poll it.
    pub(crate) timer: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How many messages of this link a pong has confirmed.
    pub(crate) confirmed: u64,
    /// How many messages in a row could not be decoded.
    undecodable: usize,
    read_ahead: ReadAhead,
}

impl<S, F> Driver<S, F>
where
    S: Socket,
    F: FnMut(Frame) -> Receipt,
{
    pub(crate) fn new(opened: OpenLink<S>, receive: F) -> Self {
        let OpenLink { writer, link, heartbeat, early_bytes } = opened;
        let now = Instant::now();
        Self {
            writer,
            decoder: decoder(&link),
            phase: Phase::Open,
            draining: None,
            has_hung_up: false,
            answers: Vec::new(),
            write_status: WriteStatus::default(),
            waker: Waker::noop().clone(),
            close_by: None,
            pulse: Pulse::new(heartbeat, now, random::fraction()),
            is_pinging: false,
            // Copied, since a slice would keep the memory of the whole opening handshake.
            unread: Bytes::copy_from_slice(&early_bytes),
            now,
            timer: None,
            confirmed: 0,
            undecodable: 0,
            read_ahead: ReadAhead::default(),
            link,
            receive,
        }
    }

    /// Closes the socket, and counts the messages that may be lost. Does not wait for a peer that takes nothing.
    pub(crate) fn finish(&mut self, ending: &mut Ending) {
        let takes_nothing = match ending.error {
            Some(WsError::WriteStalled { .. }) => true,
            Some(_) => self.link.outbox.has_overflown(),
            None => false,
        };
        if takes_nothing {
            self.writer.reset_when_dropped();
        }
        self.writer.close_socket();
        // Only now: until then other threads may have written.
        ending.unconfirmed = self.unconfirmed();
        // What it counts belongs to the session from now on.
        if self.link.leave_session().is_none() {
            self.link.outbox.note_unconfirmed(ending.unconfirmed);
        }
    }

    fn unconfirmed(&self) -> u64 {
        match self.link.session {
            Some(_) => self.link.outbox.stats().retained,
            None => self.writer.written().saturating_sub(self.confirmed),
        }
    }

    /// Begins to drop the connection, since another one is wanted.
    pub(crate) fn cut(&mut self) {
        self.now = Instant::now();
        self.say_taken_over();
        self.begin_draining(WsError::Cut(self.link.recipient.name()), Some(self.now + LINGER));
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Box<Ending>> {
        match self.turn(cx) {
            Break(ending) => return Poll::Ready(ending),
            // Yields until the reactor has looked at the other sockets: a task that wakes itself is polled many times before
            // that.
            Continue(Turn::Again) => runtime::yield_now(cx),
            Continue(Turn::Wait) => {}
        }
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Flow<Turn> {
        self.now = Instant::now();
        if !self.waker.will_wake(cx.waker()) {
            self.waker = cx.waker().clone();
            self.writer.set_task(self.waker.clone());
        }
        self.link.outbox.note_awake();
        if self.link.outbox.has_overflown() {
            // The queue was dropped. The unwritten messages here go back to it, to be dropped as well.
            self.writer.return_unwritten();
        }
        let intake = self.read(cx)?;
        self.ack_if_due();
        let written = self.write(cx)?;
        self.shut_down_if_flushed(cx)?;
        let clock = self.keep_deadlines(intake, cx)?;
        // While reading is paused, the socket wakes the task when it takes the answers.
        let reads_on = intake == Intake::Part && !self.is_paused();
        Continue(Turn::again_if(reads_on || written == Turn::Again || clock == Turn::Again))
    }

    /// Whether reading is paused. Nothing is read from a peer that does not take the answers to its pings, so that they
    /// cannot pile up; behind a close frame there are none. Messages do not count: two peers that each wait for the other to read
    /// would wait for ever.
    pub(crate) fn is_paused(&self) -> bool {
        let answers_len = self.answers.len() + self.write_status.answers_len;
        answers_len > self.link.limits.write_buffer_len && matches!(self.phase, Phase::Open)
    }

    /// Reads and dispatches the waiting bytes, once the deliveries are made that the callbacks of this task have caused.
    fn read(&mut self, cx: &mut Context<'_>) -> Flow<Intake> {
        // In the last turn a close frame that has arrived counts, whatever is owed.
        let standing = if self.is_late() { Standing::Clear } else { debts::pay(cx) };
        if standing == Standing::Waiting {
            // Time in which this side waits for another thread does not count against the peer.
            self.pulse.hear(self.now);
        }
        match standing {
            Standing::Clear => {
                let mut buffer = ReadBuffer::take();
                let _handing_on = HandingOn::begin();
                let intake = self.read_into(&mut buffer, cx);
                buffer.recycle();
                intake
            }
            Standing::InDebt => Continue(Intake::Part),
            Standing::Waiting => Continue(Intake::Held),
        }
    }

    /// Whether received messages wait for their subscribers; or whether events do, if this connection causes them by
    /// undecodable messages.
    fn is_ahead(&self, cx: &Context<'_>) -> bool {
        let is_behind = |backlog: &dyn Backlog, most| backlog.poll_at_most(most, cx).is_pending();
        let inbound = self.link.recipient.inbound();
        is_behind(inbound, self.read_ahead.most())
            || (self.link.deflate.is_some() && self.read_ahead.is_inflated(inbound, cx))
            || (self.undecodable > 0 && is_behind(&*self.link.events, READ_AHEAD))
    }

    fn read_into(&mut self, buffer: &mut ReadBuffer, cx: &mut Context<'_>) -> Flow<Intake> {
        let (mut share, mut len) = (MESSAGES_PER_TURN, 0);
        for nth in 0..READS_OF_LONG_PER_TURN {
            let reads_on =
                nth < READS_PER_TURN || len < LONG_PER_TURN && self.is_in_long_message() && long_turns::are_allowed();
            if !reads_on || callback::is_turn_over() {
                break;
            }
            let is_ahead = self.is_ahead(cx);
            if is_ahead || self.is_paused() {
                // The heartbeat's clock stands still meanwhile: the write stall decides whether the peer is there.
                self.pulse.hear(self.now);
                return Continue(if is_ahead { Intake::Held } else { Intake::Part });
            }
            if !self.unread.is_empty() {
                // These bytes are a sign of life, however long ago they came.
                self.pulse.hear(self.now);
                let unread = take(&mut self.unread);
                let rest = self.dispatch(&unread, &mut buffer.block, &mut share);
                self.unread = unread.slice_ref(rest);
            }
            if !self.unread.is_empty() {
                return Continue(Intake::Part);
            }
            match self.fill(&mut buffer.space, cx)? {
                Fill::Nothing => return Continue(Intake::Whole),
                Fill::Bytes { read, here } => {
                    len += read;
                    let bytes = &buffer.space.as_mut()[..here];
                    let was_in_long_message = self.is_in_long_message();
                    let rest = self.dispatch(bytes, &mut buffer.block, &mut share);
                    if !rest.is_empty() {
                        self.unread = Bytes::copy_from_slice(rest);
                    }
                    long_turns::note_read(read, was_in_long_message || self.is_in_long_message());
                }
            }
        }
        Continue(Intake::Part)
    }

    fn is_in_long_message(&self) -> bool {
        self.decoder.is_gathering(GATHERED_LEN)
    }

    /// Reads from the socket: what comes next of a long message to where that is gathered, and anything else into `space`.
    fn fill(&mut self, space: &mut Space, cx: &mut Context<'_>) -> Flow<Fill> {
        if self.has_hung_up {
            return Continue(Fill::Nothing);
        }
        if self.draining.as_ref().is_some_and(|draining| draining.left == 0) {
            // Further bytes came after the end was decided; the peer could go on sending for ever.
            return Break(self.drained());
        }
        let writer = &self.writer;
        let gathered = self.decoder.gather_by(GATHERED_LEN, READ_BUFFER_LEN, |space| writer.poll_read_buf(cx, space));
        let is_gathered = gathered.is_some();
        let len = match gathered.unwrap_or_else(|| writer.poll_read(cx, space.as_mut())) {
            Poll::Pending => return Continue(Fill::Nothing),
            Poll::Ready(Err(error)) => return Break(self.unreadable(error)),
            Poll::Ready(Ok(len)) => len,
        };
        if len == 0 {
            self.on_end_of_stream()?;
            return Continue(Fill::Nothing);
        }
        self.pulse.hear(self.now);
        if let Some(draining) = &mut self.draining {
            draining.left = draining.left.saturating_sub(len);
        }
        Continue(Fill::Bytes { read: len, here: if is_gathered { 0 } else { len } })
    }

    /// Decodes `bytes` and hands on the messages that they complete, up to `share` of them; returns the rest. Everything
    /// after the peer's close frame, or after its mistake, is ignored (RFC 6455, sections 1.4 and 7.1.7).
    fn dispatch<'a>(&mut self, mut bytes: &'a [u8], block: &mut Block, share: &mut usize) -> &'a [u8] {
        while self.phase.hears_messages() {
            if bytes.is_empty() {
                // Otherwise there may be a message whose last bytes were read to its place, or a pong to write.
                if self.decoder.is_between_frames() {
                    break;
                }
            } else if *share == 0 || callback::is_turn_over() {
                return bytes;
            }
            *share = share.saturating_sub(1);
            if let Some(short) = self.decoder.short(&mut bytes, block) {
                match short {
                    Ok(frame) => self.take_in(frame, share),
                    Err(error) => self.fail_decoding(&error.into()),
                }
                continue;
            }
            match self.decoder.decode(&mut bytes, block, &mut self.answers) {
                Ok(Message::Text(text)) => self.take_in_other(Frame::Text(WsText::from_utf8_bytes(text)), share),
                Ok(Message::Binary(bytes)) => self.take_in_other(Frame::Binary(bytes), share),
                Ok(Message::Pong(payload)) => self.on_pong(&payload),
                Ok(Message::Close(frame)) => self.on_close_frame(frame),
                Ok(Message::Ping(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => break,
                Err(error) => self.fail_decoding(&error),
            }
        }
        &[]
    }

    // Inlined where most messages come from, or each of those would be moved twice more.
    #[inline(always)]
    fn take_in(&mut self, frame: Frame, share: &mut usize) {
        self.note_len(frame.len(), share);
        self.hear(frame);
    }

    #[inline(never)]
    fn take_in_other(&mut self, frame: Frame, share: &mut usize) {
        self.take_in(frame, share);
    }

    #[cold]
    fn fail_decoding(&mut self, error: &Error) {
        let (code, reason) = close_code_of(error, &self.link.limits);
        self.fail_connection(code, reason);
    }

    /// Notes the length of a message, which the share of a turn and the read-ahead count.
    fn note_len(&mut self, len: usize, share: &mut usize) {
        *share = share.saturating_sub(len / LEN_PER_MESSAGE);
        self.read_ahead.note(len);
        if len < GATHERED_LEN {
            long_turns::note_short();
        }
        if self.link.deflate.is_some() {
            self.read_ahead.note_inflated(len, self.link.recipient.inbound());
        }
    }

    fn on_pong(&mut self, payload: &[u8]) {
        let Some(Mark { messages, number }) = Mark::read(payload) else { return };
        if self.link.session.is_none() && messages <= self.writer.begun() {
            self.confirm(messages);
        }
        if let Some(round_trip) = self.pulse.ponged(number, self.now) {
            self.link.outbox.note_latency(round_trip);
        }
    }

    /// Notes that the peer has the first `confirmed` messages of this link. It cannot have more than were written, whatever an
    /// unsolicited pong says.
    pub(crate) fn confirm(&mut self, confirmed: u64) {
        let confirmed = confirmed.min(self.writer.written());
        if confirmed > self.confirmed {
            let number = self.writer.written_before() + confirmed;
            self.link.outbox.note_confirmed(confirmed - self.confirmed, number);
            self.confirmed = confirmed;
        }
    }

    /// Hands a message on. A server drops a peer that sends only undecodable messages.
    pub(crate) fn hand_on(&mut self, message: Frame) {
        match (self.receive)(message) {
            Receipt::Taken => self.undecodable = 0,
            Receipt::Undecodable => {
                self.undecodable += 1;
                if self.link.role == Role::Server && self.link.limits.undecodable == Some(self.undecodable) {
                    let count = self.undecodable;
                    let reason = format!("{count} messages in a row could not be decoded, Limits::undecodable");
                    self.fail_connection(CloseCode::Invalid, reason);
                }
            }
        }
    }

    /// Writes the answers and the messages, as far as the socket takes them, and this side's close frame after the last
    /// message.
    fn write(&mut self, cx: &mut Context<'_>) -> Flow<Turn> {
        while self.draining.is_none() {
            let (progress, status) = self.writer.write(&mut self.answers, cx);
            self.write_status = status;
            self.note_ping();
            match progress {
                Ok(Progress::Done) => {
                    self.close_by = None;
                    return Continue(Turn::Wait);
                }
                Ok(Progress::Closing(closing)) => self.begin_closing_handshake(closing),
                Ok(Progress::Held) if self.ask() == Turn::Again => {}
                Ok(progress @ (Progress::Blocked | Progress::Held | Progress::Unfinished)) => {
                    // A closing handshake waits for the messages before it.
                    self.close_by = self.link.outbox.closing().map(|closing| closing.deadline);
                    return Continue(Turn::again_if(matches!(progress, Progress::Unfinished)));
                }
                Err(error) => self.begin_draining(self.transport_error(error), None),
            }
        }
        self.skip_write(cx)?;
        Continue(Turn::Wait)
    }

    /// Notes when the operating system has taken a ping: the peer's time to answer begins then.
    fn note_ping(&mut self) {
        if self.is_pinging && self.write_status.answers_len == 0 {
            self.is_pinging = false;
            self.pulse.pinged(Instant::now());
        }
    }
}

fn decoder(link: &Link) -> Decoder {
    let (message_len, frame_len) = (link.limits.message_len, link.limits.frame());
    // What belongs to the session does not count as the program's: its own messages, and a byte before some payloads.
    let with_session = |len: usize| if link.session.is_some() { len.saturating_add(1).max(verb::MAX_LEN) } else { len };
    Decoder::new(link.role, with_session(message_len), with_session(frame_len), link.deflate)
}
