//! [`Replies`]: the observer of an endpoint that finds the replies among what arrives.

use rxrust::observer::Observer;

use crate::{WsDatatype, WsError, calls::core::WeakCore, runtime::callback, subject::discard};

/// Reads the number of the call that an item answers, if it is a reply.
pub(super) type NumberOf<D> = Box<dyn FnMut(&<D as WsDatatype>::Item) -> Option<u64> + Send>;

/// The observer of an endpoint that finds the replies among what arrives.
pub(crate) struct Replies<D: WsDatatype> {
    core: WeakCore<D>,
    number_of: NumberOf<D>,
}

impl<D: WsDatatype> Replies<D> {
    pub(super) fn new(core: WeakCore<D>, number_of: NumberOf<D>) -> Self {
        Self { core, number_of }
    }
}

impl<D: WsDatatype> Observer<D::Item, WsError> for Replies<D> {
    fn next(&mut self, item: D::Item) {
        let Some(core) = self.core.upgrade() else { return discard(item) };
        let number = callback::attempt("a function that reads the number of a reply", || (self.number_of)(&item));
        match number {
            Ok(Some(number)) => core.end_one(number, Ok(item)),
            // Here, since this observer is that of all calls: the panic of a destructor must not end it.
            Ok(None) | Err(_) => discard(item),
        }
    }

    fn error(self, error: WsError) {
        if let Some(core) = self.core.upgrade() {
            core.end(error);
        }
    }

    // What ends is said when this is dropped, as it is when it is taken out for another reason.
    fn complete(self) {}

    fn is_closed(&self) -> bool {
        self.core.strong_count() == 0
    }
}

impl<D: WsDatatype> Drop for Replies<D> {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            let name = core.caller().name().to_owned();
            core.end(WsError::Closed(name));
        }
    }
}
