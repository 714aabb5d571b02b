//! Calls from the server to one of its clients.

use std::sync::{Arc, Weak, atomic::Ordering::Relaxed};

use rxrust::{context::Context, observable::CoreObservable, ops::map::Map};

use crate::{
    Connection, Io, IoScheduler, SendError, SerializedSubscription, WsDatatype,
    calls::{Caller, OnLoss, Replies},
    endpoint::{EndpointCore, Received},
    fate::Fate,
};

impl<D: WsDatatype> Caller<D> for Connection<D> {
    fn name(&self) -> &str {
        self.name()
    }

    fn home(&self) -> &IoScheduler {
        &self.core().component.home
    }

    fn next_number(&self) -> u64 {
        self.core().calls.fetch_add(1, Relaxed) + 1
    }

    fn offer(&self, request: &D::Outgoing, fate: &Arc<dyn Fate>) -> Result<(), SendError<()>> {
        self.core().offer(request, Some(fate))
    }

    fn hear(&self, replies: Replies<D>) -> SerializedSubscription {
        let items = Map { source: self.core().branch.clone(), func: |received: Received<D::Item>| received.item };
        items.subscribe(Io::from_parts(replies, self.core().component.home.clone()))
    }

    /// A connection that loses its link without a session is over, and so are its calls.
    fn watch(&self, _: Weak<dyn OnLoss>) {}
}
