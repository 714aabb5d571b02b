//! What ends a component when its last handle and its last subscriber are gone.

use std::sync::Arc;

/// Shared by a component's handles and subscribers; when the last of them goes, it asks the component to end.
pub(crate) struct Keeper(Box<dyn Fn() + Send + Sync>);

impl Keeper {
    pub(crate) fn new(when_alone: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self(Box::new(when_alone)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        (self.0)();
    }
}
