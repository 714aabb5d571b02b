//! [`IoScheduler`]: RxRust's operators on rxplus's background threads.

use std::{fmt, time::Duration};

use rxrust::scheduler::{Schedulable, Scheduler, SleepProvider, TaskHandle};

use crate::runtime::{IoRuntime, WeakRuntime};

/// The scheduler of [`Io`](crate::Io) and of every component: it runs tasks on an [`IoRuntime`].
///
/// Works from any thread, with or without a tokio runtime. The default one runs on [`IoRuntime::global`]; a component's own
/// runs on that component's I/O thread, and on the global runtime once that thread has ended.
///
/// # Order
///
/// On a runtime of one thread, which is the default, tasks are run first in first out, whichever threads scheduled them;
/// delayed ones by the time they are due, and in the order of scheduling when that is the same. So `observe_on` and `delay`
/// keep order. On a runtime of several threads tasks run side by side and in no order: there
/// [`deliver_on`](crate::ObservableExt::deliver_on), which is one task, keeps it, and so does an
/// [`EventLoopScheduler`](crate::EventLoopScheduler).
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

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, mpsc},
        thread,
        time::Duration,
    };

    use rxrust::prelude::*;

    use super::*;
    use crate::{IoRuntime, SerializedSubject, memory::Memory};

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn item_posted_after_one_that_raced_with_the_emission_of_another_thread_is_delivered() {
        let runtime = IoRuntime::new("home").unwrap();
        let home = IoScheduler::on(&runtime);
        let subject = SerializedSubject::<usize>::at_home(home.clone(), Memory::Nothing);
        let (send, heard) = mpsc::channel();
        crate::Io::new(subject.clone()).subscribe(move |n| {
            // Lasts until the home thread, if it was woken, has found this emission.
            for _ in 0..2 {
                let (done, looked) = mpsc::channel();
                if n == 1 && !home.is_current() {
                    home.spawn(async move { done.send(()).unwrap() });
                    looked.recv_timeout(PATIENCE).unwrap();
                }
            }
            send.send(n).unwrap();
        });
        let meet = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    meet.wait();
                    subject.next(1);
                }
            });
            for _ in 0..5_000 {
                meet.wait();
                subject.post(2);
                heard.recv_timeout(PATIENCE).unwrap();
                heard.recv_timeout(PATIENCE).unwrap();
                subject.post(3);
                heard.recv_timeout(PATIENCE).unwrap();
            }
        });
    }
}
