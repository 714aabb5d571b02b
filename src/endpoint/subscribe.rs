//! `subscribe` with a closure, as a method of each endpoint: RxRust's own takes sources that cannot fail.

use rxrust::observer::Observer;

use crate::WsError;

/// Gives `$Type` the method `subscribe`, which logs an error at `$level`.
macro_rules! subscribe {
    ($Type:ident emits $Item:ty, errors at $level:ident) => {
        impl<D: WsDatatype> $Type<D> {
            /// Calls `next` with every item. An error that ends the endpoint is logged through
            #[doc = concat!("`tracing::", stringify!($level), "!`.")]
            ///
            /// A closure cannot receive an error. To see it, use [`on_error`](rxrust::observable::Observable::on_error), or
            /// an observer of your own with `subscribe_with`. Behind an operator,
            /// [`log_errors`](crate::ObservableExt::log_errors) does the same.
            pub fn subscribe(self, next: impl FnMut($Item) + Send + 'static) -> $crate::SerializedSubscription {
                let log = |error: &$crate::WsError| {
                    let error = $crate::error::Chain(error);
                    tracing::$level!(%error, "an endpoint ended with an error");
                };
                rxrust::observable::Observable::subscribe_with(self, $crate::endpoint::subscribe::Closure { next, log })
            }
        }
    };
}
pub(crate) use subscribe;

pub(crate) struct Closure<F> {
    pub(crate) next: F,
    pub(crate) log: fn(&WsError),
}

impl<T, F: FnMut(T)> Observer<T, WsError> for Closure<F> {
    fn next(&mut self, item: T) {
        (self.next)(item);
    }

    fn error(self, error: WsError) {
        (self.log)(&error);
    }

    fn complete(self) {}

    fn is_closed(&self) -> bool {
        false
    }
}
