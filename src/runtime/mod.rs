//! Threads, schedulers and re-entrance: which code runs on which thread.
//!
//! | file | contents |
//! |---|---|
//! | this one | [`IoRuntime`]: the background threads, of rxplus or of the program's tokio runtime |
//! | `threads` | how rxplus's own threads start, are kept at work, and end |
//! | `io_scheduler`, `event_loop`, `run_loop` | the schedulers that programs name |
//! | `executor` | runs their tasks: in order (`run_queue`) or side by side (`side_by_side`) |
//! | `task_handle` | RxRust's handles of tasks |
//! | `callback` | re-entrance: a push from a callback waits until the outermost callback has returned; isolation of panics |
//! | `turn` | the end of a turn: a thread looks at its sockets before it goes on |
//! | `debts` | a task whose callbacks push faster than observers take makes the deliveries itself |
//! | `guard` | a task that dies reports it |
//! | `in_span` | a task inside its `tracing` span |
//! | `user_value` | values of the program's, whose destructors may panic |

pub(crate) mod callback;
pub(crate) mod debts;
mod event_loop;
mod executor;
pub(crate) mod guard;
pub(crate) mod in_span;
mod io_scheduler;
mod run_loop;
pub(crate) mod run_queue;
mod side_by_side;
mod task_handle;
pub(crate) mod threads;
mod turn;
mod user_value;
pub(crate) mod waiters;

