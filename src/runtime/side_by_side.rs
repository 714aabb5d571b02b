//! Tasks on a runtime of several threads: side by side, in no order.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rxrust::scheduler::{Scheduler, SharedScheduler, TaskHandle};
use tokio::{runtime::Handle, sync::oneshot};

use crate::runtime::callback;

/// Runs `task`, on its own, on any thread of `runtime`.
pub(super) fn schedule(
    runtime: &Handle,
    task: impl Future<Output = ()> + Send + 'static,
    delay: Option<Duration>,
) -> TaskHandle {
    let (give_handle, handle) = oneshot::channel();
    let work = cancellable(handle, delay, AsCallback { task: Box::pin(task) });
    // Only RxRust can make a handle, and does so for tasks given to its own scheduler.
    let _inside = runtime.enter();
    let handle = SharedScheduler.schedule(work, None);
    // Nobody listens if a runtime that is shutting down has dropped the task already.
    let _ = give_handle.send(handle.clone());
    handle
}

/// Runs `task` after `delay`, unless it is cancelled: then it is dropped at once rather than when its timer fires, since
/// it holds observers and the threads.
async fn cancellable(handle: oneshot::Receiver<TaskHandle>, delay: Option<Duration>, task: impl Future<Output = ()>) {
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
}

/// A task whose pushes wait until it yields, and whose panic goes no further.
struct AsCallback<F> {
    task: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for AsCallback<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut polled = Poll::Ready(());
        callback::begin_turn();
        callback::task(|| {
            callback::isolate("a scheduled task", || polled = self.task.as_mut().poll(cx));
        });
        polled
    }
}
