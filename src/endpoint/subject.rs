//! `endpoint!`: makes servers, clients, groups and connections subjects of RxRust.

/// Makes `$Type`, a struct of `inner: $Source<D>` and `scheduler: IoScheduler`, a subject: a context whose pipelines are
/// `Io` ones, an observable of `$Item`, and an observer of `$Given`, where `$T` is any type that converts into the
/// datatype's outgoing item and `$convert` makes a `$Given` a `$Pushed`.
///
/// `$Source` has a `core`, an [`EndpointCore`](crate::endpoint::EndpointCore) in an `Arc`, and two methods: `arriving`
/// returns the observable of the arriving items, and `held` the value that each subscriber holds for as long as it lives.
/// The listed methods are those of every endpoint, with the docs that differ.
macro_rules! endpoint {
    (
        $Type:ident, $Source:ident { $($field:ident),+ },
        emits $Item:ty, takes $T:ident => $Given:ty => $Pushed:ty, $convert:expr;

        $(#[$next:meta])*
        fn next($given:ident);
        $(#[$send:meta])*
        fn send(_) -> $SendError:ident;
        $(#[$complete:meta])*
        fn complete();
        $(#[$events:meta])*
        fn events() -> $Event:ty;
        $(#[$closed:meta])*
        fn closed();
        $(#[$wait_closed:meta])*
        fn wait_closed();
    ) => {
        impl<D: WsDatatype> $Type<D> {
            $(#[$next])*
            pub fn next<$T: Into<D::Outgoing>>(&self, $given: $Given) {
                $crate::endpoint::EndpointCore::next(&self.inner.core, $convert($given));
            }

            $(#[$send])*
            pub fn send<$T: Into<D::Outgoing>>(&self, $given: $Given) -> Result<(), $SendError<$Pushed>> {
                $crate::endpoint::EndpointCore::send(&self.inner.core, $convert($given), None)
            }

            $(#[$complete])*
            pub fn complete(self) {
                $crate::endpoint::EndpointCore::finish(&*self.inner.core, Ok(()));
            }

            /// As [`complete`](Self::complete), and the subscribers receive `error`. WebSocket connections are closed with 1011; the
            /// link of a bus to its broker has no close code.
            pub fn error(self, error: impl Into<$crate::WsError>) {
                $crate::endpoint::EndpointCore::finish(&*self.inner.core, Err(error.into()));
            }

            $(#[$events])*
            #[must_use]
            pub fn events(&self) -> $crate::Io<$crate::endpoint::Feed<$Event>> {
                self.inner.core.component.events()
            }

            $(#[$closed])*
            ///
            /// # Cancel safety
            ///
            /// Cancel safe: dropping the future closes nothing, and a later call resolves all the same.
            pub fn closed(&self) -> impl std::future::Future<Output = $crate::CloseReport> + Send + use<D> {
                self.inner.core.component.closed()
            }

            $(#[$wait_closed])*
            pub fn wait_closed(&self, timeout: std::time::Duration) -> Result<$crate::CloseReport, $crate::WsError> {
                self.inner.core.component.wait_closed(timeout)
            }
        }

        $crate::context::io_context!($Type<D: WsDatatype>, $Source<D>);

        impl<D, $T, E> rxrust::observer::Observer<$Given, E> for $Type<D>
        where
            D: WsDatatype,
            $T: Into<D::Outgoing>,
            E: Into<$crate::WsError>,
        {
            fn next(&mut self, item: $Given) {
                (*self).next(item);
            }

            fn error(self, error: E) {
                self.error(error);
            }

            fn complete(self) {
                self.complete();
            }

            fn is_closed(&self) -> bool {
                $crate::endpoint::EndpointCore::is_closing(&*self.inner.core)
            }
        }

        impl<D: WsDatatype> rxrust::observable::ObservableType for $Source<D> {
            type Item<'a>
                = $Item
            where
                Self: 'a;
            type Err = $crate::WsError;
        }

        impl<D, C> rxrust::observable::CoreObservable<C> for $Source<D>
        where
            D: WsDatatype,
            C: rxrust::context::Context,
            C::Inner: rxrust::observer::Observer<$Item, $crate::WsError> + Send + 'static,
        {
            type Unsub = $crate::SerializedSubscription;

            fn subscribe(self, context: C) -> $crate::SerializedSubscription {
                let items =
                    rxrust::ops::map::Map { source: self.arriving(), func: $crate::endpoint::Arrived::into_item };
                // Before it joins: connections and clients feed only counted subscribers.
                let held = self.held();
                let context = context.transform(|observer| $crate::subject::holding::Holding::new(observer, held));
                rxrust::observable::CoreObservable::subscribe(items, context)
            }
        }

        // Not derived: the datatype need not be `Clone`.
        impl<D: WsDatatype> Clone for $Type<D> {
            fn clone(&self) -> Self {
                Self { inner: self.inner.clone(), scheduler: self.scheduler.clone() }
            }
        }

        impl<D: WsDatatype> Clone for $Source<D> {
            fn clone(&self) -> Self {
                Self { $($field: self.$field.clone()),+ }
            }
        }

        impl<D: WsDatatype> std::fmt::Debug for $Type<D> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($Type)).field("name", &self.name()).finish_non_exhaustive()
            }
        }

        impl<D: WsDatatype> std::fmt::Debug for $Source<D> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($Source)).finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use endpoint;
