//! [`IoRuntime`]: the background threads.

use std::{
    cell::Cell,
    fmt, io,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rxrust::scheduler::TaskHandle;
use tokio::{
    runtime::{Builder, Handle, Id, Runtime, RuntimeFlavor},
    sync::oneshot,
};

use crate::{WsError, callback, scheduler::Executor, ws::wait};

/// How long a callback that blocks can keep the other threads of a runtime from their sockets.
const NUDGE: Duration = Duration::from_millis(50);

/// The stack of a thread that decodes messages. In a debug build 64 levels of a type that has 4 KiB a level take 7 MiB of it,
/// as MessagePack and as JSON; the rest is for the program's callbacks. What is not used costs address space only.
const STACK_LEN: usize = 16 * 1024 * 1024;

thread_local! {
    /// The runtime whose thread this is; 0 on any other thread.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// The threads on which sockets are served and callbacks run.
///
/// Every server, client and group starts a thread of its own unless it is given an `IoRuntime`, which several of them can
/// share; do so from about ten clients on:
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
/// Each has a stack of 16 MiB, since what peers send is decoded there and may nest (see
/// [`WsDatatype`](crate::WsDatatype#stack)); that is address space, not memory, until it is used.
///
/// # What each choice means
///
/// | | order | a callback that blocks |
/// |---|---|---|
/// | a thread each (the default) | of one component: everything; between components: nothing | holds up its own component |
/// | [`new`](Self::new), shared | everything that happens on it, one thing after another | holds up all that share it |
/// | [`with_threads`](Self::with_threads) | the messages of each connection; one pipeline is called by one thread at a time | holds up the connections whose messages it is given, and one of the threads |
/// | [`from_tokio`](Self::from_tokio), one thread | as `new` | holds up the program's own tasks too |
/// | [`from_tokio`](Self::from_tokio), several | as `with_threads` | as `with_threads`, and takes a thread from the program's tasks |
///
/// Tasks of RxRust's operators, such as each item of `observe_on` or `delay`, keep their order on one thread and have none
/// on several: use [`deliver_on`](crate::ObservableExt::deliver_on), which keeps it everywhere. To block as one likes, in a
/// database call or a long computation, deliver on an [`EventLoopScheduler`](crate::EventLoopScheduler).
#[derive(Clone)]
pub struct IoRuntime {
    core: Arc<Core>,
}

/// A reference that does not keep the threads running.
#[derive(Clone)]
pub(crate) struct WeakRuntime {
    core: Weak<Core>,
    id: u64,
    /// Set if it is one of the program's own, whose threads are not known here.
    foreign: Option<Id>,
}

struct Core {
    id: u64,
    handle: Handle,
    executor: Executor,
    /// Dropping it ends the thread; a runtime of the user's own has none.
    running: Option<oneshot::Sender<()>>,
}

impl IoRuntime {
    /// Starts one thread, named `name`, without zero bytes.
    ///
    /// # Errors
    ///
    /// [`WsError::Runtime`] when the operating system refuses the thread.
    pub fn new(name: &str) -> Result<Self, WsError> {
        Self::start(name, Builder::new_current_thread())
    }

    /// Starts `threads` threads, named `name`, without zero bytes, and one that looks after them.
    ///
    /// Components then run side by side, and so do the connections of one: the messages of each connection stay in order,
    /// those of different connections interleave as they come. A pipeline is still called by one thread at a time.
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
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads);
        Self::start(name, builder)
    }

    /// Runs on a tokio runtime of the program's own, which must have its I/O and time drivers enabled.
    ///
    /// Its threads decode what peers send, and have 2 MiB of stack unless the program says otherwise: for a type that contains
    /// itself give them what [`WsDatatype`](crate::WsDatatype#stack) says, with
    /// [`thread_stack_size`](tokio::runtime::Builder::thread_stack_size).
    ///
    /// That runtime must outlive the components; when it is shut down, they end with it, without their closing handshakes.
    #[must_use]
    pub fn from_tokio(handle: Handle) -> Self {
        let executor = Executor::of(&handle);
        Self { core: Arc::new(Core { id: next_id(), handle, executor, running: None }) }
    }

    /// The one runtime of the process that is never ended, started at the first use: a thread named `rxplus-global`.
    ///
    /// # Panics
    ///
    /// If the operating system refuses the thread.
    #[must_use]
    pub fn global() -> Self {
        static GLOBAL: OnceLock<IoRuntime> = OnceLock::new();
        GLOBAL.get_or_init(|| Self::new("rxplus-global").expect("the operating system starts one more thread")).clone()
    }

    fn start(name: &str, mut builder: Builder) -> Result<Self, WsError> {
        let id = next_id();
        let failed = |error: io::Error| WsError::Runtime(Arc::new(error));
        // The system's threads cannot have a name with a zero byte in it.
        let name = name.replace('\0', "");
        builder.enable_all().thread_name(&name).thread_stack_size(STACK_LEN).on_thread_start(move || CURRENT.set(id));
        let runtime = builder.build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel();
        thread::Builder::new()
            .name(name)
            .stack_size(STACK_LEN)
            .spawn(move || run(runtime, id, ended))
            .map_err(failed)?;
        let executor = Executor::of(&handle);
        Ok(Self { core: Arc::new(Core { id, handle, executor, running: Some(running) }) })
    }

    /// Spawns a task that keeps the threads running until it is done.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let alive = self.clone();
        self.core.handle.spawn(async move {
            task.await;
            drop(alive);
        });
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

    /// Whether whatever runs on it runs one after another.
    pub(crate) fn has_one_thread(&self) -> bool {
        self.core.handle.runtime_flavor() == RuntimeFlavor::CurrentThread
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.core.handle
    }

    pub(crate) fn downgrade(&self) -> WeakRuntime {
        let foreign = self.core.running.is_none().then(|| self.core.handle.id());
        WeakRuntime { core: Arc::downgrade(&self.core), id: self.core.id, foreign }
    }
}

impl WeakRuntime {
    /// The runtime, or the global one when its threads have ended.
    pub(crate) fn upgrade(&self) -> IoRuntime {
        self.core.upgrade().map_or_else(IoRuntime::global, |core| IoRuntime { core })
    }

    /// Whether the calling thread is one of this runtime's. In a runtime of the program's own only callbacks count: other
    /// tasks of the program may wait for a component that runs beside them.
    pub(crate) fn is_current(&self) -> bool {
        let is_foreign = || Handle::try_current().is_ok_and(|current| Some(current.id()) == self.foreign);
        CURRENT.get() == self.id || (self.foreign.is_some() && callback::is_inside() && is_foreign())
    }
}

/// Serves until nobody needs the runtime any more. An error is what says it: the sender was dropped.
fn run(runtime: Runtime, id: u64, mut ended: oneshot::Receiver<()>) {
    CURRENT.set(id);
    if runtime.handle().runtime_flavor() == RuntimeFlavor::CurrentThread {
        let _ = runtime.block_on(ended);
        return;
    }
    // A worker that has looked for events and then runs a callback that blocks leaves nobody to look for more: tokio's other
    // workers sleep until there is a task. So there is one from time to time.
    while wait::block_on(&mut ended, NUDGE).is_none() {
        runtime.spawn(async {});
    }
}

fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl fmt::Debug for IoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoRuntime").field("id", &self.core.id).finish_non_exhaustive()
    }
}
