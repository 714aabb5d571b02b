use std::{
    any::Any,
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    rc::{self, Rc},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use rxrust::scheduler::{Schedulable, Scheduler, SleepProvider, TaskHandle};
use tokio::task::LocalSet;

use super::{
    run_queue::{RunQueue, Turns},
    turn::LoopTurns,
};
use crate::{
    IoRuntime,
    runtime::callback::{self, LoopOwner},
};

/// A loop that is driven by the thread that made it: the program's main thread, a GUI's, a game's.
///
/// Deliveries on it wait until that thread calls [`run_pending`](Self::run_pending) (in each frame, for example),
/// [`run_for`](Self::run_for) or [`run_until`](Self::run_until), and are made there, first in first out.
///
/// ```
/// use rxplus::prelude::*;
/// use std::{cell::RefCell, rc::Rc};
///
/// let run_loop = RunLoop::new();
/// let model = Rc::new(RefCell::new(Vec::new())); // of this thread: not `Send`
/// let shown = model.clone();
/// let ticks = Io::interval(Duration::from_millis(1)).take(3);
/// ticks.deliver_local(&run_loop).subscribe(move |n| shown.borrow_mut().push(n));
/// while model.borrow().len() < 3 {
///     run_loop.run_for(Duration::from_millis(5));
/// }
/// assert_eq!(*model.borrow(), [0, 1, 2]);
/// ```
///
/// Other threads reach it through its [`scheduler`](Self::scheduler), or through a pipeline with
/// [`deliver_local`](crate::ObservableExt::deliver_local). Inside the loop RxRust's `Local` contexts work as they are,
/// including their time operators; to subscribe to one that needs a scheduler at once, such as `Local::interval`, do so in a
/// future given to `run_until`.
///
/// Tasks count as callbacks: their pushes into a subject of rxplus are delivered when they yield. Dropping the loop drops
/// the tasks that wait on it, and ends the pipelines that deliver on it.
pub struct RunLoop {
    queue: Arc<RunQueue>,
    /// Where RxRust's `LocalScheduler` finds this thread's tasks. Not `Send`, which keeps the loop on its thread.
    local: Rc<LocalSet>,
    parker: Arc<Parker>,
    /// The runtime whose timers the futures of this loop use.
    runtime: IoRuntime,
    running: Cell<bool>,
    _owner: LoopOwner,
}

/// Schedules on a [`RunLoop`], from any thread: made by [`RunLoop::scheduler`].
///
/// Once the loop is gone, tasks are dropped as they come.
#[derive(Clone)]
pub struct RunLoopScheduler {
    queue: Weak<RunQueue>,
}

/// Wakes the thread of a loop.
struct Parker {
    thread: Thread,
    notified: AtomicBool,
}

/// How long a loop is run.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Instant),
    Endless,
}

/// Why a wait of a loop has ended.
#[derive(PartialEq, Eq)]
enum Parked {
    /// It was woken, or its timer is due.
    Woken,
    OutOfPatience,
}

impl Default for RunLoop {
    fn default() -> Self {
        Self::new()
    }
}

impl RunLoop {
    /// Makes a loop for the calling thread to drive.
    ///
    /// # Panics
    ///
    /// If the operating system refuses the thread of [`IoRuntime::global`], whose timers the loop uses.
    #[must_use]
    pub fn new() -> Self {
        Self {
            queue: Arc::default(),
            local: Rc::new(LocalSet::new()),
            parker: Arc::new(Parker { thread: thread::current(), notified: AtomicBool::new(true) }),
            runtime: IoRuntime::global(),
            running: Cell::new(false),
            _owner: LoopOwner::new(),
        }
    }

    /// A scheduler that runs its tasks on this loop, to be used by any thread.
    #[must_use]
    pub fn scheduler(&self) -> RunLoopScheduler {
        RunLoopScheduler { queue: Arc::downgrade(&self.queue) }
    }

    /// Runs the pending tasks, and those that they cause, until nothing more can be run at once. Never waits.
    ///
    /// Sources that never pause can keep it busy without end; [`run_for`](Self::run_for) has a limit.
    ///
    /// # Panics
    ///
    /// If called by something that this loop is running.
    pub fn run_pending(&self) {
        self.run(Patience::None, |_| Poll::<()>::Pending);
    }

    /// Runs the loop for as long as `duration`, and waits for tasks meanwhile.
    ///
    /// # Panics
    ///
    /// If called by something that this loop is running.
    pub fn run_for(&self, duration: Duration) {
        let patience = Instant::now().checked_add(duration).map_or(Patience::Endless, Patience::Until);
        self.run(patience, |_| Poll::<()>::Pending);
    }

