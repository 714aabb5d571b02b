use std::{fmt, time::Duration};

use rxrust::scheduler::{Schedulable, Scheduler, SleepProvider, TaskHandle};

use crate::{IoRuntime, WsError};

/// A thread that runs tasks first in first out: for work that is to be done off the I/O thread, in order.
///
/// Give it to [`deliver_on`](crate::ObservableExt::deliver_on), or to RxRust's `observe_on`, `subscribe_on`, `delay_with`,
/// `debounce_with` and their like:
///
/// ```
/// use rxplus::prelude::*;
///
/// let worker = EventLoopScheduler::new("worker");
/// let (sender, received) = std::sync::mpsc::channel();
/// Io::from_iter([1, 2, 3]).deliver_on(&worker).subscribe(move |n| {
///     let thread = std::thread::current().name().map(String::from);
///     sender.send((n, thread)).unwrap_or(());
/// });
/// let worker = || Some("worker".to_owned());
/// assert_eq!(received.iter().collect::<Vec<_>>(), [(1, worker()), (2, worker()), (3, worker())]);
/// ```
///
/// Its clones are handles of the same thread. The thread ends when the last of them is gone and nothing is pending: no task,
/// no delay, no pipeline that delivers on it. Nothing waits for its end. A callback that blocks holds up this thread alone.
///
/// Delayed tasks are run by the time they are due, and in the order of scheduling when that is the same. Tasks count as
/// callbacks: their pushes into a subject of rxplus are delivered when they yield. They may use tokio: they run inside a
/// single-threaded runtime.
///
/// There is no `Default`: RxRust makes a context's default scheduler wherever it needs one, and each would be another
/// thread.
#[derive(Clone)]
pub struct EventLoopScheduler {
    runtime: IoRuntime,
}

impl EventLoopScheduler {
    /// Starts a thread named `name`, without zero bytes.
    ///
    /// # Panics
    ///
    /// If the operating system refuses the thread. [`try_new`](Self::try_new) returns the refusal instead.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::try_new(name).expect("the operating system starts one more thread")
    }

    /// Starts a thread named `name`, without zero bytes.
    ///
    /// # Errors
    ///
    /// [`WsError::Runtime`] when the operating system refuses the thread.
    pub fn try_new(name: &str) -> Result<Self, WsError> {
        Ok(Self { runtime: IoRuntime::new(name)? })
    }
}

impl<S> Scheduler<S> for EventLoopScheduler
where
    S: Schedulable<Self> + Send + 'static,
    S::Future: Send + 'static,
{
    fn schedule(&self, source: S, delay: Option<Duration>) -> TaskHandle {
        self.runtime.schedule(source.into_future(self), delay)
    }
}

impl SleepProvider for EventLoopScheduler {
    type SleepFuture = tokio::time::Sleep;

    fn sleep(&self, duration: Duration) -> Self::SleepFuture {
        let _inside = self.runtime.handle().enter();
        tokio::time::sleep(duration)
    }
}

impl fmt::Debug for EventLoopScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoopScheduler").field("runtime", &self.runtime).finish()
    }
}
