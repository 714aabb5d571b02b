//! Writes for connections that sleep, in place of waking the task of each.
//!
//! In a fan-out to many connections their tasks take more time than all else that is ours: each is woken, run, and looks
//! around in memory that is in no cache any more. Measured with 5,000 connections: without tasks a delivery costs 0.86 of
//! what it does with them.
//!
//! It is one task, so a round of it counts as one turn where the tasks of the connections would have had one each. A round
//! is written to its end all the same before anybody else has a turn, as the queue of tasks would have it: else one who has
//! much to say would fill outboxes faster than they are looked at. Each connection writes a bounded part in a round; what is
//! left has the next one.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem::{swap, take},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    outbox::FETCHED_AT_ONCE,
    runtime::{self, callback},
};

/// What has something to write.
pub(crate) trait Flush: Send + Sync {
    /// Fetches what it is going to need into the cache.
    fn fetch(&self);

    /// Writes what can be written at once, and leaves what the task has to do to the task. True when there is more, for
    /// another round.
    fn flush(&self) -> bool;

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

    /// Has it written soon; by its own task when nobody is at [`work`](Self::work). For one who is not on the list.
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
        poll_fn(|cx| shift.poll(cx)).await
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        swap(&mut self.flusher.lock().due, &mut self.round);
        while !self.round.is_empty() {
            let count = self.round.len().min(FETCHED_AT_ONCE);
            // Side by side: in the course of writing, each would wait for its own.
            self.round.range(..count).for_each(|connection| connection.fetch());
            self.round.drain(..count).for_each(|connection| write_for(self.flusher, connection));
        }
        let mut state = self.flusher.lock();
        if state.due.is_empty() {
            state.sleeper = Some(cx.waker().clone());
        } else {
            drop(state);
            runtime::yield_now(cx);
        }
        Poll::Pending
    }
}

/// What goes wrong with one connection stays with it.
fn write_for(flusher: &Flusher, connection: Arc<dyn Flush>) {
    let mut is_unfinished = false;
    if !callback::isolate("the writing for a connection", || is_unfinished = connection.flush()) {
        connection.wake();
    }
    if is_unfinished {
        flusher.ask(connection);
    }
}

impl Drop for Shift<'_> {
    fn drop(&mut self) {
        let State { due, .. } = take(&mut *self.flusher.lock());
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
        /// How many more turns it needs.
        unfinished: AtomicUsize,
    }

    impl Flush for Connection {
        fn fetch(&self) {}

        fn flush(&self) -> bool {
            assert!(self.flushes.fetch_add(1, SeqCst) < 5, "this is what panics");
            self.unfinished.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
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
    fn round_is_written_to_its_end_and_what_comes_meanwhile_has_the_next() {
        let (flusher, woken) = (Flusher::default(), Arc::new(WakeCount::default()));
        let connections: Vec<_> = (0..100).map(|_| Arc::new(Connection::default())).collect();
        let waker = woken.clone().into();
        let (mut work, mut cx) = (pin!(flusher.work()), Context::from_waker(&waker));
        assert!(work.as_mut().poll(&mut cx).is_pending());
        connections.iter().for_each(|connection| flusher.ask(connection.clone()));
        connections[7].unfinished.store(2, SeqCst);
        assert_eq!((woken.0.load(SeqCst), counts(&connections)), (1, (0, 0)));
        // It wakes itself as long as one is not done.
        for (expected, wakes) in [(100, 2), (101, 3), (102, 3), (102, 3)] {
            assert!(work.as_mut().poll(&mut cx).is_pending());
            assert_eq!((counts(&connections), woken.0.load(SeqCst)), ((expected, 0), wakes));
        }
        flusher.ask(connections[0].clone());
        assert_eq!(woken.0.load(SeqCst), 4);
    }

    #[test]
    fn connection_whose_writing_panics_takes_no_other_with_it() {
        let flusher = Flusher::default();
        let connections: Vec<_> = (0..100).map(|_| Arc::new(Connection::default())).collect();
        connections[30].flushes.store(5, SeqCst);
        let mut work = pin!(flusher.work());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(work.as_mut().poll(&mut cx).is_pending());
        connections.iter().for_each(|connection| flusher.ask(connection.clone()));
        assert!(work.as_mut().poll(&mut cx).is_pending());
        assert_eq!(counts(&connections), (5 + 100, 1));
    }

    #[test]
    fn nobody_is_forgotten_when_nobody_is_at_work() {
        let flusher = Flusher::default();
        let connections: Vec<_> = (0..100).map(|_| Arc::new(Connection::default())).collect();
        let ask_all = || connections.iter().for_each(|connection| flusher.ask(connection.clone()));
        ask_all();
        assert_eq!(counts(&connections), (0, 100));
        {
            let mut work = pin!(flusher.work());
            assert!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            ask_all();
        }
        assert_eq!(counts(&connections), (0, 200));
        ask_all();
        assert_eq!(counts(&connections), (0, 300));
    }
}
