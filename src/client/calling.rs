//! [`Calling`]: what a client knows of the calls that are made through it.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rxrust::{context::Context, observable::CoreObservable, ops::map::Map};

use crate::{
    Io, IoScheduler, RxWsClient, SendError, SerializedSubscription, WsDatatype, WsError,
    calls::{Caller, Loss, OnLoss, Replies},
    endpoint::{EndpointCore, Received},
    fate::Fate,
};

/// What a client knows of the calls that are made through it.
#[derive(Default)]
pub(crate) struct Calling {
    last_number: AtomicU64,
    calls: Mutex<Vec<Weak<dyn OnLoss>>>,
}

impl Calling {
    /// Ends the calls whose answers are lost, or sends their requests again.
    pub(crate) fn lost(&self, loss: Loss, error: &WsError) {
        let calls: Vec<_> = self.lock(|calls| calls.iter().filter_map(Weak::upgrade).collect());
        calls.into_iter().for_each(|calls: Arc<dyn OnLoss>| calls.lost(loss, error));
    }

    fn add(&self, new: Weak<dyn OnLoss>) {
        self.lock(|calls| {
            calls.retain(|calls| calls.strong_count() > 0);
            calls.push(new);
        });
    }

    fn lock<R>(&self, f: impl FnOnce(&mut Vec<Weak<dyn OnLoss>>) -> R) -> R {
        f(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<D: WsDatatype> Caller<D> for RxWsClient<D> {
    fn name(&self) -> &str {
        self.name()
    }

    fn home(&self) -> &IoScheduler {
        &self.scheduler
    }

    fn next_number(&self) -> u64 {
        self.core().calling.last_number.fetch_add(1, Relaxed) + 1
    }

    fn offer(&self, request: &D::Outgoing, fate: &Arc<dyn Fate>) -> Result<(), SendError<()>> {
        self.inner.core.offer(request, Some(fate))
    }

    fn hear(&self, replies: Replies<D>) -> SerializedSubscription {
        let items = Map { source: self.core().inbound.clone(), func: |received: Received<D::Item>| received.item };
        items.subscribe(Io::from_parts(replies, self.scheduler.clone()))
    }

    fn watch(&self, calls: Weak<dyn OnLoss>) {
        self.core().calling.add(calls);
    }
}
