//! A server on a bus: what is pushed goes out over it as well, and what comes in goes to the clients.

pub(super) mod lost;

pub use lost::BusLost;

use std::{
    any::TypeId,
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::sync::watch;

use crate::{
    Frame, Presence, RxBus, SendError, SerializedSubject, Tag, TaggedData, WsDatatype,
    bus::{
        core::Told,
        interests::{Holder, Interest, Scope},
        presence::channel::Channel,
        servers::Sink,
    },
    presence::{Held, Keeping, Registry, roster},
    server::core::ServerCore,
    subject::Backlog,
};

/// The bus of a server, and what the program has said about it.
pub(crate) struct BusOptions<D: WsDatatype> {
    /// `None` if the server shares none.
    pub(crate) bus: Option<Arc<dyn ServerBus<D::Outgoing>>>,
    pub(crate) on_lost: BusLost,
}

// Not derived: the datatype need not be `Default`.
impl<D: WsDatatype> Default for BusOptions<D> {
    fn default() -> Self {
        Self { bus: None, on_lost: BusLost::default() }
    }
}

impl<D: WsDatatype> fmt::Debug for BusOptions<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_shared = self.bus.is_some();
        f.debug_struct("BusOptions")
            .field("is_shared", &is_shared)
            .field("on_lost", &self.on_lost)
            .finish_non_exhaustive()
    }
}

/// The bus of a server that pushes `T`, whatever the datatype of the bus.
pub(crate) trait ServerBus<T>: Registry {
    /// Lets the bus send what comes in to the server of this name, which it does not keep alive.
    fn join(&self, name: &str, server: Weak<dyn Sink<T>>);

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
    place: OnceLock<Place>,
    encodes_alike: bool,
    /// The server has ended.
    is_over: AtomicBool,
}

/// The place of a server on its bus.
struct Place {
    number: u64,
    /// The name that no other server on the bus has.
    name: Arc<str>,
    /// Others ask who is here.
    _asks: Interest,
}

impl Place {
    fn on(&self, tag: &Tag) -> roster::Place {
        roster::Place { path: tag.clone(), server: self.name.clone() }
    }
}

impl<B: WsDatatype> Joined<B> {
    /// The number of the server; 0 before it has joined.
    fn number(&self) -> u64 {
        self.place.get().map_or(0, |place| place.number)
    }
}

impl<B: WsDatatype> Registry for Joined<B> {
    fn count_in(&self, tag: &Tag, id: u64, name: Option<&Arc<str>>) -> bool {
        let presence = &self.bus.inner.core.presence;
        self.place.get().is_some_and(|place| presence.join(&place.on(tag), id, name.cloned()))
    }

    fn count_out(&self, tag: &Tag, id: u64, name: Option<&Arc<str>>) -> bool {
        let presence = &self.bus.inner.core.presence;
        self.place.get().is_some_and(|place| presence.leave(&place.on(tag), id, name))
    }

    fn wake(&self) {
        self.bus.inner.core.presence.wake();
    }

    /// Observers do not keep the bus open.
    fn watch(self: Arc<Self>) -> (SerializedSubject<TaggedData<Presence>>, Held) {
        let core = &self.bus.inner.core;
        let interests = core.presence.hears(&core.interests);
        let (subject, watching) = core.presence.watch_all(self.number());
        // Looked at afterwards: an observer that comes while the server ends is among those who are told, or sees it here.
        if self.is_over.load(SeqCst) {
            subject.clone().complete();
        }
        (subject, Box::new((watching, interests)))
    }

    fn end(&self) -> Vec<Arc<dyn Backlog>> {
        self.is_over.store(true, SeqCst);
        self.bus.inner.core.presence.end_all(self.number())
    }

    fn is_here(&self, server: &str) -> bool {
        self.place.get().is_some_and(|place| *place.name == *server)
    }

    /// The task of the bus does it.
    fn keep(&self) -> Keeping<'_> {
        Box::pin(std::future::pending())
    }
}

/// Makes a bus that of a server with the datatype `D`.
pub(crate) fn bus_of<D: WsDatatype, B: WsDatatype<Item = D::Outgoing, Outgoing = D::Outgoing>>(
    bus: &RxBus<B>,
) -> Arc<dyn ServerBus<D::Outgoing>> {
    // A type without any data has no options in which two of it could differ.
    let encodes_alike = TypeId::of::<D>() == TypeId::of::<B>() && size_of::<D>() == 0;
    Arc::new(Joined { bus: bus.clone(), place: OnceLock::new(), encodes_alike, is_over: AtomicBool::new(false) })
}

impl<T, B> ServerBus<T> for Joined<B>
where
    T: Clone + Send + 'static,
    B: WsDatatype<Item = T, Outgoing = T>,
{
    fn join(&self, name: &str, server: Weak<dyn Sink<T>>) {
        let core = &self.bus.inner.core;
        self.place.get_or_init(|| {
            let number = core.servers.add(server);
            let asks = core.interests.join(Scope::Presence(Channel::Asks), Holder::Watcher);
            Place { number, name: core.presence.server(name, number), _asks: asks }
        });
    }

    fn push(&self, tagged: &TaggedData<T>, frame: &Frame) -> Result<(), SendError<()>> {
        self.bus.inner.core.offer_from(tagged, self.encodes_alike.then_some(frame), self.number())
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

impl<D: WsDatatype> ServerCore<D> {
    /// Lets the bus, if there is one, send what comes in to this server.
    pub(crate) fn join_bus(&self) {
        if let Some(bus) = &self.on_bus.bus {
            bus.join(self.component.name(), self.this.clone());
        }
    }

    /// Keeps the bus, if there is one, interested in a tag.
    pub(super) fn interest(&self, tag: &Tag) -> Option<Held> {
        Some(Box::new(self.on_bus.bus.as_ref()?.interest(tag)))
    }
}

impl<D: WsDatatype> Sink<D::Outgoing> for ServerCore<D> {
    fn deliver(&self, tagged: &TaggedData<D::Outgoing>, frame: &Frame) {
        let Some(bus) = &self.on_bus.bus else { return };
        let encoded = match bus.encodes_alike() {
            true => Ok(frame.clone()),
            false => self.codec.encode(&tagged.tag, &tagged.data, || false),
        };
        match encoded {
            Ok(frame) => {
                let key = self.codec.key(&tagged.tag, &tagged.data);
                self.routes.relay(&tagged.tag, self.outgoing(&tagged.tag, frame), key);
            }
            Err(SendError::Encode((), error)) => {
                let event = crate::endpoint::EndpointCore::unencodable(self, tagged.clone(), error);
                self.component.events.post(event);
            }
            // The codec gives no other error.
            Err(_) => {}
        }
    }
}
