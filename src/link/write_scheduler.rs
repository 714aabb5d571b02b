//! [`WriteScheduler`]: one task that writes for connections whose own tasks sleep, instead of waking each of them.
//!
//! Why: when a message goes out to many connections, their tasks cost more than everything else in this crate. Each is
//! woken, scheduled and run, and touches memory that has left the caches. Measured with 5,000 connections, a delivery
//! without their tasks costs 0.86 of a delivery with them. On a runtime of several threads there is no scheduler: there the
//! tasks write side by side, which a single task could not.
//!
//! To the runtime the scheduler is one task with one turn, where the tasks of the connections would have had a turn each. So
//! it writes a round for all of them before any other task has a turn: otherwise a program that sends much would fill the
//! outboxes faster than they are emptied. In a round each connection writes a bounded part, and the rest in the next round.
//!
//! A server with several threads has a scheduler on each, and they wake each other by the first message of a fan-out. One that
//! is woken on the core of the thread that wakes it runs at once, finds one connection that has something to write, sleeps, and
//! is woken for the next one: 26 times for 16 messages to 500 connections. So while that thread is still [handing on](HandingOn)
//! messages it lets it go on first, once, which costs 0.89 of the CPU time for each delivery. A thread that blocks, or has
//! another core, keeps it from nothing.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem::{swap, take},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    thread,
};

use crate::{
    link::Turn,
    outbox::FETCHED_AT_ONCE,
    runtime::{self, callback},
};

/// A connection that has something to write.
pub(crate) trait ScheduledWrite: Send + Sync {
    /// Loads the memory that [`write_now`](Self::write_now) needs into the cache.
    fn prefetch(&self);

    /// Writes as much as the socket takes, and wakes the connection's task if the task has something to do. [`Turn::Again`]
    /// if there is more to write in another round.
    fn write_now(&self) -> Turn;

    /// Leaves the write to the connection's task.
    fn wake(&self);
}

/// The list of the connections that have something to write.
#[derive(Default)]
pub(crate) struct WriteScheduler {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_running: bool,
    due: VecDeque<Arc<dyn ScheduledWrite>>,
    /// The waker of the scheduler's task. `None` while the task is awake.
    sleeper: Option<Waker>,
    /// Whether the thread that has woken it is handing on messages.
    waker_goes_on: Option<Arc<AtomicBool>>,
}

thread_local! {
    /// Whether this thread is handing on messages.
    static GOES_ON: Arc<AtomicBool> = Arc::default();
}

/// The part of a driver's turn in which messages are handed on, whose callbacks may push more.
pub(super) struct HandingOn(());

impl HandingOn {
    pub(super) fn begin() -> Self {
        GOES_ON.with(|goes_on| goes_on.store(true, Relaxed));
        Self(())
    }
}

impl Drop for HandingOn {
    fn drop(&mut self) {
        GOES_ON.with(|goes_on| goes_on.store(false, Relaxed));
    }
}

impl WriteScheduler {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Schedules a write; if the scheduler does not [`run`](Self::run), wakes the connection's task instead. The connection
    /// must not be on the list already.
    pub(crate) fn schedule(&self, connection: Arc<dyn ScheduledWrite>) {
        let mut state = self.lock();
        if !state.is_running {
            drop(state);
            return connection.wake();
        }
        state.due.push_back(connection);
        let Some(sleeper) = state.sleeper.take() else { return };
        // In vain on a thread that is ending.
        state.waker_goes_on = GOES_ON.try_with(|goes_on| goes_on.load(Relaxed).then(|| goes_on.clone())).ok().flatten();
        drop(state);
        sleeper.wake();
    }

    /// Puts the connections that are due into `round`, which is empty. If the thread that has woken this one is in the middle of
    /// something and has no other core, that comes first.
    fn take_due(&self, round: &mut VecDeque<Arc<dyn ScheduledWrite>>) {
        let mut state = self.lock();
        if state.waker_goes_on.take().is_some_and(|goes_on| goes_on.load(Relaxed)) {
            drop(state);
            thread::yield_now();
            state = self.lock();
        }
        swap(&mut state.due, round);
    }

    /// Writes for the scheduled connections, in their order, until the future is dropped.
    pub(crate) async fn run(&self) {
        let mut worker = Worker::start(self);
        poll_fn(|cx| worker.poll(cx)).await
    }
}

/// A scheduler that runs. Dropping it leaves the writes on its list to the tasks.
struct Worker<'a> {
    scheduler: &'a WriteScheduler,
    /// The connections that write in this round.
    round: VecDeque<Arc<dyn ScheduledWrite>>,
}

