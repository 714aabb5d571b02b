//! [`SharedWriter`]: the way out of one connection, from its outbox through a write buffer into the socket.
//!
//! Three parties write, one at a time: the connection's own task, which also reads; on a runtime of one thread, the
//! [`WriteScheduler`]; and any thread that pushes into a full outbox, before the full outbox is held against the peer.
//!
//! The lock of the writer is taken before the lock of the outbox, and after the lock of a routing table. No user code runs
//! while one of them is held.

use std::{
    future::poll_fn,
    hint::black_box,
    io,
    mem::{replace, take},
    ops::Deref,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker},
};

use tokio::{task::unconstrained, time::Instant};
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::{
    link::{
        Turn,
        write_scheduler::{ScheduledWrite, WriteScheduler},
    },
    outbox::{Closing, Effects, Outbox, Outflow, Relief, Spent},
    protocol::{deflate::Agreed, write_buffer::WriteBuffer},
    stats::DropReason,
    transport::socket::Socket,
};

/// How many writes one turn makes, while a program pushes as fast as the peer reads, before other connections have their
/// turn.
const WRITES_PER_TURN: usize = 32;

/// As many where messages are compressed: 128 KiB of them take a millisecond.
const COMPRESSED_WRITES_PER_TURN: usize = 4;

/// How many writes a push into a full outbox makes under one lock. The outbox asks for more if that made no room.
const WRITES_PER_PUSH: usize = 4;

/// The writer of a connection, shared by its task, the outbox, the write scheduler and the threads that push. The fields that a
/// write needs come first, in two or three cache lines.
#[repr(C)]
pub(crate) struct SharedWriter<S> {
    scheduler: Option<Arc<WriteScheduler>>,
    pub(super) outbox: Outbox,
    writer: Mutex<Writer<S>>,
    /// Messages may be written: no close frame has been sent or received.
    pub(super) is_open: AtomicBool,
    /// It is on the scheduler's list, where one entry is enough.
    is_scheduled: AtomicBool,
    pub(super) role: Role,
    /// The link belongs to a session, which keeps what is written.
    pub(super) is_resumable: bool,
    /// What both sides have agreed on, if messages are compressed.
    pub(super) deflate: Option<Agreed>,
    /// The connection's task.
    task: Mutex<Option<Waker>>,
    /// How many messages the outbox had written before this link.
    written_before: u64,
}

/// The handle by which a connection's task owns its writer. Dropping it closes the socket and ends all writing.
pub(crate) struct WriterHandle<S: Socket>(Arc<SharedWriter<S>>);

impl<S: Socket> Deref for WriterHandle<S> {
    type Target = SharedWriter<S>;

    fn deref(&self) -> &SharedWriter<S> {
        &self.0
    }
}

impl<S: Socket> Drop for WriterHandle<S> {
    /// Even when the task is cancelled, the messages not written as a whole wait for another link.
    fn drop(&mut self) {
        self.close_socket();
    }
}

/// The point at which a write stopped.
pub(crate) enum Progress {
    /// The operating system has taken everything.
    Done,
    /// The last message is on its way, and this closing handshake is to follow it.
    Closing(Closing),
    /// The socket takes nothing more; it wakes the task that asked once it does.
    Blocked,
    /// The peer has to acknowledge messages before more are written.
    Held,
    /// There may be more to write, in another turn.
    Unfinished,
}

/// The state of the writer after a write, as far as reading and the clock depend on it.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct WriteStatus {
    pub(crate) is_flushed: bool,
    /// How many bytes of answers wait, which the peer itself caused.
    pub(crate) answers_len: usize,
    /// Since when the socket has taken none of the bytes it was offered.
    pub(crate) stalled: Option<Instant>,
}

/// The socket, and the bytes on their way to it.
#[repr(C)]
pub(crate) struct Writer<S> {
    /// There while bytes wait, or would wait if they had not been [returned](SharedWriter::return_unwritten) to the outbox.
    pub(super) buffer: Option<Box<WriteBuffer>>,
    /// `None` once the connection is over.
    pub(super) socket: Option<S>,
    /// The error of a write on another thread, kept for the task.
    pub(super) failed: Option<io::Error>,
    /// Nothing is written any more, and the outbox knows it.
    is_over: bool,
}