use std::{
    cell::Cell,
    fmt, io,
    net::Ipv4Addr,
    slice,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rxrust::scheduler::TaskHandle;
use tokio::{
    net::UdpSocket,
    runtime::{Handle, Id, RuntimeFlavor, is_rt_shutdown_err},
    sync::oneshot,
};

pub use event_loop::EventLoopScheduler;
use executor::Executor;
use guard::{Death, Guard};
pub use io_scheduler::IoScheduler;
pub use run_loop::{RunLoop, RunLoopScheduler};
pub(crate) use run_queue::Work;
#[cfg(feature = "test")]
pub(crate) use turn::go_on_in_test;
pub(crate) use turn::{Deliver, Place, deliver_on, hand_over, place, yield_now};
pub(crate) use user_value::UserValue;

use crate::WsError;

/// How long the first task on a runtime may take to start. After that, the calling thread is taken for the one that keeps
/// the runtime from running.
const FIRST_TASK_MILLIS: u64 = 50;

thread_local! {
    /// The runtimes whose thread this is.
    static CURRENT: Cell<Numbers> = const { Cell::new(Numbers { own: 0, all: 0 }) };
}

/// The number of a runtime, and of the one that it is a lane of: the same number if it is none. 0 stands for no runtime.
#[derive(Clone, Copy)]
struct Numbers {
    own: u64,
    all: u64,
}

/// The threads that serve sockets and run callbacks.
///
/// Every server, client and group starts a thread of its own unless it is given an `IoRuntime`, which several of them can
/// share; share one from about ten clients on:
///
/// ```
/// use rxplus::prelude::*;
///
/// let runtime = IoRuntime::new("feeds")?;
/// let prices = RxWsClient::builder("ws://127.0.0.1:8765/prices", WsStr).runtime(&runtime).connect()?;
/// let trades = RxWsClient::builder("ws://127.0.0.1:8765/trades", WsStr).runtime(&runtime).connect()?;
/// # Ok::<(), WsError>(())
/// ```
///
/// The threads end when no handle of the runtime, no open component and no scheduled task is left.
///
/// Each has a stack of 16 MiB, since peers' messages are decoded there and may nest (see
/// [`WsDatatype`](crate::WsDatatype#stack)); that is address space, not memory, until it is used.
///
/// # The choices
///
/// | | order | a callback that blocks |
/// |---|---|---|
/// | a thread each (the default) | of one component: everything; between components: nothing | holds up its own component |
/// | [`new`](Self::new), shared | everything that happens on it, one thing after another | holds up all that share it |
/// | a server's [`threads`](crate::ServerBuilder::threads) | everything of a connection; between connections: nothing | holds up the connections of its thread |
/// | [`with_threads`](Self::with_threads) | the messages of each connection; one pipeline is called by one thread at a time | holds up the connections whose messages it is given, and one of the threads |
/// | [`from_tokio`](Self::from_tokio), one thread | as `new` | holds up the program's own tasks too |
/// | [`from_tokio`](Self::from_tokio), several | as `with_threads` | as `with_threads`, and takes a thread from the program's tasks |
///
/// Tasks of RxRust's operators, such as each item of `observe_on` or `delay`, keep their order on one thread and have none
/// on several: use [`deliver_on`](crate::ObservableExt::deliver_on), which keeps it everywhere. Code that blocks, such as a
/// database call or a long computation, belongs on an [`EventLoopScheduler`](crate::EventLoopScheduler).
#[derive(Clone)]
pub struct IoRuntime {
    core: Arc<Core>,
}

/// A reference that does not keep the threads running. One word: each subject and each connection has several.
#[derive(Clone)]
pub(crate) struct WeakRuntime {
    facts: Arc<Facts>,
}

/// What stays true of a runtime when its threads have ended.
struct Facts {
    core: Weak<Core>,
    numbers: Numbers,
    /// Set for a runtime of the program, whose threads are not known here.
    foreign: Option<Foreign>,
}

/// The known facts about a runtime of the program.
struct Foreign {
    id: Id,
    /// The number of the thread that runs it, if it has only one; 0 until that thread has run a task of rxplus.
    only_thread: Option<Arc<AtomicU64>>,
}

struct Core {
    facts: Arc<Facts>,
    /// Of the first lane, if it has lanes.
    handle: Handle,
    executor: Executor,
    /// Dropping it ends the thread; a runtime of the program has none.
    _running: Option<oneshot::Sender<()>>,
    /// See [`with_lanes`](IoRuntime::with_lanes). Most runtimes have none.
    lanes: Vec<IoRuntime>,
}

impl IoRuntime {
    /// Starts one thread, named `name`, without zero bytes.
    ///
    /// # Errors
    ///
    /// [`WsError::Runtime`] when the operating system refuses the thread.
    pub fn new(name: &str) -> Result<Self, WsError> {
        Self::start(name, None)
    }

    /// Starts `threads` threads, named `name`, without zero bytes, and one that looks after them.
    ///
    /// Components then run side by side, and so do the connections of one component: the messages of each connection stay in
    /// order, and those of different connections interleave as they come. A pipeline is still called by one thread at a
    /// time.
    ///
    /// A callback that blocks holds its thread, with the task it woke last; the other threads go on within 50 ms.
    ///
    /// # Errors
    ///
    /// [`WsError::Runtime`] when the operating system refuses a thread.
    ///
    /// # Panics
    ///
    /// If `threads` is zero.
    pub fn with_threads(name: &str, threads: usize) -> Result<Self, WsError> {
        assert!(threads > 0, "a runtime needs at least one thread");
        Self::start(name, Some(threads))
    }

    /// Runs on a tokio runtime of the program, which must have its I/O and time drivers enabled.
    ///
    /// Its threads decode peers' messages, and have 2 MiB of stack unless the program says otherwise: for a type that
    /// contains itself, give them as much as [`WsDatatype`](crate::WsDatatype#stack) says, with
    /// [`thread_stack_size`](tokio::runtime::Builder::thread_stack_size).
    ///
    /// That runtime must outlive the components; when it is shut down, they end with it, without their closing handshakes,
    /// and with [`WsError::RuntimeEnded`]. Their subscribers hear that error on one of its threads, or on the thread that
    /// shuts it down if it has a single one. Making a component on a runtime that has been shut down is that error, too, and
    /// on one without its drivers [`WsError::RuntimeUnfit`].
    #[must_use]
    pub fn from_tokio(handle: Handle) -> Self {
        let executor = Executor::of(&handle);
        let has_one = handle.runtime_flavor() == RuntimeFlavor::CurrentThread;
        let foreign = Foreign { id: handle.id(), only_thread: has_one.then(Arc::default) };
        Self::of(Numbers::new(), Some(foreign), |facts| Core {
            facts,
            handle,
            executor,
            _running: None,
            lanes: Vec::new(),
        })
    }

    /// The one runtime of the process that never ends, started at the first use: a thread named `rxplus-global`.
    ///
    /// # Panics
    ///
    /// If the operating system refuses the thread.
    #[must_use]
    pub fn global() -> Self {
        static GLOBAL: OnceLock<IoRuntime> = OnceLock::new();
        GLOBAL.get_or_init(|| Self::new("rxplus-global").expect("the operating system starts one more thread")).clone()
    }

    fn start(name: &str, workers: Option<usize>) -> Result<Self, WsError> {
        Self::start_as(Numbers::new(), name, workers)
    }

    fn start_as(numbers: Numbers, name: &str, workers: Option<usize>) -> Result<Self, WsError> {
        let started = threads::start(name, workers, move || CURRENT.set(numbers));
        let (handle, running) = started.map_err(|error| WsError::Runtime(Arc::new(error)))?;
        let executor = Executor::of(&handle);
        Ok(Self::of(numbers, None, |facts| Core {
            facts,
            handle,
            executor,
            _running: Some(running),
            lanes: Vec::new(),
        }))
    }

    /// Starts `count` threads. Several share no work: each is a runtime of one thread, a *lane*. The runtime of all of them runs its
    /// tasks on the first one, and its deliveries on whichever of them has to arrange them.
    ///
    /// # Errors
    ///
    /// [`WsError::Runtime`] when the operating system refuses a thread.
    pub(crate) fn with_lanes(name: &str, count: usize) -> Result<Self, WsError> {
        if count == 1 {
            return Self::new(name);
        }
        let all = next_id();
        let lane = |nth| {
            let name = if nth == 1 { name.to_owned() } else { format!("{name}-{nth}") };
            Self::start_as(Numbers { own: next_id(), all }, &name, None)
        };
        let lanes = (1..=count).map(lane).collect::<Result<Vec<_>, _>>()?;
        let handle = lanes[0].core.handle.clone();
        let executor = Executor::of(&handle);
        let numbers = Numbers { own: all, all };
        Ok(Self::of(numbers, None, |facts| Core { facts, handle, executor, _running: None, lanes }))
    }

    fn of(numbers: Numbers, foreign: Option<Foreign>, core: impl FnOnce(Arc<Facts>) -> Core) -> Self {
        let core = Arc::new_cyclic(|this| core(Arc::new(Facts { core: this.clone(), numbers, foreign })));
        Self { core }
    }

    /// The runtimes of its single threads, or itself if it has no lanes.
    pub(crate) fn lanes(&self) -> &[Self] {
        if self.core.lanes.is_empty() { slice::from_ref(self) } else { &self.core.lanes }
    }

    /// The lane whose thread this is, or the first one.
    fn here(&self) -> &Self {
        let lanes = self.lanes();
        lanes.iter().find(|lane| lane.core.facts.numbers.own == CURRENT.get().own).unwrap_or(&lanes[0])
    }

    /// Whether components can run here. A fault of the program's own runtime shows only when it is used.
    ///
    /// # Errors
    ///
    /// - [`WsError::RuntimeEnded`] when it has been shut down.
    /// - [`WsError::RuntimeUnfit`] when it lacks a driver.
    pub(crate) fn check(&self, name: &str) -> Result<(), WsError> {
        if self.core.facts.foreign.is_none() {
            return Ok(());
        }
        let _inside = self.core.handle.enter();
        match callback::attempt("a tokio runtime without its drivers", use_drivers) {
            Err(panic) => Err(WsError::RuntimeUnfit(panic.into())),
            Ok(Err(error)) if is_rt_shutdown_err(&error) => Err(WsError::RuntimeEnded(name.into())),
            Ok(_) => Ok(()),
        }
    }

    /// Spawns the task of a component. If it does not end by itself, `on_death` receives the cause.
    pub(crate) fn serve(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        on_death: impl FnOnce(Death) + Send + Unpin + 'static,
    ) {
        self.spawn_work(Box::pin(Guard::new(self.clone(), task, on_death)));
    }

    /// Notes that the calling thread runs this runtime's tasks.
    pub(crate) fn note_thread(&self) {
        if let Some(Foreign { only_thread: Some(number), .. }) = &self.core.facts.foreign {
            number.store(thread_number(), Ordering::Relaxed);
        }
    }

    /// Spawns a task that keeps the threads running until it is done; on the lane of the calling thread, if it has lanes.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let alive = self.clone();
        self.spawn_aside(async move {
            task.await;
            drop(alive);
        });
    }

    /// As [`spawn`](Self::spawn), for a task that does not keep the threads running, and may be dropped with them.
    pub(crate) fn spawn_aside(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.here().spawn_work(Box::pin(task));
    }

    fn spawn_work(&self, work: Work) {
        self.core.handle.spawn(work);
    }

    /// Runs a scheduler's task, which keeps the threads running until it is done or cancelled.
    pub(crate) fn schedule(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        delay: Option<Duration>,
    ) -> TaskHandle {
        let alive = self.clone();
        let task = async move {
            task.await;
            drop(alive);
        };
        self.core.executor.schedule(task, delay)
    }

    /// Whether its tasks run one after another.
    pub(crate) fn has_one_thread(&self) -> bool {
        self.core.handle.runtime_flavor() == RuntimeFlavor::CurrentThread
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.core.handle
    }

    pub(crate) fn downgrade(&self) -> WeakRuntime {
        WeakRuntime { facts: self.core.facts.clone() }
    }
}

