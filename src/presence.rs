//! [`Presence`]: who is on a path.

use std::{collections::BTreeSet, sync::Arc};

/// Who is on a path, on all servers of a bus: from [`RxBus::presence`](crate::RxBus::presence). Cheap to clone.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// How many connections there are. Sessions whose client is away count until they are given up.
    pub connections: u64,
    /// The servers that have them, by [name](Member::server), in order.
    pub servers: Arc<[Arc<str>]>,
    /// The connections that have a name, by server and id, in order.
    pub members: Arc<[Member]>,
}

impl Presence {
    /// The names of the members, each once: someone who is logged in twice is two members of one name.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let bus = RxBus::local(WsStr)?;
    /// bus.presence("/chat").subscribe(|presence| println!("{:?} are here", presence.names()));
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.members.iter().map(|member| &*member.name).collect()
    }
}

/// A connection to which its server gives a name.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its server: the name of that, and a part that no other server on the bus has, such as `chat@7Qf3kZ0p.1`.
    pub server: Arc<str>,
    /// The [id](crate::Connection::id) that the connection has on its server.
    pub id: u64,
    /// The name that [`ServerBuilder::member`](crate::ServerBuilder::member) gives it.
    pub name: Arc<str>,
}
