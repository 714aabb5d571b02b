//! The way out of one connection: its outbox, what is on its way to the socket, and the socket.
//!
//! Whoever has something to write comes here: the connection's own task, which also reads, and the [`Flusher`].

use std::{
    hint::black_box,
    io,
    mem::take,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tungstenite::protocol::Role;

use crate::ws::{
    flusher::{Flush, Flusher},
    outbox::{Closing, Outbox, Spent},
    wire::WriteBuffer,
};

/// How many bytes are made ready for one write.
const WRITE_BATCH_LEN: usize = 64 * 1024;

/// What a connection is served on.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Has the operating system forget what it has not sent when the socket is dropped. Otherwise it would keep that, for
    /// minutes, for a peer that takes nothing.
    fn reset_when_dropped(&self);
}

/// As the outbox, the connection's task and the flusher share it.
///
/// In this order, so that what a write needs is in as few cache lines as there can be.
#[repr(C)]
pub(crate) struct Outlet<S> {
    flusher: Option<Arc<Flusher>>,
    outbox: Outbox,
    writer: Mutex<Writer<S>>,
    /// Messages may be written: no close frame has gone, and none has come.
    is_open: AtomicBool,
    role: Role,
    /// The connection's task.
    task: Mutex<Option<Waker>>,
}

/// What became of a write: `Pending` while the socket takes nothing, and the closing handshake that is to be made once the
/// last message is on its way.
type Written = Poll<io::Result<Option<Closing>>>;

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
    /// There while something waits.
    out: Option<Box<WriteBuffer>>,
    pub(crate) socket: S,
    /// Why the socket took nothing any more, for the task.
    failed: Option<io::Error>,
}

impl<S: Socket + Send + 'static> Outlet<S> {
    /// What is put into `outbox` from now on is written by `flusher` if there is one, and else by the task that
    /// [`serve`](Self::serve)s this.
    pub(crate) fn new(socket: S, role: Role, outbox: Outbox, flusher: Option<Arc<Flusher>>) -> Arc<Self> {
        let writer = Writer { socket, out: None, failed: None };
        let outlet = Arc::new(Self {
            outbox,
            writer: Mutex::new(writer),
            is_open: AtomicBool::new(true),
            role,
            task: Mutex::default(),
            flusher,
        });
        outlet.outbox.attach(Waker::from(outlet.clone()));
        outlet
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

    /// Writes what is there to be written, as far as the socket takes it. The closing handshake is for the caller to make,
    /// once the last message is on its way.
    pub(crate) fn write(&self, answers: &mut Vec<u8>, cx: &mut Context<'_>) -> (Written, Outward) {
        let mut spent = Spent::default();
        // Given back before what is spent is dropped.
        let mut writer = self.lock();
        writer.answer(answers);
        (self.write_with(&mut writer, &mut spent, cx), writer.outward())
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().socket).poll_read(cx, space)
    }

    /// Gives the messages of which nothing was written back to the outbox, as far as that is possible.
    pub(crate) fn take_back(&self) {
        let mut spent = Spent::default();
        let mut writer = self.lock();
        self.take_back_from(&mut writer, &mut spent);
    }

    /// Takes no more messages from the outbox.
    pub(crate) fn shut(&self) {
        let _writer = self.lock();
        self.is_open.store(false, Relaxed);
    }

    /// Ends all writing, also for a flusher that has been asked to write. What was not written whole waits in the outbox for
    /// another link.
    pub(crate) fn retire(&self) {
        self.shut();
        self.lock().out = None;
        self.outbox.link_lost();
    }

    fn write_with(&self, writer: &mut Writer<S>, spent: &mut Spent, cx: &mut Context<'_>) -> Written {
        if let Some(error) = writer.failed.take() {
            return Poll::Ready(Err(error));
        }
        let is_open = self.is_open.load(Relaxed);
        loop {
            let closing = if is_open { self.fill(writer) } else { None };
            let Some(out) = writer.out.as_mut().filter(|_| closing.is_none()) else {
                return Poll::Ready(Ok(closing));
            };
            let Poll::Ready(written) = out.poll_write(&mut writer.socket, cx) else {
                out.stalled.get_or_insert_with(Instant::now);
                if self.outbox.drops_oldest() {
                    // What has not begun to be written may have to make room for something newer.
                    self.take_back_from(writer, spent);
                }
                return Poll::Pending;
            };
            let messages = written?;
            let is_flushed = out.is_flushed();
            if is_flushed {
                writer.out.take().into_iter().for_each(WriteBuffer::give_back);
            }
            let (done, is_idle) = self.outbox.written(messages, is_flushed && is_open);
            spent.append(done);
            if is_idle {
                return Poll::Ready(Ok(None));
            }
        }
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
            writer.out.get_or_insert_with(WriteBuffer::lend).append(frame, self.role);
        })
    }

    fn take_back_from(&self, writer: &mut Writer<S>, spent: &mut Spent) {
        let Some(out) = &mut writer.out else { return };
        spent.append(self.outbox.give_back(out.take_back()));
    }
}

impl<S: Socket> Writer<S> {
    fn outward(&self) -> Outward {
        let out = self.out.as_ref();
        Outward {
            is_flushed: out.is_none(),
            answers_len: out.map_or(0, |out| out.answers_len()),
            stalled: out.and_then(|out| out.stalled),
        }
    }

    /// Adds frames that are no messages.
    pub(crate) fn answer(&mut self, answers: &mut Vec<u8>) {
        if !answers.is_empty() {
            self.out.get_or_insert_with(WriteBuffer::lend).append_answers(take(answers));
        }
    }
}

impl<S: Socket + Send + 'static> Flush for Outlet<S> {
    fn flush(&self) {
        // Whatever is left to be done, or waited for, is the task's.
        match self.write(&mut Vec::new(), &mut Context::from_waker(Waker::noop())).0 {
            Poll::Ready(Ok(None)) => {}
            Poll::Ready(Ok(Some(_))) | Poll::Pending => self.wake(),
            Poll::Ready(Err(error)) => {
                self.lock().failed = Some(error);
                self.wake();
            }
        }
    }

    fn fetch(&self) {
        black_box(self.is_open.load(Relaxed));
        self.outbox.fetch();
    }

    fn wake(&self) {
        if let Some(task) = &*self.lock_task() {
            task.wake_by_ref();
        }
    }
}

/// Called when there is something new in the outbox.
impl<S: Socket + Send + 'static> Wake for Outlet<S> {
    fn wake(self: Arc<Self>) {
        match self.flusher.clone() {
            Some(flusher) => flusher.ask(self),
            None => Flush::wake(&*self),
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Wake::wake(self.clone());
    }
}