impl WeakRuntime {
    /// The runtime, or the global one when its threads have ended.
    pub(crate) fn upgrade(&self) -> IoRuntime {
        self.facts.core.upgrade().map_or_else(IoRuntime::global, |core| IoRuntime { core })
    }

    /// Whether the calling thread is one of this runtime's. In a runtime of the program only callbacks count: other tasks of
    /// the program may wait for a component that runs beside them.
    pub(crate) fn is_current(&self) -> bool {
        let in_callback = |foreign: &Foreign| callback::is_inside() && foreign.is_entered();
        let Facts { numbers: Numbers { own, .. }, ref foreign, .. } = *self.facts;
        let here = CURRENT.get();
        here.own == own || here.all == own || foreign.as_ref().is_some_and(in_callback)
    }

    /// The number of its lane whose thread this is; 0 if it is none of its lanes'.
    pub(crate) fn lane(&self) -> u64 {
        let Numbers { own, all } = CURRENT.get();
        if all == self.facts.numbers.own && own != all { own } else { 0 }
    }

    /// Whether a component here could not go on while the calling thread waits for it. Lanes count as one another: what one of
    /// them waits for may wait for it.
    pub(crate) fn waits_for(&self) -> bool {
        let is_lane = CURRENT.get().all == self.facts.numbers.all;
        is_lane || self.is_current() || self.facts.foreign.as_ref().is_some_and(Foreign::runs_here_alone)
    }
}

