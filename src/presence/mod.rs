//! Who is there: [`Presence`], and what servers and buses share to tell of it.
//!
//! ```text
//! connections of a server -> Registry: Register (a server alone) ---> Roster -> Watchers -> observers
//!                                      Tracker of a bus, which tells the other buses, and hears them
//! ```
//!
//! | file | contents |
//! |---|---|
//! | here | what observers hear, and what a server needs of either |
//! | `roster` | the connections, by tag |
//! | `watchers` | who wants to hear what, and when |
//! | `register` | those of a server without a bus |
//! | `feed` | the observable |

mod feed;
pub(crate) mod register;
pub(crate) mod roster;
pub(crate) mod watchers;

use std::{collections::BTreeSet, convert::Infallible, pin::Pin, sync::Arc};

pub use feed::ServerPresenceFeed;

#[cfg(feature = "nats")]
use crate::subject::{Merge, Merged};
use crate::{SerializedSubject, Tag, TaggedData, subject::Backlog};

/// Who is on a tag, which is a path or a [room](crate::Connection::join): from [`RxWsServer::presence`](crate::RxWsServer::presence),
/// and [`RxBus::presence`](crate::guide::bus). Cheap to clone.
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
    /// # let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// server.presence().subscribe(|td| println!("{}: {:?} are here", td.tag, td.data.names()));
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
    /// The name of its server. On a bus it has a part that no other server on the bus has, such as `chat@7Qf3kZ0p.1`.
    pub server: Arc<str>,
    /// The [id](crate::Connection::id) that the connection has on its server. On a bus two servers may give the same one:
    /// [`connection_of`](crate::RxWsServer::connection_of) knows whose it is.
    pub id: u64,
    /// The name that [`ServerBuilder::member`](crate::ServerBuilder::member) gives it.
    pub name: Arc<str>,
}

/// Where the connections of a server are counted.
pub(crate) trait Registry: Send + Sync {
    /// Counts a connection in on a tag. Returns whether the registry is to be [woken](Self::wake) for that. Calls nobody.
    fn count_in(&self, tag: &Tag, id: u64, name: Option<&Arc<str>>) -> bool;

    /// As [`count_in`](Self::count_in), out again.
    fn count_out(&self, tag: &Tag, id: u64, name: Option<&Arc<str>>) -> bool;

    /// Lets the registry tell what has changed.
    fn wake(&self);

    /// Counts an observer of all tags in, until the second value is dropped.
    fn watch(self: Arc<Self>) -> (SerializedSubject<TaggedData<Presence>>, Held);

    /// Ends the observers of the server, which is gone. Returns what they have still to hear.
    fn end(&self) -> Vec<Arc<dyn Backlog>>;

    /// Whether a [`Member::server`] is this server.
    fn is_here(&self, server: &str) -> bool;

    /// Does what is to be done, for as long as the server lives.
    fn keep(&self) -> Keeping<'_>;
}

pub(crate) type Keeping<'a> = Pin<Box<dyn Future<Output = Infallible> + Send + 'a>>;

/// Something that holds until it is dropped.
pub(crate) type Held = Box<dyn Send + Sync>;

/// What is done when an observer leaves.
pub(crate) struct Unwatch<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for Unwatch<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Who is there now is all that an observer wants to know.
#[cfg(feature = "nats")]
impl Merge for Presence {
    fn merge(&mut self, later: &Self) -> Merged {
        *self = later.clone();
        Merged::Done
    }
}
