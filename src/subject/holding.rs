//! [`Holding`]: an observer that holds something for as long as it lives.

use rxrust::observer::Observer;

/// An observer, and a value that is dropped with it: its owner counts subscribers by that value, or stays open for it.
#[derive(Clone)]
pub(crate) struct Holding<O, H> {
    observer: O,
    _held: H,
}

impl<O, H> Holding<O, H> {
    pub(crate) fn new(observer: O, held: H) -> Self {
        Self { observer, _held: held }
    }
}

impl<T, E, O: Observer<T, E>, H> Observer<T, E> for Holding<O, H> {
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
