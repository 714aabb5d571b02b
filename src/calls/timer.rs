//! The timer of calls: one task for all that wait on an endpoint.

use std::sync::{Arc, Weak};

use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::{WsDatatype, calls::core::Core};

/// Starts the timer, which ends with the calls. It looks again when `changed` says so, or at the time that it was told.
pub(super) fn start<D: WsDatatype>(core: &Arc<Core<D>>, changed: &Arc<Notify>) {
    let (weak, changed) = (Arc::downgrade(core), changed.clone());
    core.caller().home().spawn(async move {
        while let Some(at) = look(&weak) {
            tokio::select! {
                () = sleep_until(at) => {}
                () = changed.notified() => {}
            }
            // A time that is over already, as of many calls at once, is not waited for.
            yield_now().await;
        }
    });
}

/// Ends the calls whose time is over. Returns when to look again, or `None` when nobody makes calls any more.
fn look<D: WsDatatype>(core: &Weak<Core<D>>) -> Option<Instant> {
    core.upgrade()?.expire(Instant::now())
}
