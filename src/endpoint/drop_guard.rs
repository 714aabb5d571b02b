//! [`DropGuard`]: ends an endpoint when its last handle and its last subscriber are gone.

use std::sync::Arc;

use crate::endpoint::EndpointCore;

/// Shared by an endpoint's handles and subscribers; when the last of them goes, it asks the endpoint to end.
pub(crate) struct DropGuard(Box<dyn Fn() + Send + Sync>);

impl DropGuard {
    /// A guard that does not keep the endpoint alive: only its task does.
    pub(crate) fn of<C: EndpointCore>(core: &Arc<C>) -> Arc<Self> {
        let core = Arc::downgrade(core);
        Arc::new(Self(Box::new(move || {
            if let Some(core) = core.upgrade() {
                core.finish(Ok(()));
            }
        })))
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        (self.0)();
    }
}
