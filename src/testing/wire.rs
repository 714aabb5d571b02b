//! [`Wire`]: the two directions of a connection, and what is wrong with it.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{io::ReadBuf, time::Instant};

/// How many bytes are on their way in one direction at most: the buffers of two sockets.
const CAPACITY: usize = 64 * 1024;

/// A connection, as both of its ends share it.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<State>>);

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

#[derive(Default)]
struct State {
    to_server: Direction,
    to_client: Direction,
    condition: Condition,
    latency: Duration,
}

/// Whether the wire carries anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Condition {
    #[default]
    Sound,
    /// Bytes wait until it is sound again.
    Stalled,
    /// Bytes vanish, and nobody is told.
    HalfOpen,
    /// Both ends get an error.
    Cut,
}

#[derive(Default)]
struct Direction {
    /// Bytes, and when they arrive.
    bytes: VecDeque<(Instant, VecDeque<u8>)>,
    len: usize,
    /// The writer has shut down, or is gone.
    is_over: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What a read finds.
pub(super) enum Read {
    /// So many bytes were read; 0 is the end.
    Bytes,
    /// Nothing until then.
    NotBefore(Instant),
    Pending,
}

impl Wire {
    pub(super) fn new(latency: Duration, condition: Condition) -> Self {
        Self(Arc::new(Mutex::new(State { latency, condition, ..State::default() })))
    }

    /// Whether both ends are gone.
    pub(super) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    pub(super) fn set_condition(&self, condition: Condition) {
        let mut state = self.lock();
        state.condition = condition;
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn read(&self, end: End, space: &mut ReadBuf<'_>, cx: &Context<'_>) -> io::Result<Read> {
        let mut state = self.lock();
        if state.condition == Condition::Cut {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let carries = state.condition == Condition::Sound;
        let direction = state.towards(end);
        let first = direction.bytes.front().map(|(due, _)| *due).filter(|_| carries);
        match first {
            Some(due) if due <= Instant::now() => {
                let written = direction.take(space);
                drop(state);
                written.into_iter().for_each(Waker::wake);
                Ok(Read::Bytes)
            }
            Some(due) => Ok(Read::NotBefore(due)),
            None if direction.is_over && direction.bytes.is_empty() && carries => Ok(Read::Bytes),
            None => {
                direction.reader = Some(cx.waker().clone());
                Ok(Read::Pending)
            }
        }
    }

    pub(super) fn write(&self, end: End, bytes: &[u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let due = Instant::now() + state.latency;
        match state.condition {
            Condition::Cut => return Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
            Condition::HalfOpen => return Poll::Ready(Ok(bytes.len())),
            Condition::Sound | Condition::Stalled => {}
        }
        let direction = state.from(end);
        if direction.is_over {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let len = bytes.len().min(CAPACITY - direction.len);
        if len == 0 && !bytes.is_empty() {
            direction.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        direction.bytes.push_back((due, bytes[..len].iter().copied().collect()));
        direction.len += len;
        let reader = direction.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(len))
    }

    /// The end writes no more.
    pub(super) fn finish(&self, end: End) {
        let mut state = self.lock();
        if state.condition == Condition::HalfOpen {
            return;
        }
        state.from(end).is_over = true;
        let reader = state.from(end).reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// The end is gone: it reads no more either.
    pub(super) fn leave(&self, end: End) {
        self.finish(end);
        let mut state = self.lock();
        if state.condition == Condition::HalfOpen {
            return;
        }
        let direction = state.towards(end);
        direction.is_over = true;
        let writer = direction.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn from(&mut self, end: End) -> &mut Direction {
        match end {
            End::Client => &mut self.to_server,
            End::Server => &mut self.to_client,
        }
    }

    fn towards(&mut self, end: End) -> &mut Direction {
        match end {
            End::Client => &mut self.to_client,
            End::Server => &mut self.to_server,
        }
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        let directions = [&mut self.to_server, &mut self.to_client];
        directions
            .into_iter()
            .flat_map(|direction| [direction.reader.take(), direction.writer.take()])
            .flatten()
            .collect()
    }
}

impl Direction {
    /// Moves what is due into `space`. Returns the writer, if it waits for room.
    fn take(&mut self, space: &mut ReadBuf<'_>) -> Option<Waker> {
        let now = Instant::now();
        while space.remaining() > 0
            && let Some((due, bytes)) = self.bytes.front_mut()
            && *due <= now
        {
            let len = bytes.len().min(space.remaining());
            let taken: Vec<u8> = bytes.drain(..len).collect();
            space.put_slice(&taken);
            self.len -= len;
            if bytes.is_empty() {
                self.bytes.pop_front();
            }
        }
        self.writer.take()
    }
}
