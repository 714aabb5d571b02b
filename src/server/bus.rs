//! A server on a bus: what is pushed goes out over it as well, and what comes in goes to the clients.

use std::{
    any::TypeId,
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use tokio::sync::watch;

use crate::{
    BusLost, Connection, Frame, RxBus, SendError, Tag, TaggedData, WsDatatype,
    bus::{
        core::Told,
        interests::{Holder, Interest, Scope},
        presence::{Attendance, channel::Channel},
        servers::Sink,
    },
    runtime::callback,
    server::core::ServerCore,
};

/// The name of a connection, as the program gives it.
pub(crate) type NameOf<D> = Arc<dyn Fn(&Connection<D>) -> Option<String> + Send + Sync>;

/// The bus of a server, and what the program has said about it.
pub(crate) struct BusOptions<D: WsDatatype> {
    /// `None` if the server shares none.
    pub(crate) bus: Option<Arc<dyn ServerBus<D::Outgoing>>>,
    pub(crate) on_lost: BusLost,
    pub(crate) name_of: Option<NameOf<D>>,
}

// Not derived: the datatype need not be `Default`.
impl<D: WsDatatype> Default for BusOptions<D> {
    fn default() -> Self {
        Self { bus: None, on_lost: BusLost::default(), name_of: None }
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
pub(crate) trait ServerBus<T>: Send + Sync {
    /// Lets the bus send what comes in to the server of this name, which it does not keep alive.
    fn join(&self, name: &str, server: Weak<dyn Sink<T>>);

    /// Passes on what was pushed into the server, which encodes it as `frame`.
    fn push(&self, tagged: &TaggedData<T>, frame: &Frame) -> Result<(), SendError<()>>;

    /// Asks the bus for the messages of a path, for as long as the result lives.
    fn interest(&self, path: &Tag) -> Interest;

    /// Tells the others of a connection, for as long as the result lives. `None` before the server has joined.
    fn attend(&self, path: &Tag, id: u64, name: Option<String>) -> Option<Attendance>;

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
}

/// The place of a server on its bus.
struct Place {
    number: u64,
    /// The name that no other server on the bus has.
    name: Arc<str>,
    /// Others ask who is here.
    _asks: Interest,
}

/// Makes a bus that of a server with the datatype `D`.
pub(crate) fn bus_of<D: WsDatatype, B: WsDatatype<Item = D::Outgoing, Outgoing = D::Outgoing>>(
    bus: &RxBus<B>,
) -> Arc<dyn ServerBus<D::Outgoing>> {
    // A type without any data has no options in which two of it could differ.
    let encodes_alike = TypeId::of::<D>() == TypeId::of::<B>() && size_of::<D>() == 0;
    Arc::new(Joined { bus: bus.clone(), place: OnceLock::new(), encodes_alike })
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
        let from = self.place.get().map_or(0, |place| place.number);
        self.bus.inner.core.offer_from(tagged, self.encodes_alike.then_some(frame), from)
    }

    fn interest(&self, path: &Tag) -> Interest {
        self.bus.inner.core.interests.join(Scope::Path(path.clone()), Holder::Server)
    }

    fn attend(&self, path: &Tag, id: u64, name: Option<String>) -> Option<Attendance> {
        let place = self.place.get()?;
        Some(self.bus.inner.core.presence.attend(&place.name, path, id, name))
    }

    fn encodes_alike(&self) -> bool {
        self.encodes_alike
    }

    fn told(&self) -> watch::Receiver<Told> {
        self.bus.inner.core.told.subscribe()
    }
}

/// A connection on the bus of its server.
pub(crate) struct OnBus {
    _interest: Interest,
    attendance: Option<Attendance>,
}

impl<D: WsDatatype> ServerCore<D> {
    /// Keeps the bus, if there is one, interested in the path of a connection. In a box, since most servers have none.
    pub(crate) fn enter_bus(&self, connection: &Connection<D>) -> Option<Box<OnBus>> {
        let interest = self.on_bus.bus.as_ref()?.interest(connection.path());
        Some(Box::new(OnBus { _interest: interest, attendance: None }))
    }

    /// Tells the other servers of a connection that is open.
    pub(crate) fn attend(&self, connection: &Connection<D>, on_bus: &mut OnBus) {
        let Some(bus) = &self.on_bus.bus else { return };
        let name = self.on_bus.name_of.as_ref().and_then(|name_of| self.name(connection, name_of));
        on_bus.attendance = bus.attend(connection.path(), connection.id(), name);
    }

    /// A connection whose name cannot be made has none.
    fn name(&self, connection: &Connection<D>, name_of: &NameOf<D>) -> Option<String> {
        let name = callback::run(|| callback::attempt("the function given to member(..)", || name_of(connection)));
        name.unwrap_or_else(|_| {
            self.component.events.report_panic();
            None
        })
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
