//! The way out of one connection: its outbox, what is on its way to the socket, and the socket.
//!
//! Who has something to write comes here, one at a time: the connection's own task, which also reads; on a runtime of one
//! thread the [`Flusher`]; and on any thread the one who pushes into a full outbox, before that is held against the peer.
//!
//! The lock of the writer comes before the one of the outbox, and behind a switchboard's. While any of them is held, no code
//! of the user's runs.

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

use tokio::{io::ReadBuf, task::unconstrained, time::Instant};
use tungstenite::protocol::Role;

use crate::{
    link::write_scheduler::{Flush, Flusher},
    outbox::{Aftermath, Closing, Outbox, Outflow, Relief, Spent},
    protocol::write_buffer::WriteBuffer,
    stats::DropReason,
    transport::socket::Socket,
};

/// How many bytes are made ready for one write; as many as are read at once.
const WRITE_BATCH_LEN: usize = 128 * 1024;

/// How many writes one turn has, while somebody pushes as fast as the peer reads, before others have theirs.
const WRITES_A_TURN: usize = 32;

/// How many writes one who pushes makes in between. More come when that was not enough.
const WRITES_A_PUSH: usize = 4;

/// As the outbox, the connection's task, the flusher and those who push share it.
///
/// In this order: what a write needs comes first, in two or three cache lines.
#[repr(C)]
pub(crate) struct Outlet<S> {
    flusher: Option<Arc<Flusher>>,
    outbox: Outbox,
    writer: Mutex<Writer<S>>,
    /// Messages may be written: no close frame has gone, and none has come.
    is_open: AtomicBool,
    /// It is on the flusher's list, where once is enough.
    is_due: AtomicBool,
    role: Role,
    /// The connection's task.
    task: Mutex<Option<Waker>>,
    /// How many messages the outbox had written before this link.
    written_before: u64,
}

/// The hold of a connection's task on its outlet. Without it the socket is closed, and nothing is written any more.
pub(crate) struct Hold<S: Socket>(Arc<Outlet<S>>);

impl<S: Socket> Deref for Hold<S> {
    type Target = Outlet<S>;

    fn deref(&self) -> &Outlet<S> {
        &self.0
    }
}

impl<S: Socket> Drop for Hold<S> {
    /// Also when the task is cancelled, what was not written whole waits for another link.
    fn drop(&mut self) {
        self.retire();
    }
}

/// How far writing has come.
pub(crate) enum Progress {
    /// The operating system has taken everything there was.
    Done,
    /// The last message is on its way, and this closing handshake is to follow it.
    Closing(Closing),
    /// The socket takes nothing more; its readiness wakes the task that asked.
    Blocked,
    /// There may be more to write, in another turn.
    Unfinished,
}

/// How things stand after a write, as far as reading and the clock depend on it.
#[derive(Default)]
pub(crate) struct Outward {
    pub(crate) is_flushed: bool,
    /// How many bytes wait that answer the peer's own.
    pub(crate) answers_len: usize,
    /// Since when the socket has taken nothing of what it was offered.
    pub(crate) stalled: Option<Instant>,
}

/// The socket, and what is on its way there.
#[repr(C)]
pub(crate) struct Writer<S> {
    /// There while something waits, or would wait if it could not be [taken back](Outlet::take_back).
    out: Option<Box<WriteBuffer>>,
    /// `None` once the connection is over.
    socket: Option<S>,
    /// Why the socket took nothing any more, for the task.
    failed: Option<io::Error>,
    /// Nothing is written any more, and the outbox knows.
    is_over: bool,
}

impl<S: Socket> Outlet<S> {
    /// What is put into `outbox` from now on is written by `flusher` if there is one, and else by the task that
    /// [`serve`](Self::serve)s this.
    ///
    /// `answer` goes out first.
    pub(crate) fn open(
        socket: S,
        mut answer: Vec<u8>,
        role: Role,
        outbox: Outbox,
        flusher: Option<Arc<Flusher>>,
    ) -> Hold<S> {
        let mut writer = Writer { socket: Some(socket), out: None, failed: None, is_over: false };
        writer.answer(&mut answer);
        let outlet = Arc::new(Self {
            written_before: outbox.stats().written.messages,
            outbox,
            writer: Mutex::new(writer),
            is_open: AtomicBool::new(true),
            is_due: AtomicBool::new(false),
            role,
            task: Mutex::default(),
            flusher,
        });
        outlet.outbox.attach(outlet.clone());
        Hold(outlet)
    }

    /// How many messages this link has written.
    pub(crate) fn written(&self) -> u64 {
        self.outbox.stats().written.messages - self.written_before
    }

