//! [`ServerPresenceFeed`]: the observable that [`RxWsServer::presence`](crate::RxWsServer::presence) returns.

use std::{convert::Infallible, fmt, sync::Arc};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::{
    Io, IoScheduler, Presence, SerializedSubscription, TaggedData, presence::Registry, subject::holding::Holding,
};

/// Who is on which tag, in an [`Io`] context: the present state first, then each change. *Hot*.
///
/// # Emission
///
/// On the I/O thread of the server, or of its bus. Of each tag five times a second at most: an observer that is slow hears the latest
/// state. Its error type is `Infallible`, so `subscribe(closure)` works directly. It completes with the server, or with its bus, and
/// keeps neither open.
#[derive(Clone)]
pub struct ServerPresenceFeed {
    registry: Arc<dyn Registry>,
}

impl ServerPresenceFeed {
    pub(crate) fn of(registry: &Arc<dyn Registry>, home: &IoScheduler) -> Io<Self> {
        Io::from_parts(Self { registry: registry.clone() }, home.clone())
    }
}

impl ObservableType for ServerPresenceFeed {
    type Item<'a>
        = TaggedData<Presence>
    where
        Self: 'a;
    type Err = Infallible;
}

impl<C> CoreObservable<C> for ServerPresenceFeed
where
    C: Context,
    C::Inner: Observer<TaggedData<Presence>, Infallible> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        let (subject, watching) = self.registry.watch();
        subject.subscribe(context.transform(|observer| Holding::new(observer, watching)))
    }
}

impl fmt::Debug for ServerPresenceFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerPresenceFeed").finish_non_exhaustive()
    }
}
