//! [`RunQueue`]: a queue of tasks that one thread runs in the order in which they came, whichever threads they came from.
//!
//! tokio's single-threaded runtime has two queues, one for tasks that its own thread spawns and one for all others, and
//! looks into them by turns; this has one. It has its own delays too: tokio's timers would let a task whose time came while
//! it waited for its first turn overtake one whose timer is yet to be noticed.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem::take,
    pin::Pin,
    sync::{Arc, PoisonError, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use rxrust::{scheduler::TaskHandle, subscription::Subscription};
use tokio::time::{Instant, Sleep};

use super::task_handle;
use crate::{
    runtime::{self, callback},
    sync::{AtomicBool, Mutex, MutexGuard, Ordering},
};

/// The work of a task. In a box, since a queue runs tasks of all types, and since a program compiles what tokio needs for a task
/// once for each type of task.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many jobs are run before sockets and timers get their turn: about as often as tokio looks at them itself. Fewer if
/// they have made as many deliveries as a thread may make in one turn.
const JOBS_PER_TURN: usize = 61;

/// A queue that grew beyond this in a burst is freed once it is empty.
const KEPT_CAPACITY: usize = 4_096;

/// The delay used if a delay is too long for the clock: 30 years, as in tokio.
const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);

pub(crate) struct RunQueue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<Job>>,
    /// By the time they are due, then by their number, which is the order in which they came.
    delayed: BTreeMap<(Instant, u64), Arc<Job>>,
    /// The jobs that have begun and not finished; apart from here, only their wakers know them.
    begun: HashMap<u64, Arc<Job>>,
    last_number: u64,
    /// The runner's, while it has nothing to do.
    runner: Option<Waker>,
    closed: bool,
}

/// The next step of a runner.
pub(crate) enum Turn {
    Run(Arc<Job>),
    /// Nothing until that time, or until it is woken.
    Idle(Option<Instant>),
    Closed,
}

/// A task in a queue.
pub(crate) struct Job {
    number: u64,
    queue: Weak<RunQueue>,
    handle: TaskHandle,
    due: Option<Instant>,
    /// `None` while it is being run, and when it is over.
    work: Mutex<Option<Work>>,
    /// It is in the queue, or about to be.
    queued: AtomicBool,
}

impl Default for RunQueue {
    fn default() -> Self {
        Self { state: Mutex::new(State::default()) }
    }
}

impl RunQueue {
    /// Queues `work`, behind everything that is queued by now or, with a delay, by then.
    pub(crate) fn schedule(self: &Arc<Self>, work: Work, delay: Option<Duration>) -> TaskHandle {
        // Nobody else has the handle yet, so nobody can close it before it is returned.
        let handle = task_handle::open();
        let due = delay.filter(|delay| !delay.is_zero()).map(after);
        let mut state = self.lock();
        if state.closed {
            drop(state);
            task_handle::close(&handle);
            discard(work);
            return handle;
        }
        state.last_number += 1;
        let job = Arc::new(Job {
            number: state.last_number,
            queue: Arc::downgrade(self),
            handle: handle.clone(),
            due,
            work: Mutex::new(Some(work)),
            queued: AtomicBool::new(due.is_none()),
        });
        match due {
            None => state.ready.push_back(job),
            Some(due) => {
                job.wake_when_cancelled();
                state.delayed.insert((due, job.number), job);
            }
        }
        let runner = state.runner.take();
        drop(state);
        wake(runner);
        handle
    }

    /// What to do next. `runner` is woken when that changes.
    pub(crate) fn turn(&self, runner: &Waker) -> Turn {
        let mut state = self.lock();
        state.ripen();
        if let Some(job) = state.ready.pop_front() {
            return Turn::Run(job);
        }
        if state.closed {
            return Turn::Closed;
        }
        state.runner = Some(runner.clone());
        state.shrink();
        Turn::Idle(state.delayed.keys().next().map(|(due, _)| *due))
    }

    /// Runs the ready jobs, up to a limit.
    pub(crate) fn run_some(&self, runner: &Waker) -> Turns {
        callback::begin_turn();
        for _ in 0..JOBS_PER_TURN {
            if callback::is_turn_over() {
                break;
            }
            match self.turn(runner) {
                Turn::Run(job) => job.run(),
                Turn::Idle(due) => return Turns::Idle(due),
                Turn::Closed => return Turns::Closed,
            }
        }
        Turns::More
    }