impl<S: Socket> SharedWriter<S> {
    /// Opens the way out of `outbox`. From now on `scheduler` writes its messages if there is one, and otherwise the
    /// [task](Self::set_task).
    ///
    /// `answer` goes out before them.
    pub(crate) fn open(
        socket: S,
        mut answer: Vec<u8>,
        role: Role,
        deflate: Option<Agreed>,
        outbox: Outbox,
        scheduler: Option<Arc<WriteScheduler>>,
    ) -> WriterHandle<S> {
        let mut writer = Writer { socket: Some(socket), buffer: None, failed: None, is_over: false };
        writer.answer(&mut answer);
        let shared = Arc::new(Self {
            written_before: outbox.stats().written.messages,
            is_resumable: outbox.keeps_written(),
            outbox,
            writer: Mutex::new(writer),
            is_open: AtomicBool::new(true),
            is_scheduled: AtomicBool::new(false),
            role,
            deflate,
            task: Mutex::default(),
            scheduler,
        });
        shared.outbox.set_compressed(deflate.is_some());
        shared.outbox.attach(shared.clone());
        WriterHandle(shared)
    }

    /// How many messages this link has written.
    pub(crate) fn written(&self) -> u64 {
        self.outbox.stats().written.messages - self.written_before
    }

    /// The number among all messages of the first that this link has written, less one.
    pub(crate) fn written_before(&self) -> u64 {
        self.written_before
    }

    /// How many messages this link has written, or taken from the outbox to write.
    pub(crate) fn begun(&self) -> u64 {
        self.outbox.begun() - self.written_before
    }

    /// No user code may run inside this lock: the payloads of written messages are dropped after it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Writer<S>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the task to wake: the one that reads.
    pub(crate) fn set_task(&self, task: Waker) {
        *self.lock_task() = Some(task);
    }

    fn lock_task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_task(&self) {
        if let Some(task) = &*self.lock_task() {
            task.wake_by_ref();
        }
    }

    /// Writes the answers and the messages, as far as the socket takes them. The caller makes the closing handshake.
    pub(crate) fn write(&self, answers: &mut Vec<u8>, cx: &mut Context<'_>) -> (io::Result<Progress>, WriteStatus) {
        let mut effects = Effects::default();
        let mut writer = self.lock();
        writer.answer(answers);
        let writes = if self.deflate.is_some() { COMPRESSED_WRITES_PER_TURN } else { WRITES_PER_TURN };
        let progress = self.write_up_to(&mut writer, writes, &mut effects, cx);
        let status = writer.status();
        drop(writer);
        drop(effects.run());
        (progress, status)
    }

    /// Returns to the outbox the messages of which no byte was written, as far as that is possible.
    pub(crate) fn return_unwritten(&self) {
        self.return_or_drop(None);
    }

    /// As [`return_unwritten`](Self::return_unwritten). If `dropped` gives a reason, all waiting messages are then dropped
    /// for it.
    fn return_or_drop(&self, dropped: Option<DropReason>) {
        let effects = self.lock().return_unwritten(&self.outbox, dropped);
        drop(effects.run());
    }

    /// Ends the taking of messages from the outbox.
    pub(crate) fn stop_taking(&self) {
        let _writer = self.lock();
        self.is_open.store(false, Relaxed);
    }

    /// Writes the last frame, unless other bytes wait for the socket. What the socket does not take at once is not written.
    pub(crate) fn write_last(&self, frame: &[u8]) {
        let mut writer = self.lock();
        self.is_open.store(false, Relaxed);
        let Writer { buffer: None, socket: Some(socket), .. } = &mut *writer else { return };
        let mut socket = Pin::new(socket);
        // The connection ends either way.
        poll_unconstrained(&mut Context::from_waker(Waker::noop()), |cx| {
            let _ = socket.as_mut().poll_write(cx, frame);
            let _ = socket.as_mut().poll_flush(cx);
        });
    }

    /// Ends all writing, by the task and by others, and leaves the socket open for reading. The messages not written as a
    /// whole wait in the outbox for another link.
    pub(crate) fn stop_writing(&self) {
        self.end_writing(self.lock());
    }

