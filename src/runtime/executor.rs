//! [`Executor`]: how the tasks of a runtime are run.

use std::{sync::Arc, time::Duration};

use rxrust::scheduler::TaskHandle;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{
    run_queue::{Drive, RunQueue, Work},
    side_by_side,
};

/// Runs a tokio runtime's tasks: in order where there is one thread, side by side where there are several.
pub(crate) enum Executor {
    InOrder(Arc<RunQueue>),
    SideBySide(Handle),
}

impl Executor {
    pub(crate) fn of(runtime: &Handle) -> Self {
        if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return Self::SideBySide(runtime.clone());
        }
        let queue = Arc::<RunQueue>::default();
        let drive: Work = Box::pin(Drive::new(queue.clone()));
        runtime.spawn(drive);
        Self::InOrder(queue)
    }

    pub(crate) fn schedule(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        delay: Option<Duration>,
    ) -> TaskHandle {
        match self {
            Self::InOrder(queue) => queue.schedule(Box::pin(task), delay),
            Self::SideBySide(runtime) => side_by_side::schedule(runtime, task, delay),
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Self::InOrder(queue) = self {
            queue.close();
        }
    }
}
