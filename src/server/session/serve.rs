//! The life of a connection that has a session: link after link, until the session is over.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{
    Returned, Served, Sessions,
    parked::Place,
    served::{Next, Over},
};
use crate::{
    ServerEvent, SessionEvent, SessionLoss, WsDatatype, WsError,
    handshake::admission::Permit,
    link::{
        Ending, OpenLink,
        session::{Resumption, SessionLink, encode},
    },
    protocol::close::GOING_AWAY,
    server::serving::Serving,
    transport::Transport,
};

impl<D: WsDatatype> Serving<'_, D> {
    /// Serves the links of a session, until it is over. Without a link the connection has no `permit`: the place is another's.
    ///
    /// Not an `async fn`, whose future would hold the arguments twice.
    pub(crate) fn drive_session<'a>(
        &'a self,
        sessions: &'a Sessions,
        session: &'a mut Served,
        mut link: Box<OpenLink<Transport>>,
        permit: &'a mut Option<Permit>,
    ) -> impl Future<Output = Box<Ending>> + Send + 'a {
        let outbox = &self.connection.core().outbox;
        async move {
            self.emit_session(SessionEvent::Opened);
            loop {
                let ending = self.drive(link, session.knocked()).await;
                let ended = Instant::now();
                if let Err(over) = Served::outlives(&ending, outbox) {
                    return self.close_session(sessions, session, over, ending);
                }
                *permit = None;
                // In a box, or each link would have room for the wait.
                match Box::pin(session.next(sessions, outbox, || self.park(sessions))).await {
                    Ok(next) => link = self.resume(next, permit, ended),
                    Err(over) => {
                        let lost = self.lost_session(over.0);
                        return self.close_session(sessions, session, over, lost.into());
                    }
                }
            }
        }
    }

    fn park<'a>(&self, sessions: &'a Sessions) -> Place<'a> {
        let address = self.connection.peer_addr().as_tcp().map(|addr| addr.ip());
        let place = sessions.park(address);
        self.connection.core().set_linked(false);
        self.emit_session(SessionEvent::Parked);
        place
    }

    fn emit_session(&self, event: SessionEvent) {
        self.emit_event(ServerEvent::Session { peer: self.connection.core().peer(), event });
    }

    /// Opens a link that goes on with the session.
    fn resume(&self, next: Next, permit: &mut Option<Permit>, ended: Instant) -> Box<OpenLink<Transport>> {
        let Next { returned, answer, resent } = next;
        let Returned { mut stream, early_bytes, deflate, permit: place, lane, .. } = returned;
        if !Arc::ptr_eq(&lane, &self.connection.core().lane) {
            // If it cannot be moved it is gone, which the link will find.
            stream.move_here();
        }
        *permit = Some(place);
        self.connection.core().set_linked(true);
        let of_link = self.session_link(Some(Resumption { resent, ended }));
        self.link(early_bytes, deflate, Some(of_link)).open(stream, encode(&answer, Role::Server)).into()
    }

    /// The part of a link that belongs to the session.
    pub(crate) fn session_link(&self, resuming: Option<Resumption>) -> SessionLink {
        SessionLink::new(self.connection.core().outbox.received(), resuming)
    }

    fn lost_session(&self, why: SessionLoss) -> Ending {
        let core = self.connection.core();
        // What is pushed after this is refused, and so not missing in these counts.
        core.outbox.close(GOING_AWAY, "", Duration::ZERO);
        let stats = core.outbox.stats();
        let (unconfirmed, unsent) = (stats.retained, stats.queued.messages);
        let error = WsError::SessionLost { peer: core.to_string(), why, unconfirmed, unsent };
        Ending { unconfirmed, ..Ending::lost(error) }
    }

    fn close_session(
        &self,
        sessions: &Sessions,
        session: &Served,
        Over(why): Over,
        ending: Box<Ending>,
    ) -> Box<Ending> {
        let outbox = &self.connection.core().outbox;
        // Before the end is known, which no later push may move.
        outbox.close(GOING_AWAY, "", Duration::ZERO);
        sessions.bury(&session.door, why, session.known(outbox));
        self.connection.core().set_linked(false);
        ending
    }
}
