//! [`Io`], and the macro that makes rxplus's components RxRust contexts, so that every operator works on them directly.

use rxrust::{context::SharedCtx, observable::BoxedCoreObservableSend};

use crate::IoScheduler;

/// RxRust's shared context on rxplus's background runtime: its time operators work in any thread.
///
/// ```
/// use rxplus::prelude::*;
///
/// let (sender, received) = std::sync::mpsc::channel();
/// let ticks = Io::interval(Duration::from_millis(1)).take(2);
/// ticks.subscribe(move |n| sender.send(n).unwrap_or(()));
/// assert_eq!(received.iter().collect::<Vec<_>>(), [0, 1]);
/// ```
pub type Io<T> = SharedCtx<T, IoScheduler>;

/// The type that `box_it()` makes of a pipeline in an [`Io`] context or on one of rxplus's subjects: it can be named, to
/// keep pipelines in a struct or to return different ones from a function.
///
/// ```
/// use rxplus::prelude::*;
///
/// struct Dashboard {
///     prices: IoBoxedObservable<'static, f64, WsError>,
/// }
///
/// # fn dashboard(client: RxWsClient<WsStr>) -> Dashboard {
/// Dashboard { prices: client.filter_map(|text| text.parse().ok()).box_it() }
/// # }
/// ```
pub type IoBoxedObservable<'a, T, E> = Io<BoxedCoreObservableSend<'a, T, E, IoScheduler>>;

/// Makes `$Type`, a struct of `inner: $Inner` and `scheduler: IoScheduler`, a context whose pipelines are [`Io`] ones.
macro_rules! io_context {
    ($Type:ident<D: $Bound:ident>, $Inner:ty) => {
        impl<D: $Bound> rxrust::context::Context for $Type<D> {
            type Scope = rxrust::context::SharedScope;
            type Inner = $Inner;
            type Scheduler = $crate::IoScheduler;
            type RcMut<U> = rxrust::context::MutArc<U>;
            type RcCell<U: Copy + Eq> = rxrust::context::CellArc<U>;
            type With<U> = $crate::Io<U>;
            type BoxedObserver<'a, Item, Err> =
                <$crate::Io<()> as rxrust::context::Context>::BoxedObserver<'a, Item, Err>;
            type BoxedObserverMutRef<'a, Item: 'a, Err> =
                <$crate::Io<()> as rxrust::context::Context>::BoxedObserverMutRef<'a, Item, Err>;
            type BoxedSubscription = <$crate::Io<()> as rxrust::context::Context>::BoxedSubscription;
            type BoxedCoreObservable<'a, Item, Err> =
                <$crate::Io<()> as rxrust::context::Context>::BoxedCoreObservable<'a, Item, Err>;
            type BoxedCoreObservableMutRef<'a, Item: 'a, Err> =
                <$crate::Io<()> as rxrust::context::Context>::BoxedCoreObservableMutRef<'a, Item, Err>;
            type BoxedCoreObservableClone<'a, Item, Err> =
                <$crate::Io<()> as rxrust::context::Context>::BoxedCoreObservableClone<'a, Item, Err>;
            type BoxedCoreObservableMutRefClone<'a, Item: 'a, Err> =
                <$crate::Io<()> as rxrust::context::Context>::BoxedCoreObservableMutRefClone<'a, Item, Err>;

            fn from_parts(inner: Self::Inner, scheduler: Self::Scheduler) -> Self {
                Self { inner, scheduler }
            }

            fn lift<U>(inner: U) -> Self::With<U> {
                $crate::Io::new(inner)
            }

            fn transform<U, F: FnOnce(Self::Inner) -> U>(self, f: F) -> Self::With<U> {
                $crate::Io::from_parts(f(self.inner), self.scheduler)
            }

            fn wrap<U>(&self, inner: U) -> Self::With<U> {
                $crate::Io::from_parts(inner, self.scheduler.clone())
            }

            fn swap<U>(self, inner: U) -> (Self::Inner, Self::With<U>) {
                (self.inner, $crate::Io::from_parts(inner, self.scheduler))
            }

            fn scheduler(&self) -> &Self::Scheduler {
                &self.scheduler
            }

            fn inner(&self) -> &Self::Inner {
                &self.inner
            }

            fn inner_mut(&mut self) -> &mut Self::Inner {
                &mut self.inner
            }

            fn into_inner(self) -> Self::Inner {
                self.inner
            }

            fn into_parts(self) -> (Self::Inner, Self::Scheduler) {
                (self.inner, self.scheduler)
            }
        }
    };
}
pub(crate) use io_context;
