//! A server on a bus: what is pushed goes out over it as well, and what comes in goes to the clients.

use std::{
    any::TypeId,
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use tokio::sync::watch;

use crate::{
    Frame, RxBus, SendError, Tag, TaggedData, WsDatatype,
    bus::{
        core::Told,
        interests::{Holder, Interest, Scope},
        servers::Sink,
    },
    server::core::ServerCore,
};

/// The bus of a server that pushes `T`, whatever the datatype of the bus.
pub(crate) trait ServerBus<T>: Send + Sync {
    /// Lets the bus send what comes in to `server`, which it does not keep alive.
    fn join(&self, server: Weak<dyn Sink<T>>);

    /// Passes on what was pushed into the server, which encodes it as `frame`.
    fn push(&self, tagged: &TaggedData<T>, frame: &Frame) -> Result<(), SendError<()>>;

    /// Asks the bus for the messages of a path, for as long as the result lives.
    fn interest(&self, path: &Tag) -> Interest;

    /// Whether a frame of the bus is one of the server's.
    fn encodes_alike(&self) -> bool;

    /// What the broker knows of the bus, as it changes. This does not keep the bus open.
    fn told(&self) -> watch::Receiver<Told>;
}

/// A bus, and the place of a server on it. Its handle keeps the bus open.
struct Joined<B: WsDatatype> {
    bus: RxBus<B>,
    /// The server's number on the bus.
    number: OnceLock<u64>,
    encodes_alike: bool,
}

/// Makes a bus that of a server with the datatype `D`.
pub(crate) fn bus_of<D: WsDatatype, B: WsDatatype<Item = D::Outgoing, Outgoing = D::Outgoing>>(
    bus: &RxBus<B>,
) -> Arc<dyn ServerBus<D::Outgoing>> {
    // A type without any data has no options in which two of it could differ.
    let encodes_alike = TypeId::of::<D>() == TypeId::of::<B>() && size_of::<D>() == 0;
    Arc::new(Joined { bus: bus.clone(), number: OnceLock::new(), encodes_alike })
}

impl<T, B> ServerBus<T> for Joined<B>
where
    T: Clone + Send + 'static,
    B: WsDatatype<Item = T, Outgoing = T>,
{
    fn join(&self, server: Weak<dyn Sink<T>>) {
        self.number.get_or_init(|| self.bus.inner.core.servers.add(server));
    }

    fn push(&self, tagged: &TaggedData<T>, frame: &Frame) -> Result<(), SendError<()>> {
        let from = self.number.get().copied().unwrap_or_default();
        self.bus.inner.core.offer_from(tagged, self.encodes_alike.then_some(frame), from)
    }

    fn interest(&self, path: &Tag) -> Interest {
        self.bus.inner.core.interests.join(Scope::Path(path.clone()), Holder::Server)
    }

    fn encodes_alike(&self) -> bool {
        self.encodes_alike
    }

    fn told(&self) -> watch::Receiver<Told> {
        self.bus.inner.core.told.subscribe()
    }
}

impl<D: WsDatatype> Sink<D::Outgoing> for ServerCore<D> {
    fn deliver(&self, tagged: &TaggedData<D::Outgoing>, frame: &Frame) {
        let Some(bus) = &self.bus else { return };
        let encoded = match bus.encodes_alike() {
            true => Ok(frame.clone()),
            false => self.codec.encode(&tagged.tag, &tagged.data, || false),
        };
        match encoded {
            Ok(frame) => self.routes.relay(&tagged.tag, frame),
            Err(SendError::Encode((), error)) => {
                let event = crate::endpoint::EndpointCore::unencodable(self, tagged.clone(), error);
                self.component.events.post(event);
            }
            // The codec gives no other error.
            Err(_) => {}
        }
    }
}

impl<T> fmt::Debug for dyn ServerBus<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBus").finish_non_exhaustive()
    }
}
