//! [`IoScheduler`]: RxRust's operators on rxplus's background threads.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rxrust::scheduler::{Schedulable, Scheduler, SharedScheduler, SleepProvider, TaskHandle};
use tokio::sync::oneshot;

use crate::{
    callback,
    runtime::{IoRuntime, WeakRuntime},
};

/// The scheduler of [`Io`](crate::Io) and of every component: it runs tasks on an [`IoRuntime`].
///
/// Works from any thread, with or without a tokio runtime. The default one runs on [`IoRuntime::global`]; a component's own
/// runs on that component's I/O thread, in order, and on the global runtime once that thread has ended.
///
/// Tasks count as callbacks: what they push into a subject of rxplus is delivered when they yield.
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

    /// The runtime it schedules on; the global one when that has ended.
    pub(crate) fn runtime(&self) -> IoRuntime {
        self.runtime.upgrade()
    }

    /// Whether the calling thread is one of those that this scheduler runs its tasks on.
    pub(crate) fn is_current(&self) -> bool {
        self.runtime.is_current()
    }
}

impl<S> Scheduler<S> for IoScheduler
where
    S: Schedulable<Self> + Send + 'static,
    S::Future: Send + 'static,
{
    fn schedule(&self, source: S, delay: Option<Duration>) -> TaskHandle {
        let runtime = self.runtime.upgrade();
        let task = AsCallback { task: Box::pin(source.into_future(self)) };
        let (give_handle, handle) = oneshot::channel();
        let work = cancellable(handle, delay, task, runtime.clone());
        // RxRust alone can make a handle, and does so for what is given to its own scheduler.
        let _inside = runtime.handle().enter();
        let handle = SharedScheduler.schedule(work, None);
        // Nobody listens if a runtime that is shutting down has dropped the task already.
        let _ = give_handle.send(handle.clone());
        handle
    }
}

/// Runs `task` after `delay`, unless it is cancelled: then it is dropped at once rather than when its timer fires, since
/// it holds observers, and `alive` holds the thread.
async fn cancellable(
    handle: oneshot::Receiver<TaskHandle>,
    delay: Option<Duration>,
    task: impl Future<Output = ()>,
    alive: IoRuntime,
) {
    let Ok(cancelled) = handle.await else { return };
    let work = async {
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        task.await;
    };
    tokio::select! {
        biased;
        () = cancelled => {}
        () = work => {}
    }
    drop(alive);
}

impl SleepProvider for IoScheduler {
    type SleepFuture = tokio::time::Sleep;

    fn sleep(&self, duration: Duration) -> Self::SleepFuture {
        let runtime = self.runtime.upgrade();
        let _inside = runtime.handle().enter();
        tokio::time::sleep(duration)
    }
}

/// A task whose pushes wait until it yields, and whose panic goes no further.
struct AsCallback<F> {
    task: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for AsCallback<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut polled = Poll::Ready(());
        callback::run(|| {
            callback::isolate("a scheduled task", || polled = self.task.as_mut().poll(cx));
        });
        polled
    }
}

impl fmt::Debug for IoScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoScheduler").finish_non_exhaustive()
    }
}
