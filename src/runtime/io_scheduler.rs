//! [`IoScheduler`]: RxRust's operators on rxplus's background threads.

use std::{fmt, time::Duration};

use rxrust::scheduler::{Schedulable, Scheduler, SleepProvider, TaskHandle};

use crate::runtime::{IoRuntime, WeakRuntime};

/// The scheduler of [`Io`](crate::Io) and of every component: it runs tasks on an [`IoRuntime`].
///
/// Works from any thread, with or without a tokio runtime. The default one runs on [`IoRuntime::global`]; a component's
/// scheduler runs on that component's I/O thread, and on the global runtime once that thread has ended.
///
/// # Order
///
/// On a runtime of one thread, which is the default, tasks are run first in first out, whichever threads scheduled them;
/// delayed tasks by the time they are due, and in the order of scheduling when that is the same. So `observe_on` and `delay`
/// keep order. On a runtime of several threads tasks run side by side and in no order: there,
/// [`deliver_on`](crate::ObservableExt::deliver_on) keeps it, since it is one task, and so does an
/// [`EventLoopScheduler`](crate::EventLoopScheduler).
///
/// Tasks count as callbacks: their pushes into a subject of rxplus are delivered when they yield.
#[derive(Clone)]
pub struct IoScheduler {
    runtime: WeakRuntime,
}

impl Default for IoScheduler {
    fn default() -> Self {
        Self::on(&IoRuntime::global())
    }
}

impl IoScheduler {
    /// Schedules on `runtime`, without keeping its threads running while nothing is scheduled.
    #[must_use]
    pub fn on(runtime: &IoRuntime) -> Self {
        Self { runtime: runtime.downgrade() }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.upgrade().spawn(task);
    }

    /// Spawns a task that does not keep the threads running, and may be dropped with them.
    pub(crate) fn spawn_aside(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.upgrade().spawn_aside(task);
    }

    /// The runtime it schedules on; the global one when that has ended.
    pub(crate) fn runtime(&self) -> IoRuntime {
        self.runtime.upgrade()
    }

    /// The number of the lane on which it would spawn a task now; 0 if that is its first one, or if it has none.
    pub(crate) fn lane(&self) -> u64 {
        self.runtime.lane()
    }

    /// Whether this scheduler runs its tasks on the calling thread.
    pub(crate) fn is_current(&self) -> bool {
        self.runtime.is_current()
    }

    /// Whether its tasks could not go on while the calling thread waits for them.
    pub(crate) fn waits_for(&self) -> bool {
        self.runtime.waits_for()
    }
}

impl<S> Scheduler<S> for IoScheduler
where
    S: Schedulable<Self> + Send + 'static,
    S::Future: Send + 'static,
{
    fn schedule(&self, source: S, delay: Option<Duration>) -> TaskHandle {
        self.runtime.upgrade().schedule(source.into_future(self), delay)
    }
}

impl SleepProvider for IoScheduler {
    type SleepFuture = tokio::time::Sleep;

    fn sleep(&self, duration: Duration) -> Self::SleepFuture {
        let runtime = self.runtime.upgrade();
        let _inside = runtime.handle().enter();
        tokio::time::sleep(duration)
    }
}

impl fmt::Debug for IoScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoScheduler").finish_non_exhaustive()
    }
}
