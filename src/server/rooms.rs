//! Rooms: the tags that a connection is on beside its path.
//!
//! ```text
//! path, join ---> Tags of the connection -+-> routing table   messages of the tag reach its outbox
//!                 its own lock            +-> interest        the bus sends them to this server
//!                                         +-> presence        the others hear who is there, once it has a name
//! ```
//!
//! The lock of the tags orders what is told of one connection: a departure never overtakes the arrival before it. It is held
//! while the routing table and the roster are changed, which call nobody; whoever is to be woken for that is woken behind it.

use std::{
    collections::BTreeMap,
    mem::replace,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Connection, Tag, WsDatatype, WsError,
    endpoint::EndpointCore,
    outbox::Outbox,
    presence::Held,
    server::{connection::ConnectionCore, core::ServerCore},
};

/// Bytes of a room's name. A peer's wish may become one, and each connection may be in many.
const MAX_LEN: usize = 1024;

impl<D: WsDatatype> Connection<D> {
    /// Puts the connection into a room: from now on, until it [leaves](Self::leave) or ends, messages pushed into the server for
    /// this tag reach it as well. Returns whether it was not there already.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// server.connections().subscribe(|connection| {
    ///     let guest = connection.clone();
    ///     connection.subscribe(move |text| {
    ///         // What peers choose has a prefix, or they could join the path of others.
    ///         if let Some(name) = text.strip_prefix("join ")
    ///             && let Err(error) = guest.join(format!("/rooms/{name}"))
    ///         {
    ///             guest.next(error.to_string());
    ///         }
    ///     });
    /// });
    /// server.next(TaggedData::new("/rooms/rust", "hello")); // to those who are there
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// A room is a tag like any path: whoever has connected to the path of that name hears the same messages, and a connection
    /// hears each message once, by whichever tag. It is encoded for the tag, so a [`WsByPath`](crate::WsByPath) must know rooms
    /// too, and takes its place in the one outbox of the connection. What the connection says keeps the tag of its path. Its own
    /// path it is always on: joining that changes nothing.
    ///
    /// Tags are compared letter by letter, and the tag of a path is as it stands in the URL: `join("/rooms/café")` and a connection
    /// to `/rooms/café` are two rooms, since the tag of the second is `/rooms/caf%C3%A9`.
    ///
    /// What was pushed before is not delivered; all that is pushed after this has returned is. It may be called on any thread
    /// and in callbacks. The connection leaves all rooms when it ends, before its last event. In the
    /// [resumable mode](crate::Resume) it keeps them while its client is away.
    ///
    /// On a [bus](crate::guide::bus) the messages of the room come to this server for as long as a connection of it is there, and
    /// 10 s more.
    ///
    /// # Errors
    ///
    /// - [`WsError::InvalidRoom`] for a name that does not begin with `/`, or is longer than 1,024 bytes.
    /// - [`WsError::TooManyRooms`] beyond [`Limits::rooms`](crate::Limits::rooms), 128 by default: so many names are the memory
    ///   that a peer can take by its wishes.
    /// - [`WsError::Closed`] once the connection or its server is to end, or has ended.
    pub fn join(&self, room: impl Into<Tag>) -> Result<bool, WsError> {
        let (core, room) = (self.core(), room.into());
        if !room.starts_with('/') || room.len() > MAX_LEN {
            return Err(WsError::InvalidRoom(room.into()));
        }
        let server = core.server.upgrade().filter(|server| !server.is_closing() && !core.is_closing());
        match server {
            Some(server) => server.join(self, room),
            None => Err(self.is_over()),
        }
    }

    /// Takes the connection out of a room. Returns whether it was there. It never leaves its path: of that, nothing changes.
    ///
    /// Nothing that is pushed after this has returned is delivered; what is in its outbox is.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// server.connections().subscribe(|connection| {
    ///     let guest = connection.clone();
    ///     connection.subscribe(move |text| {
    ///         if let Some(name) = text.strip_prefix("leave ") {
    ///             guest.leave(&format!("/rooms/{name}"));
    ///         }
    ///     });
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn leave(&self, room: impl AsRef<str>) -> bool {
        self.core().server.upgrade().is_some_and(|server| server.leave(self, room.as_ref()))
    }

    /// The tags by which messages reach it: first its path, and then its rooms, in the order of their names. None after its end.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// server.connections().subscribe(|connection| {
    ///     connection.join("/rooms/rust").expect("it has just come");
    ///     assert!(connection.tags().iter().skip(1).eq(["/rooms/rust"])); // not `[1..]`, which panics after the end
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn tags(&self) -> Vec<Tag> {
        let core = self.core();
        let tags = core.tags.lock();
        tags.own.iter().map(|_| &core.path).chain(tags.rooms.keys()).cloned().collect()
    }

    fn is_over(&self) -> WsError {
        WsError::Closed(self.name().to_owned())
    }
}

/// The tags that a connection is on.
#[derive(Default)]
pub(crate) struct Tags(Mutex<State>);