    /// Runs the loop until `future` is ready, and returns its output.
    ///
    /// The future is run by this loop: it need not be `Send`, may borrow, may use tokio's timers and sockets, and counts as
    /// a callback.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let run_loop = RunLoop::new();
    /// let sum = Io::from_iter([1, 2, 3]).deliver_local(&run_loop).sum().into_future();
    /// assert_eq!(run_loop.run_until(sum).unwrap().unwrap(), 6);
    /// ```
    ///
    /// # Panics
    ///
    /// If called by something that this loop is running, or when `future` panics.
    pub fn run_until<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let step = |cx: &mut Context<'_>| poll_as_task(future.as_mut(), cx);
        let finished = self.run(Patience::Endless, step).expect("an endless run ends with its future");
        finished.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The set in which this thread's own tasks are spawned.
    pub(crate) fn local_set(&self) -> rc::Weak<LocalSet> {
        Rc::downgrade(&self.local)
    }

    fn run<R>(&self, patience: Patience, mut goal: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Option<R> {
        let _running = self.begin();
        let _inside = self.runtime.handle().enter();
        let waker = Waker::from(self.parker.clone());
        let due = Cell::new(None);
        // Tasks spawned in the goal or in the queue run in the same poll, after them.
        let turn = std::future::poll_fn(|cx| {
            match self.queue.run_some(cx.waker()) {
                Turns::Idle(next) => due.set(next),
                Turns::More | Turns::Closed => cx.waker().wake_by_ref(),
            }
            goal(cx)
        });
        let mut turns = pin!(self.local.run_until(turn));
        let after_turns = LoopTurns::begin();
        loop {
            self.parker.notified.store(false, Ordering::Release);
            if let Poll::Ready(result) = turns.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(result);
            }
            if after_turns.end_turn(&mut Context::from_waker(&waker)) {
                self.parker.wake_by_ref();
            }
            if self.parker.park(patience, due.get().map(tokio::time::Instant::into_std)) == Parked::OutOfPatience {
                return None;
            }
        }
    }

    fn begin(&self) -> Running<'_> {
        assert!(!self.running.replace(true), "a RunLoop must not be run by something that it is running");
        Running(&self.running)
    }
}

/// Marks a loop as running.
struct Running<'a>(&'a Cell<bool>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Polls as a callback. A panic belongs to the caller of `run_until`, but goes on only when the callback is over.
fn poll_as_task<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<F::Output, Box<dyn Any + Send>>> {
    let poll = AssertUnwindSafe(|| future.poll(cx));
    match callback::task(|| catch_unwind(poll)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

impl Parker {
    /// Waits to be woken, or for a timer that is `due`, as long as the patience lasts.
    fn park(&self, patience: Patience, due: Option<Instant>) -> Parked {
        loop {
            let now = Instant::now();
            if matches!(patience, Patience::Until(end) if end <= now) {
                return Parked::OutOfPatience;
            }
            if self.notified.load(Ordering::Acquire) || due.is_some_and(|due| due <= now) {
                return Parked::Woken;
            }
            let until = match (patience, due) {
                (Patience::None, _) => return Parked::OutOfPatience,
                (Patience::Until(end), due) => Some(due.map_or(end, |due| due.min(end))),
                (Patience::Endless, due) => due,
            };
            match until {
                Some(until) => thread::park_timeout(until - now),
                None => thread::park(),
            }
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

impl Drop for RunLoop {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<S> Scheduler<S> for RunLoopScheduler
where
    S: Schedulable<Self> + Send + 'static,
    S::Future: Send + 'static,
{
    fn schedule(&self, source: S, delay: Option<Duration>) -> TaskHandle {
        if let Some(queue) = self.queue.upgrade() {
            return queue.schedule(Box::pin(source.into_future(self)), delay);
        }
        TaskHandle::finished()
    }
}

impl SleepProvider for RunLoopScheduler {
    type SleepFuture = tokio::time::Sleep;

    fn sleep(&self, duration: Duration) -> Self::SleepFuture {
        let runtime = IoRuntime::global();
        let _inside = runtime.handle().enter();
        tokio::time::sleep(duration)
    }
}

impl fmt::Debug for RunLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLoop").field("thread", &self.parker.thread).finish_non_exhaustive()
    }
}

impl fmt::Debug for RunLoopScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLoopScheduler").finish_non_exhaustive()
    }
}