    /// How many messages this link has written, or taken to be written.
    pub(crate) fn begun(&self) -> u64 {
        self.outbox.begun() - self.written_before
    }

    /// Nobody may keep this lock while user code runs: payloads that are done with are dropped behind it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Writer<S>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `task` be the one to be woken.
    pub(crate) fn serve(&self, task: Waker) {
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

    /// Writes what is there to be written, as far as the socket takes it. The closing handshake is for the caller to make.
    pub(crate) fn write(&self, answers: &mut Vec<u8>, cx: &mut Context<'_>) -> (io::Result<Progress>, Outward) {
        let mut writer = self.lock();
        writer.answer(answers);
        let (progress, aftermath) = self.write_and_give_back(&mut writer, WRITES_A_TURN, cx);
        let outward = writer.outward();
        drop(writer);
        drop(self.outbox.settle(aftermath));
        (progress, outward)
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.lock();
        let Some(socket) = &mut writer.socket else { return Poll::Pending };
        Pin::new(socket).poll_read(cx, space)
    }

    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.lock();
        let Some(socket) = &mut writer.socket else { return Poll::Ready(Ok(())) };
        Pin::new(socket).poll_shutdown(cx)
    }

    /// As [`Socket::reset_when_dropped`].
    pub(crate) fn reset_when_dropped(&self) {
        self.lock().socket.iter().for_each(S::reset_when_dropped);
    }

    /// As [`Socket::has_arrived`].
    pub(crate) fn has_arrived(&self) -> bool {
        self.lock().socket.as_ref().is_some_and(S::has_arrived)
    }

    /// As [`Socket::arrived_len`].
    pub(crate) fn arrived_len(&self) -> usize {
        self.lock().socket.as_ref().map_or(0, S::arrived_len)
    }

    /// Gives the messages of which nothing was written back to the outbox, as far as that is possible.
    pub(crate) fn take_back(&self) {
        self.give_back(None);
    }

    /// As [`take_back`](Self::take_back); for a reason, they are dropped there with all that wait.
    fn give_back(&self, dropped: Option<DropReason>) {
        let aftermath = self.lock().give_back(&self.outbox, dropped);
        drop(self.outbox.settle(aftermath));
    }

    /// Takes no more messages from the outbox.
    pub(crate) fn shut(&self) {
        let _writer = self.lock();
        self.is_open.store(false, Relaxed);
    }

    /// Ends all writing, also by others than the task, and leaves the socket for reading. What was not written whole waits in
    /// the outbox for another link.
    pub(crate) fn give_up(&self) {
        self.end_writing(self.lock());
    }

    /// As [`give_up`](Self::give_up), and closes the socket.
    pub(crate) fn retire(&self) {
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
        let out = writer.out.take();
        drop(writer);
        let has_begun = out.as_ref().is_some_and(|out| out.has_begun());
        drop(out);
        self.outbox.link_lost(has_begun);
    }

    /// Writes, up to `writes` times. What is left to do and to drop is for later, behind the lock.
    fn write_and_give_back(
        &self,
        writer: &mut Writer<S>,
        writes: usize,
        cx: &mut Context<'_>,
    ) -> (io::Result<Progress>, Aftermath) {
        let mut spent = Spent::default();
        let progress = beside_the_budget(cx, |cx| self.write_with(writer, writes, &mut spent, cx));
        let mut aftermath = Aftermath::default();
        if matches!(progress, Ok(Progress::Blocked)) {
            self.outbox.refused();
            if self.outbox.drops_oldest() {
                // What has not begun to be written may have to make room for something newer.
                aftermath = writer.give_back(&self.outbox, None);
            }
        }
        aftermath.drop_too(spent);
        (progress, aftermath)
    }

    fn write_with(
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
            let closing = if is_open { self.fill(writer) } else { None };
            if let Some(closing) = closing {
                return Ok(Progress::Closing(closing));
            }
            let (Some(out), Some(socket)) = (&mut writer.out, &mut writer.socket) else {
                return Ok(Progress::Done);
            };
            let polled = out.poll_write(socket, cx);
            // Also when it was blocked, or failed, in the course of it.
            let messages = out.settle(socket.unsettled());
            if polled.is_pending() && messages == 0 {
                return Ok(Progress::Blocked);
            }
            let is_flushed = out.is_flushed();
            if is_flushed {
                writer.out.take().into_iter().for_each(WriteBuffer::recycle);
            }
            let (done, is_idle) = self.outbox.written(messages, is_flushed && is_open);
            spent.append(done);
            let Poll::Ready(written) = polled else { return Ok(Progress::Blocked) };
            written?;
            if is_idle {
                return Ok(Progress::Done);
            }
        }
        Ok(Progress::Unfinished)
    }

    /// Moves messages from the outbox into the write buffer. Returns the closing handshake that is to follow the last one.
    fn fill(&self, writer: &mut Writer<S>) -> Option<Closing> {
        let budget = match &writer.out {
            // A socket that takes nothing is offered what is here already before anything is encoded for it.
            Some(out) if out.stalled.is_some() && !out.is_empty() => 0,
            Some(out) => WRITE_BATCH_LEN.saturating_sub(out.len()),
            None => WRITE_BATCH_LEN,
        };
        self.outbox.take_each(budget, |frame| {
            writer.out.get_or_insert_with(WriteBuffer::spare).append(frame, self.role);
        })
    }
}

