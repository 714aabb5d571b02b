//! Writes for connections that sleep, in place of waking the task of each.
//!
//! In a fan-out to many connections their tasks take more time than all else that is ours: each is woken, run, and looks
//! around in memory that is in no cache any more. Measured with 5,000 connections: without tasks a delivery costs 0.86 of
//! what it does with them.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem::swap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::task::unconstrained;

/// For how many connections it writes before other tasks have their turn: as many as tokio runs tasks between two looks at
/// its sockets.
const FLUSHES_A_POLL: usize = 61;

/// What has something to write.
pub(crate) trait Flush: Send + Sync {
    /// Fetches what it is going to need into the cache.
    fn fetch(&self);

    /// Writes what can be written at once, and leaves the rest to the task.
    fn flush(&self);

    /// Has the task write.
    fn wake(&self);
}

/// The list of those for whom something is to be written.
#[derive(Default)]
pub(crate) struct Flusher {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_working: bool,
    due: VecDeque<Arc<dyn Flush>>,
    /// Whom to wake when something is due. `None` while it is awake.
    sleeper: Option<Waker>,
}

impl Flusher {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it written soon; by its own task when nobody is at [`work`](Self::work).
    pub(crate) fn ask(&self, connection: Arc<dyn Flush>) {
        let mut state = self.lock();
        if !state.is_working {
            drop(state);
            return connection.wake();
        }
        state.due.push_back(connection);
        let sleeper = state.sleeper.take();
        drop(state);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    /// Writes for those who ask, in their order, until the future is dropped.
    pub(crate) async fn work(&self) {
        let mut shift = Shift::begin(self);
        // A write takes a unit of the share of work that tokio gives a task at a time: here they are those of many tasks.
        unconstrained(poll_fn(|cx| shift.poll(cx))).await
    }
}

/// A flusher at work.
struct Shift<'a> {
    flusher: &'a Flusher,
    /// Those whose turn it is.
    round: VecDeque<Arc<dyn Flush>>,
}

impl<'a> Shift<'a> {
    fn begin(flusher: &'a Flusher) -> Self {
        flusher.lock().is_working = true;
        Self { flusher, round: VecDeque::new() }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.round.is_empty() {
            let mut state = self.flusher.lock();
            swap(&mut state.due, &mut self.round);
            if self.round.is_empty() {
                state.sleeper = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let count = self.round.len().min(FLUSHES_A_POLL);
        // Side by side: in the course of writing, each would wait for its own.
        self.round.range(..count).for_each(|connection| connection.fetch());
        self.round.drain(..count).for_each(|connection| connection.flush());
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Shift<'_> {
    fn drop(&mut self) {
        let State { due, .. } = std::mem::take(&mut *self.flusher.lock());
        self.round.iter().chain(&due).for_each(|connection| connection.wake());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Connection {
        flushes: AtomicUsize,
        wakes: AtomicUsize,
    }

    impl Flush for Connection {
        fn fetch(&self) {}

        fn flush(&self) {
            self.flushes.fetch_add(1, SeqCst);
        }

        fn wake(&self) {
            self.wakes.fetch_add(1, SeqCst);
        }
    }

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// How many were flushed, and how many woken.
    fn counts(connections: &[Arc<Connection>]) -> (usize, usize) {
        let sum = |count: fn(&Connection) -> &AtomicUsize| {
            connections.iter().map(|connection| count(connection).load(SeqCst)).sum()
        };
        (sum(|connection| &connection.flushes), sum(|connection| &connection.wakes))
    }

    #[test]
    fn those_who_ask_are_written_for_in_shares_that_let_other_tasks_run() {
        let (flusher, woken) = (Flusher::default(), Arc::new(WakeCount::default()));
        let connections: Vec<_> = (0..100).map(|_| Arc::new(Connection::default())).collect();
        let waker = woken.clone().into();
        let (mut work, mut cx) = (pin!(flusher.work()), Context::from_waker(&waker));
        assert!(work.as_mut().poll(&mut cx).is_pending());
        connections.iter().for_each(|connection| flusher.ask(connection.clone()));
        assert_eq!((woken.0.load(SeqCst), counts(&connections)), (1, (0, 0)));
        for expected in [61, 100, 100] {
            assert!(work.as_mut().poll(&mut cx).is_pending());
            assert_eq!(counts(&connections), (expected, 0));
        }
        // Twice by itself, while there may be more to do.
        assert_eq!(woken.0.load(SeqCst), 3);
        flusher.ask(connections[0].clone());
        assert_eq!(woken.0.load(SeqCst), 4);
    }

    #[test]
    fn nobody_is_forgotten_when_nobody_is_at_work() {
        let flusher = Flusher::default();
        let connections: Vec<_> = (0..100).map(|_| Arc::new(Connection::default())).collect();
        let ask_all = || connections.iter().for_each(|connection| flusher.ask(connection.clone()));
        ask_all();
        assert_eq!(counts(&connections), (0, 100));
        {
            let mut cx = Context::from_waker(Waker::noop());
            let mut work = pin!(flusher.work());
            assert!(work.as_mut().poll(&mut cx).is_pending());
            ask_all();
            // Some are written for, some have their turn, some wait for the next.
            assert!(work.as_mut().poll(&mut cx).is_pending());
            ask_all();
        }
        assert_eq!(counts(&connections), (61, 239));
        ask_all();
        assert_eq!(counts(&connections), (61, 339));
    }
}