    /// As [`stop_writing`](Self::stop_writing), and closes the socket.
    pub(crate) fn close_socket(&self) {
        let mut writer = self.lock();
        let socket = writer.socket.take();
        self.end_writing(writer);
        drop(socket);
        let _task = self.lock_task().take();
    }

    fn end_writing(&self, mut writer: MutexGuard<'_, Writer<S>>) {
        if replace(&mut writer.is_over, true) {
            return;
        }
        self.is_open.store(false, Relaxed);
        let buffer = writer.buffer.take();
        drop(writer);
        let has_begun = buffer.as_ref().is_some_and(|buffer| buffer.has_begun());
        drop(buffer);
        self.outbox.detach(has_begun);
    }

    /// Writes up to `writes` times. The caller runs the effects after it has released the lock.
    fn write_up_to<'a>(
        &'a self,
        writer: &mut Writer<S>,
        writes: usize,
        effects: &mut Effects<'a>,
        cx: &mut Context<'_>,
    ) -> io::Result<Progress> {
        let progress = poll_unconstrained(cx, |cx| self.try_write(writer, writes, &mut effects.spent, cx));
        if matches!(progress, Ok(Progress::Blocked)) {
            // Of a transport with a buffer of its own, the system may take a part meanwhile.
            let since = writer.status().stalled.unwrap_or_else(Instant::now);
            self.outbox.note_blocked(since);
            if self.outbox.replaces() && writer.has_messages() {
                // A message of which no byte was written may have to make room for a newer one. Without messages, a change of the
                // outbox would only wake the link, which would ask the socket again, without end.
                let spent = take(&mut effects.spent);
                *effects = writer.return_unwritten(&self.outbox, None);
                effects.add_spent(spent);
            }
        }
        progress
    }

    fn try_write(
        &self,
        writer: &mut Writer<S>,
        writes: usize,
        spent: &mut Spent,
        cx: &mut Context<'_>,
    ) -> io::Result<Progress> {
        if let Some(error) = writer.failed.take() {
            return Err(error);
        }
        let is_open = self.is_open.load(Relaxed);
        for _ in 0..writes {
            let closing = if is_open { self.fill_buffer(writer) } else { None };
            if let Some(closing) = closing {
                return Ok(Progress::Closing(closing));
            }
            let (Some(buffer), Some(socket)) = (&mut writer.buffer, &mut writer.socket) else {
                return Ok(self.idle());
            };
            let polled = buffer.poll_write(socket, cx);
            // Even if the write was blocked or failed: earlier bytes may have reached the operating system by now.
            let messages = buffer.settle(socket.unsettled());
            if polled.is_pending() && messages == 0 {
                return Ok(Progress::Blocked);
            }
            let is_flushed = buffer.is_flushed();
            if is_flushed {
                writer.buffer.take().into_iter().for_each(WriteBuffer::recycle);
            }
            let sleeps = self.outbox.confirm_sent(messages, is_flushed && is_open, self.deflate.as_ref(), spent);
            let Poll::Ready(written) = polled else { return Ok(Progress::Blocked) };
            written?;
            if sleeps {
                return Ok(Progress::Done);
            }
        }
        Ok(Progress::Unfinished)
    }

    /// The progress when nothing is left in the write buffer.
    fn idle(&self) -> Progress {
        if self.is_resumable && self.outbox.is_held() { Progress::Held } else { Progress::Done }
    }
}

/// Polls outside tokio's cooperative budget: with the budget used up, tokio does not ask the socket at all, and that would
/// look like a socket that takes nothing.
pub(super) fn poll_unconstrained<R>(cx: &mut Context<'_>, mut f: impl FnMut(&mut Context<'_>) -> R) -> R {
    match pin!(unconstrained(poll_fn(|cx| Poll::Ready(f(cx))))).poll(cx) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("what is polled is always ready"),
    }
}

impl<S: Socket> Writer<S> {
    fn insist(&mut self, insists: bool) {
        self.socket.iter_mut().for_each(|socket| socket.insist(insists));
    }

