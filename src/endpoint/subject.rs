//! What makes a server, a client, a group and a connection subjects of RxRust's.

/// Makes `$Type`, a struct of `inner: $Source<D>` and `scheduler: IoScheduler`, a subject of `$Item`, in which `$T` is whatever
/// converts into the datatype's item: a context whose pipelines are `Io` ones, and an observer by its methods `next`, `error`,
/// `complete` and `is_closing`.
macro_rules! endpoint {
    ($Type:ident, $Source:ident { $($field:ident),+ }, $T:ident => $Item:ty) => {
        $crate::context::io_context!($Type<D: WsDatatype>, $Source<D>);

        impl<D, $T, E> rxrust::observer::Observer<$Item, E> for $Type<D>
        where
            D: WsDatatype,
            $T: Into<D::Item>,
            E: Into<$crate::WsError>,
        {
            fn next(&mut self, item: $Item) {
                (*self).next(item);
            }

            fn error(self, error: E) {
                self.error(error);
            }

            fn complete(self) {
                self.complete();
            }

            fn is_closed(&self) -> bool {
                self.is_closing()
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
