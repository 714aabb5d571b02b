//! [`SerializedSubscription`], and how it takes its observer out of the subject.

use std::{
    fmt,
    sync::{Arc, Weak},
    vec,
};

use rxrust::subscription::Subscription;

use crate::{
    runtime::callback,
    subject::{core::Core, joining::Joining, state::take_open},
    sync::{AtomicBool, Ordering},
};

/// The subscription to a [`SerializedSubject`](crate::SerializedSubject).
///
/// After `unsubscribe` has returned no delivery begins, and the observer is dropped as soon as nobody is using it. Dropping
/// the subscription does not unsubscribe.
#[derive(Clone)]
pub struct SerializedSubscription {
    number: u64,
    open: Arc<AtomicBool>,
    subject: Weak<dyn Remove>,
}

impl SerializedSubscription {
    /// The subscription of the observer with this `number`, which hears its subject as long as `open` is set.
    pub(crate) fn new<T, E>(number: u64, open: Arc<AtomicBool>, core: &Arc<Core<T, E>>) -> Self
    where
        T: Clone + Send + 'static,
        E: Clone + Send + Sync + 'static,
    {
        let subject: Arc<dyn Remove> = core.clone();
        Self { number, open, subject: Arc::downgrade(&subject) }
    }
}

impl Subscription for SerializedSubscription {
    fn unsubscribe(self) {
        take_open(&self.open);
        // Also if it was closed before: the call that closed it may still be on its way to the removal.
        if let Some(subject) = self.subject.upgrade() {
            subject.remove(self.number);
        }
    }

    fn is_closed(&self) -> bool {
        !self.open.load(Ordering::Acquire)
    }
}

impl fmt::Debug for SerializedSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerializedSubscription").field("is_closed", &self.is_closed()).finish()
    }
}

/// The part of a subject that a subscription needs, whatever the subject's types.
trait Remove: Send + Sync {
    /// Drops an observer that is no longer open.
    fn remove(&self, number: u64);
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Remove for Core<T, E> {
    fn remove(&self, number: u64) {
        let mut state = self.lock();
        let Some(mut observers) = self.token.try_hold() else {
            return self.stale.store(true, Ordering::Release);
        };
        let joining = &mut state.joining;
        let gone = match observers.binary_search_by_key(&number, |slot| slot.number) {
            Ok(at) => Some(Joining { slot: observers.remove(at), backlog: vec::IntoIter::default() }),
            Err(_) => {
                let at = joining.iter().position(|joining| joining.slot.number == number);
                at.and_then(|at| joining.remove(at))
            }
        };
        let Some(Joining { slot, backlog }) = gone else { return };
        callback::run(|| {
            let handed = state.hand_on(backlog, observers.is_empty());
            drop(observers);
            drop(state);
            self.dismiss(slot);
            handed.finish();
        });
    }
}
