//! What ends a component when its last handle and its last subscriber are gone.

use std::sync::Arc;

use rxrust::observer::Observer;

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

/// An observer that keeps what it observes open.
#[derive(Clone)]
pub(crate) struct Kept<O> {
    observer: O,
    _keeper: Arc<Keeper>,
}

impl<O> Kept<O> {
    pub(crate) fn new(observer: O, keeper: Arc<Keeper>) -> Self {
        Self { observer, _keeper: keeper }
    }
}

impl<T, E, O: Observer<T, E>> Observer<T, E> for Kept<O> {
    fn next(&mut self, item: T) {
        self.observer.next(item);
    }

    fn error(self, error: E) {
        self.observer.error(error);
    }

    fn complete(self) {
        self.observer.complete();
    }

    fn is_closed(&self) -> bool {
        self.observer.is_closed()
    }
}
