//! [`Executor`]: how the tasks of a runtime are run.

use std::{sync::Arc, time::Duration};

use rxrust::scheduler::TaskHandle;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{
    run_queue::{Drive, Lane},
    side_by_side,
};

/// Runs a tokio runtime's tasks: in order where there is one thread, side by side where there are several.
pub(crate) enum Executor {
    InOrder(Arc<Lane>),
    SideBySide(Handle),
}

impl Executor {
    pub(crate) fn of(runtime: &Handle) -> Self {
        if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return Self::SideBySide(runtime.clone());
        }
        let lane = Arc::<Lane>::default();
        runtime.spawn(Drive::new(lane.clone()));
        Self::InOrder(lane)
    }

    pub(crate) fn schedule(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        delay: Option<Duration>,
    ) -> TaskHandle {
        match self {
            Self::InOrder(lane) => lane.schedule(Box::pin(task), delay),
            Self::SideBySide(runtime) => side_by_side::schedule(runtime, task, delay),
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Self::InOrder(lane) = self {
            lane.close();
        }
    }
}
