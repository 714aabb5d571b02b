//! [`Signal`]: wakes the task of a client when topics have changed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

/// Wakes the task of a client when topics have changed.
#[derive(Default)]
pub(super) struct Signal {
    is_set: AtomicBool,
    task: Mutex<Option<Arc<Waker>>>,
}

/// The task, as it waits for a signal.
#[derive(Default)]
pub(crate) struct Watch(Option<Arc<Waker>>);

impl Signal {
    pub(super) fn set(&self) {
        if !self.is_set.swap(true, Ordering::SeqCst) {
            let task = self.lock().clone();
            task.into_iter().for_each(|task| task.wake_by_ref());
        }
    }

    /// Whether it was set since the last look. It wakes the task when it is set again.
    pub(super) fn look(&self, watch: &mut Watch, cx: &Context<'_>) -> bool {
        // The usual case, in each turn of a link, takes no lock.
        if !watch.0.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            let task = Arc::new(cx.waker().clone());
            watch.0 = Some(task.clone());
            let before = self.lock().replace(task);
            drop(before);
        }
        self.is_set.load(Ordering::SeqCst) && self.is_set.swap(false, Ordering::SeqCst)
    }

    /// Ignores poisoning: nothing can panic while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Waker>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