    /// Whether messages wait for the socket.
    fn has_messages(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| buffer.has_messages())
    }

    fn status(&self) -> WriteStatus {
        let buffer = self.buffer.as_ref();
        WriteStatus {
            is_flushed: buffer.is_none(),
            answers_len: buffer.map_or(0, |buffer| buffer.answers_len()),
            stalled: buffer.and_then(|buffer| buffer.stalled),
        }
    }

    /// Returns to `outbox` the messages of which no byte was written, as far as that is possible.
    fn return_unwritten<'a>(&mut self, outbox: &'a Outbox, dropped: Option<DropReason>) -> Effects<'a> {
        // Both inside the lock: a thread that filled the buffer in between would write later messages before these.
        let count = self.buffer.as_mut().map_or(0, |buffer| buffer.take_back());
        outbox.untake(count, dropped)
    }

    /// Adds frames that are not messages.
    pub(crate) fn answer(&mut self, answers: &mut Vec<u8>) {
        if !answers.is_empty() {
            self.buffer.get_or_insert_with(WriteBuffer::spare).append_answers(take(answers));
        }
    }
}

impl<S: Socket> ScheduledWrite for SharedWriter<S> {
    fn prefetch(&self) {
        black_box(self.is_open.load(Relaxed));
        self.outbox.prefetch();
    }

    fn write_now(&self) -> Turn {
        // Cleared before the look into the outbox: a message pushed after that look schedules another write.
        self.is_scheduled.swap(false, AcqRel);
        let cx = &mut Context::from_waker(Waker::noop());
        let progress = if self.write_in_place(cx) { Ok(Progress::Done) } else { self.write(&mut Vec::new(), cx).0 };
        match progress {
            Ok(Progress::Done) if !self.outbox.wants_pong() => return Turn::Wait,
            Ok(Progress::Unfinished) if self.is_scheduled.swap(true, AcqRel) => return Turn::Wait,
            Ok(Progress::Unfinished) => return Turn::Again,
            Ok(Progress::Closing(_) | Progress::Blocked | Progress::Held | Progress::Done) => {}
            Err(error) => self.lock().failed = Some(error),
        }
        // The task does the rest. It must run even for a blocked socket, which was asked without a waker here.
        self.wake_task();
        Turn::Wait
    }

    fn wake(&self) {
        self.is_scheduled.store(false, Release);
        self.wake_task();
    }
}

impl<S: Socket> Outflow for SharedWriter<S> {
    fn wake(self: Arc<Self>) {
        match self.scheduler.clone() {
            // Behind a close frame there is nothing to write, but the program may close, for which the task has less time then. It
            // looks for that, under the outbox's lock, after it has let nothing more out.
            Some(_) if !self.is_open.load(Relaxed) => self.wake_task(),
            Some(scheduler) if !self.is_scheduled.swap(true, AcqRel) => scheduler.schedule(self),
            Some(_) => {}
            None => self.wake_task(),
        }
    }

    fn relieve(&self) -> Relief {
        let mut effects = Effects::default();
        let mut writer = self.lock();
        if !self.is_open.load(Relaxed) || writer.failed.is_some() {
            return Relief { takes: false, spent: Spent::default() };
        }
        // With the task's waker, so that the socket wakes the task. A task that has not run yet will ask the socket itself.
        let task = self.lock_task().clone().unwrap_or_else(|| Waker::noop().clone());
        let before = writer.status();
        writer.insist(true);
        let cx = &mut Context::from_waker(&task);
        let progress = self.write_up_to(&mut writer, WRITES_PER_PUSH, &mut effects, cx);
        writer.insist(false);
        let takes = matches!(progress, Ok(Progress::Done | Progress::Unfinished));
        let is_known = match progress {
            Ok(Progress::Done) => true,
            // The task was woken when that began, and the socket wakes it when that ends.
            Ok(Progress::Blocked) => before.stalled.is_some() && writer.status() == before,
            _ => false,
        };
        writer.failed = progress.err();
        drop(writer);
        if !is_known || self.outbox.wants_pong() {
            // The task does the rest: it watches the clock, and ends the connection.
            task.wake();
        }
        Relief { takes, spent: effects.run() }
    }

    fn clear(&self) {
        self.return_or_drop(Some(DropReason::Cleared));
    }

    fn stop(&self) {
        self.stop_writing();
    }
}
