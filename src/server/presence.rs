//! Who is there, as a server tells of it: the names of its connections, and those who want to hear.

use std::{fmt, sync::Arc};

use crate::{
    Connection, Io, Member, RxWsServer, WsDatatype,
    presence::ServerPresenceFeed,
    runtime::{UserValue, callback},
    server::core::ServerCore,
};

impl<D: WsDatatype> RxWsServer<D> {
    /// Who is on which tag, a path or a [room](Connection::join): first one item for each tag where somebody is, then each change,
    /// an empty [`Presence`](crate::Presence) when the last one has left. On a [bus](crate::guide::bus) it is who is there on all
    /// servers. *Hot*.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
    ///     // ws://host/chat?name=Ali
    ///     .member(|connection| connection.query_pairs().find(|(key, _)| key == "name").map(|(_, name)| name.into_owned()))
    ///     .bind()?;
    /// server.presence().tag_filter("/chat").untag().subscribe(|here| {
    ///     println!("{} connections: {:?}", here.connections, here.names());
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// On a bus each server emits the same: pushed into each of them, it would reach everybody once for each server. One process
    /// alone may do that, or each connection hears of its own tags by [`RxBus::presence`](crate::guide::bus#who-is-there).
    ///
    /// A connection counts from the moment at which `connections()` has emitted it, on its path and in the rooms that it has
    /// joined by then, and leaves before its last event. Each counts on its own: of a user who is logged in twice, the second
    /// login stays when the first has ended. Of each tag the latest state is emitted five times a second at most.
    #[must_use]
    pub fn presence(&self) -> Io<ServerPresenceFeed> {
        ServerPresenceFeed::of(&self.inner.core.presence, &self.scheduler)
    }

    /// The open connection of a member, if it is one of this server's: the members of other servers on the bus have ids of their own.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).member(|_| Some("Ali".into())).bind()?;
    /// let same = server.clone();
    /// server.presence().tag_filter("/chat").untag().subscribe(move |here| {
    ///     for connection in here.members.iter().filter_map(|member| same.connection_of(member)) {
    ///         connection.next(format!("{} are here", here.connections));
    ///     }
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn connection_of(&self, member: &Member) -> Option<Connection<D>> {
        let core = &self.inner.core;
        if core.presence.is_here(&member.server) { core.connection(member.id) } else { None }
    }
}

/// How the program names connections, if it does.
pub(crate) struct Naming<D: WsDatatype>(Option<NameOf<D>>);

type NameOf<D> = Arc<dyn Fn(&Connection<D>) -> Option<String> + Send + Sync>;

impl<D: WsDatatype> Naming<D> {
    pub(crate) fn new(name_of: impl Fn(&Connection<D>) -> Option<String> + Send + Sync + 'static) -> Self {
        let name_of = UserValue::new(name_of);
        Self(Some(Arc::new(move |connection| name_of(connection))))
    }
}

// Not derived: the datatype need not be `Default`.
impl<D: WsDatatype> Default for Naming<D> {
    fn default() -> Self {
        Self(None)
    }
}

impl<D: WsDatatype> fmt::Debug for Naming<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Naming").field("gives_names", &self.0.is_some()).finish_non_exhaustive()
    }
}

impl<D: WsDatatype> ServerCore<D> {
    /// The name that the program gives a connection. One whose name cannot be made has none.
    pub(super) fn name_of(&self, connection: &Connection<D>) -> Option<Arc<str>> {
        let name_of = self.naming.0.as_ref()?;
        let name = callback::run(|| callback::attempt("the function given to member(..)", || name_of(connection)));
        let name = name.unwrap_or_else(|_| {
            self.component.events.report_panic();
            None
        });
        name.map(Arc::from)
    }
}