impl<'a> Worker<'a> {
    fn start(scheduler: &'a WriteScheduler) -> Self {
        scheduler.lock().is_running = true;
        Self { scheduler, round: VecDeque::new() }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.scheduler.take_due(&mut self.round);
        while !self.round.is_empty() {
            let count = self.round.len().min(FETCHED_AT_ONCE);
            // All together, so that the waits for memory overlap.
            self.round.range(..count).for_each(|connection| connection.prefetch());
            self.round.drain(..count).for_each(|connection| write_for(self.scheduler, connection));
        }
        let mut state = self.scheduler.lock();
        if state.due.is_empty() {
            state.sleeper = Some(cx.waker().clone());
        } else {
            drop(state);
            runtime::yield_now(cx);
        }
        Poll::Pending
    }
}

/// Writes for one connection. A panic while it writes affects no other one.
fn write_for(scheduler: &WriteScheduler, connection: Arc<dyn ScheduledWrite>) {
    let mut turn = Turn::Wait;
    if !callback::isolate("the writing for a connection", || turn = connection.write_now()) {
        connection.wake();
    }
    match turn {
        Turn::Again => scheduler.schedule(connection),
        Turn::Wait => {}
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let State { due, .. } = take(&mut *self.scheduler.lock());
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
        writes: AtomicUsize,
        wakes: AtomicUsize,
        /// How many more turns it needs.
        unfinished: AtomicUsize,
    }

    impl ScheduledWrite for Connection {
        fn prefetch(&self) {}

        fn write_now(&self) -> Turn {
            assert!(self.writes.fetch_add(1, SeqCst) < 5, "this is what panics");
            let again = self.unfinished.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
            Turn::again_if(again)
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

    /// How many writes there were, and how many tasks were woken.
    fn counts(connections: &[Arc<Connection>]) -> (usize, usize) {
        let sum = |count: fn(&Connection) -> &AtomicUsize| {
            connections.iter().map(|connection| count(connection).load(SeqCst)).sum()
        };
        (sum(|connection| &connection.writes), sum(|connection| &connection.wakes))
    }

    #[test]
    fn round_is_written_to_its_end_before_the_next() {
        let (scheduler, woken) = (WriteScheduler::default(), Arc::new(WakeCount::default()));
        let connections: Vec<_> = (0..100).map(|_| Arc::new(Connection::default())).collect();
        let waker = woken.clone().into();
        let (mut run, mut cx) = (pin!(scheduler.run()), Context::from_waker(&waker));
        assert!(run.as_mut().poll(&mut cx).is_pending());
        connections.iter().for_each(|connection| scheduler.schedule(connection.clone()));
        connections[7].unfinished.store(2, SeqCst);
        assert_eq!((woken.0.load(SeqCst), counts(&connections)), (1, (0, 0)));
        // It wakes itself as long as one is not done.
        for (expected, wakes) in [(100, 2), (101, 3), (102, 3), (102, 3)] {
            assert!(run.as_mut().poll(&mut cx).is_pending());
            assert_eq!((counts(&connections), woken.0.load(SeqCst)), ((expected, 0), wakes));
        }
        scheduler.schedule(connections[0].clone());
        assert_eq!(woken.0.load(SeqCst), 4);
    }

    #[test]
    fn connection_whose_write_panics_affects_no_other() {
        let scheduler = WriteScheduler::default();
        let connections: Vec<_> = (0..100).map(|_| Arc::new(Connection::default())).collect();
        connections[30].writes.store(5, SeqCst);
        let mut run = pin!(scheduler.run());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(run.as_mut().poll(&mut cx).is_pending());
        connections.iter().for_each(|connection| scheduler.schedule(connection.clone()));
        assert!(run.as_mut().poll(&mut cx).is_pending());
        assert_eq!(counts(&connections), (5 + 100, 1));
    }

    #[test]
    fn tasks_write_while_the_scheduler_does_not_run() {
        let scheduler = WriteScheduler::default();
        let connections: Vec<_> = (0..100).map(|_| Arc::new(Connection::default())).collect();
        let schedule_all = || connections.iter().for_each(|connection| scheduler.schedule(connection.clone()));
        schedule_all();
        assert_eq!(counts(&connections), (0, 100));
        {
            let mut run = pin!(scheduler.run());
            assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            schedule_all();
        }
        assert_eq!(counts(&connections), (0, 200));
        schedule_all();
        assert_eq!(counts(&connections), (0, 300));
    }

    #[test]
    fn it_is_known_whether_the_waker_goes_on_until_the_scheduler_runs() {
        let scheduler = WriteScheduler::default();
        let mut run = pin!(scheduler.run());
        let mut poll = || assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let connection = Arc::new(Connection::default());
        let goes_on = || scheduler.lock().waker_goes_on.as_ref().map(|goes_on| goes_on.load(Relaxed));
        poll();
        scheduler.schedule(connection.clone());
        assert_eq!(goes_on(), None);
        poll();
        let handing_on = HandingOn::begin();
        scheduler.schedule(connection.clone());
        assert_eq!(goes_on(), Some(true));
        drop(handing_on);
        assert_eq!(goes_on(), Some(false));
        poll();
        assert_eq!(goes_on(), None);
    }
}