/// Polls whatever is left of the share of work that tokio gives a task at a time: a socket that is not even asked for want of
/// it would look like one that takes nothing.
fn beside_the_budget<R>(cx: &mut Context<'_>, mut f: impl FnMut(&mut Context<'_>) -> R) -> R {
    match pin!(unconstrained(poll_fn(|cx| Poll::Ready(f(cx))))).poll(cx) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("what is polled is always ready"),
    }
}

impl<S: Socket> Writer<S> {
    fn insist(&mut self, insists: bool) {
        self.socket.iter_mut().for_each(|socket| socket.insist(insists));
    }

    fn outward(&self) -> Outward {
        let out = self.out.as_ref();
        Outward {
            is_flushed: out.is_none(),
            answers_len: out.map_or(0, |out| out.answers_len()),
            stalled: out.and_then(|out| out.stalled),
        }
    }

    /// Gives back to `outbox` the messages of which nothing was written, as far as that is possible.
    fn give_back(&mut self, outbox: &Outbox, dropped: Option<DropReason>) -> Aftermath {
        // Both under the lock: whoever fills the buffer in between would go on behind what comes back.
        let count = self.out.as_mut().map_or(0, |out| out.take_back());
        outbox.give_back(count, dropped)
    }

    /// Adds frames that are no messages.
    pub(crate) fn answer(&mut self, answers: &mut Vec<u8>) {
        if !answers.is_empty() {
            self.out.get_or_insert_with(WriteBuffer::spare).append_answers(take(answers));
        }
    }
}

impl<S: Socket> Flush for Outlet<S> {
    fn fetch(&self) {
        black_box(self.is_open.load(Relaxed));
        self.outbox.fetch();
    }

    fn flush(&self) -> bool {
        // Before the look into the outbox: what comes behind that is asked for anew.
        self.is_due.swap(false, AcqRel);
        match self.write(&mut Vec::new(), &mut Context::from_waker(Waker::noop())).0 {
            Ok(Progress::Done) => return false,
            Ok(Progress::Unfinished) => return !self.is_due.swap(true, AcqRel),
            Ok(Progress::Closing(_) | Progress::Blocked) => {}
            Err(error) => self.lock().failed = Some(error),
        }
        // The rest is the task's. It has to come also for this: the socket knows of nobody now whom it could wake.
        self.wake_task();
        false
    }

    fn wake(&self) {
        self.is_due.store(false, Release);
        self.wake_task();
    }
}

impl<S: Socket> Outflow for Outlet<S> {
    fn wake(self: Arc<Self>) {
        match self.flusher.clone() {
            Some(flusher) if !self.is_due.swap(true, AcqRel) => flusher.ask(self),
            Some(_) => {}
            None => self.wake_task(),
        }
    }

    fn relieve(&self) -> Relief {
        let mut writer = self.lock();
        if !self.is_open.load(Relaxed) || writer.failed.is_some() {
            return Relief { takes: false, spent: Spent::default() };
        }
        // The task's own, so that the socket wakes the one who serves it; before it serves it, it is going to ask for itself.
        let task = self.lock_task().clone().unwrap_or_else(|| Waker::noop().clone());
        writer.insist(true);
        let (progress, aftermath) =
            self.write_and_give_back(&mut writer, WRITES_A_PUSH, &mut Context::from_waker(&task));
        writer.insist(false);
        let takes = matches!(progress, Ok(Progress::Done | Progress::Unfinished));
        let is_done = matches!(progress, Ok(Progress::Done));
        writer.failed = progress.err();
        drop(writer);
        if !is_done {
            // The rest, the clock and whatever ends the connection are the task's.
            task.wake();
        }
        Relief { takes, spent: self.outbox.settle(aftermath) }
    }

    fn clear(&self) {
        self.give_back(Some(DropReason::Cleared));
    }
}