    /// Drops all tasks, present and future ones.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let (ready, delayed, begun) = (take(&mut state.ready), take(&mut state.delayed), take(&mut state.begun));
        let runner = state.runner.take();
        drop(state);
        wake(runner);
        ready.iter().chain(delayed.values()).chain(begun.values()).for_each(|job| job.end());
    }

    fn enqueue(&self, job: Arc<Job>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.ready.push_back(job);
        let runner = state.runner.take();
        drop(state);
        wake(runner);
    }

    /// Ignores poisoning: nothing can panic while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunQueue {
    fn drop(&mut self) {
        // A job and the handle that wakes it refer to each other: closing the handle parts them.
        self.close();
    }
}

/// The outcome of several turns.
pub(crate) enum Turns {
    More,
    Idle(Option<Instant>),
    Closed,
}

impl State {
    /// Frees the memory of a burst, when there is nothing to do.
    fn shrink(&mut self) {
        if self.ready.capacity() > KEPT_CAPACITY {
            self.ready = VecDeque::new();
        }
        if self.begun.capacity() > KEPT_CAPACITY && self.begun.len() < KEPT_CAPACITY / 4 {
            self.begun.shrink_to_fit();
        }
    }

    /// Queues the delayed jobs that are due.
    fn ripen(&mut self) {
        if self.delayed.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            let job = first.remove();
            if !job.queued.swap(true, Ordering::AcqRel) {
                self.ready.push_back(job);
            }
        }
    }
}

impl Job {
    pub(crate) fn run(self: &Arc<Self>) {
        // Before it runs: a wake from now on queues it again.
        self.queued.store(false, Ordering::Release);
        if self.handle.is_closed() {
            return self.end();
        }
        let Some(mut work) = self.lock().take() else { return };
        let waker = Waker::from(self.clone());
        let mut polled = Poll::Ready(());
        callback::task(|| {
            callback::isolate("a scheduled task", || {
                polled = work.as_mut().poll(&mut Context::from_waker(&waker));
            });
        });
        *self.lock() = Some(work);
        if polled.is_ready() || !self.register() {
            self.end();
        }
    }

    /// Registers this job with its queue for as long as it waits. Returns false if the queue is closed.
    fn register(self: &Arc<Self>) -> bool {
        let Some(queue) = self.queue.upgrade() else { return false };
        let mut state = queue.lock();
        let is_first = !state.closed && state.begun.insert(self.number, self.clone()).is_none();
        let is_open = !state.closed;
        drop(state);
        if is_first && self.due.is_none() {
            self.wake_when_cancelled();
        }
        is_open
    }

    /// A cancelled task is dropped at once rather than when it would have gone on: it may hold observers and a thread.
    fn wake_when_cancelled(self: &Arc<Self>) {
        let waker = Waker::from(self.clone());
        if Pin::new(&mut self.handle.clone()).poll(&mut Context::from_waker(&waker)).is_ready() {
            waker.wake();
        }
    }

    /// Drops the work, forgets the job, and closes its handle.
    fn end(&self) {
        if let Some(queue) = self.queue.upgrade() {
            let mut state = queue.lock();
            let forgotten =
                (state.begun.remove(&self.number), self.due.map(|due| state.delayed.remove(&(due, self.number))));
            drop(state);
            drop(forgotten);
        }
        let work = self.lock().take();
        if let Some(work) = work {
            discard(work);
        }
        if !self.handle.is_closed() {
            task_handle::close(&self.handle);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel)
            && let Some(queue) = self.queue.upgrade()
        {
            queue.enqueue(self);
        }
    }
}

/// Runs a queue inside tokio.
pub(crate) struct Drive {
    queue: Arc<RunQueue>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Drive {
    pub(crate) fn new(queue: Arc<RunQueue>) -> Self {
        Self { queue, timer: None }
    }

    fn poll_timer(&mut self, due: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = due else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let is_busy = match self.queue.run_some(cx.waker()) {
            Turns::Closed => return Poll::Ready(()),
            Turns::Idle(due) => self.poll_timer(due, cx).is_ready(),
            Turns::More => true,
        };
        if is_busy {
            runtime::yield_now(cx);
        }
        Poll::Pending
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        // The runtime is being shut down: nobody will run the jobs.
        self.queue.close();
    }
}

fn after(delay: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(delay).unwrap_or_else(|| now + FAR_FUTURE)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        callback::wake(waker);
    }
}

/// Drops a task, whose captured values may panic in their destructors, or push.
fn discard(work: Work) {
    callback::task(|| {
        callback::isolate("a task's destructor", || drop(work));
    });
}