#[derive(Default)]
struct State {
    stage: Stage,
    /// That on its path.
    own: Option<Seat>,
    rooms: BTreeMap<Tag, Seat>,
    /// The name under which it is present.
    name: Option<Arc<str>>,
    /// Whether its link compresses.
    compresses: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Stage {
    /// It is not counted among those who are there: its name is not known.
    #[default]
    Nameless,
    Present,
    Ended,
}

/// The place of a connection on a tag.
struct Seat {
    /// The number of its outbox in the routing table.
    route: u64,
    /// What keeps the bus interested in the tag.
    _interest: Option<Held>,
}

impl Tags {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: WsDatatype> ConnectionCore<D> {
    /// Whether messages of this tag reach it.
    pub(crate) fn is_on(&self, tag: &Tag) -> bool {
        let tags = self.tags.lock();
        if *tag == self.path { tags.own.is_some() } else { tags.rooms.contains_key(tag) }
    }
}

impl<D: WsDatatype> ServerCore<D> {
    /// Puts a new connection on its path.
    pub(crate) fn enter(&self, connection: &Connection<D>) {
        let core = connection.core();
        let seat = self.seat(&core.path, &core.outbox, false, self.interest(&core.path));
        core.tags.lock().own = Some(seat);
    }

    fn seat(&self, tag: &Tag, outbox: &Outbox, compresses: bool, interest: Option<Held>) -> Seat {
        Seat { route: self.routes.add(tag.clone(), outbox.clone(), compresses), _interest: interest }
    }

    fn join(&self, connection: &Connection<D>, room: Tag) -> Result<bool, WsError> {
        let core = connection.core();
        if core.is_on(&room) {
            return Ok(false);
        }
        // Before the lock, as it wakes the task of the bus. Of two threads that join at once, one drops its own again.
        let interest = self.interest(&room);
        let mut tags = core.tags.lock();
        if tags.stage == Stage::Ended {
            return Err(connection.is_over());
        }
        if tags.rooms.contains_key(&room) {
            return Ok(false);
        }
        if tags.rooms.len() >= self.options.limits.rooms {
            return Err(WsError::TooManyRooms(connection.name().to_owned()));
        }
        let seat = self.seat(&room, &core.outbox, tags.compresses, interest);
        let is_due = tags.stage == Stage::Present && self.presence.count_in(&room, connection.id(), tags.name.as_ref());
        tags.rooms.insert(room, seat);
        drop(tags);
        self.wake_presence(is_due);
        Ok(true)
    }

    fn leave(&self, connection: &Connection<D>, room: &str) -> bool {
        let core = connection.core();
        let mut tags = core.tags.lock();
        let Some((room, seat)) = tags.rooms.remove_entry(room) else { return false };
        self.routes.remove(&room, seat.route, tags.compresses);
        let is_due =
            tags.stage == Stage::Present && self.presence.count_out(&room, connection.id(), tags.name.as_ref());
        drop(tags);
        self.wake_presence(is_due);
        true
    }

    /// Counts a connection among those who are there, on all its tags, under the name that the program gives it.
    pub(crate) fn attend(&self, connection: &Connection<D>) {
        let name = self.name_of(connection);
        let core = connection.core();
        let mut tags = core.tags.lock();
        if tags.stage == Stage::Ended {
            return;
        }
        let all = tags.own.iter().map(|_| &core.path).chain(tags.rooms.keys());
        let mut is_due = false;
        all.for_each(|tag| is_due |= self.presence.count_in(tag, connection.id(), name.as_ref()));
        (tags.stage, tags.name) = (Stage::Present, name);
        drop(tags);
        self.wake_presence(is_due);
    }

    /// Takes a connection that ends off its path and out of its rooms. It joins none after that.
    pub(crate) fn leave_all(&self, connection: &Connection<D>) {
        let core = connection.core();
        let ended = State { stage: Stage::Ended, ..State::default() };
        let State { stage, own, rooms, name, compresses } = replace(&mut *core.tags.lock(), ended);
        let own = own.map(|seat| (core.path.clone(), seat));
        let mut is_due = false;
        for (tag, seat) in own.into_iter().chain(rooms) {
            self.routes.remove(&tag, seat.route, compresses);
            is_due |= stage == Stage::Present && self.presence.count_out(&tag, connection.id(), name.as_ref());
        }
        self.wake_presence(is_due);
    }

    fn wake_presence(&self, is_due: bool) {
        if is_due {
            self.presence.wake();
        }
    }

    /// Notes that the link of a connection compresses, if it does, until the result is dropped. In a box, as most do not.
    pub(crate) fn note_compressing<'a>(&'a self, connection: &'a Connection<D>) -> Option<Box<Compressing<'a, D>>> {
        connection.is_compressed().then(|| {
            self.set_compressing(connection, true);
            Box::new(Compressing { server: self, connection })
        })
    }

    fn set_compressing(&self, connection: &Connection<D>, compresses: bool) {
        let core = connection.core();
        let mut tags = core.tags.lock();
        if tags.stage != Stage::Ended && tags.compresses != compresses {
            tags.compresses = compresses;
            let all = tags.own.iter().map(|_| &core.path).chain(tags.rooms.keys());
            all.for_each(|tag| self.routes.set_compressing(tag, compresses));
        }
    }
}

/// A link that compresses, and the tags on which that is noted.
#[must_use]
pub(crate) struct Compressing<'a, D: WsDatatype> {
    server: &'a ServerCore<D>,
    connection: &'a Connection<D>,
}

impl<D: WsDatatype> Drop for Compressing<'_, D> {
    fn drop(&mut self) {
        self.server.set_compressing(self.connection, false);
    }
}

#[cfg(not(feature = "nats"))]
impl<D: WsDatatype> ServerCore<D> {
    /// There is no bus.
    fn interest(&self, _: &Tag) -> Option<Held> {
        None
    }
}
