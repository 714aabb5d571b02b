//! RxRust's handles for tasks that it does not run.

use std::sync::OnceLock;

use rxrust::{
    scheduler::{Scheduler, SharedScheduler, TaskHandle},
    subscription::Subscription,
};
use tokio::runtime::{Builder, Handle};

/// Makes a handle, which is open until [`close`] or its user closes it.
pub(super) fn open() -> TaskHandle {
    // Only RxRust can make a handle, and does so for tasks given to its own scheduler. A runtime that has ended drops the
    // task at once, without looking at the handle.
    let _inside = ended_runtime().enter();
    SharedScheduler.schedule(std::future::pending(), None)
}

/// Marks the task as over.
pub(super) fn close(handle: &TaskHandle) {
    handle.clone().unsubscribe();
}

fn ended_runtime() -> &'static Handle {
    static ENDED: OnceLock<Handle> = OnceLock::new();
    ENDED.get_or_init(|| {
        let runtime = Builder::new_current_thread().build().expect("without drivers it asks nothing of the system");
        let handle = runtime.handle().clone();
        // Not by dropping it: tokio forbids that in an async context.
        runtime.shutdown_background();
        handle
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handle_is_open_until_it_is_closed() {
        let handle = open();
        assert!(!handle.is_closed());
        close(&handle);
        assert!(handle.is_closed());
    }

    #[tokio::test]
    async fn handles_are_made_and_awaited_inside_of_tokio() {
        let handle = open();
        close(&handle);
        handle.await;
    }
}