impl Numbers {
    /// Of a runtime that is no lane.
    fn new() -> Self {
        let number = next_id();
        Self { own: number, all: number }
    }
}

impl Foreign {
    /// Whether the calling thread is in the runtime's context, like its own threads, including those for blocking tasks.
    fn is_entered(&self) -> bool {
        Handle::try_current().is_ok_and(|current| current.id() == self.id)
    }

    /// Whether the calling thread is the only one that runs it.
    fn runs_here_alone(&self) -> bool {
        let Some(number) = &self.only_thread else { return false };
        if !self.is_entered() {
            return false;
        }
        // A thread for blocking tasks may get here before the first task of rxplus has run.
        let is_unknown = || number.load(Ordering::Relaxed) == 0;
        for _ in 0..FIRST_TASK_MILLIS {
            if is_unknown() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        is_unknown() || number.load(Ordering::Relaxed) == thread_number()
    }
}

/// Uses the drivers that a component needs: timers, and the readiness of a socket.
fn use_drivers() -> io::Result<()> {
    drop(tokio::time::sleep(Duration::ZERO));
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket).map(drop)
}

/// A number that no other thread has.
fn thread_number() -> u64 {
    thread_local! {
        static NUMBER: u64 = next_id();
    }
    NUMBER.with(|number| *number)
}

fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl fmt::Debug for IoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoRuntime").field("id", &self.core.facts.numbers.own).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn task_aside_ends_with_the_threads_that_it_does_not_keep() {
        let runtime = IoRuntime::new("aside").unwrap();
        let (in_task, ended) = mpsc::channel::<()>();
        runtime.spawn_aside(async move {
            let _in_task = in_task;
            std::future::pending().await
        });
        drop(runtime);
        assert_eq!(ended.recv_timeout(Duration::from_secs(10)), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
