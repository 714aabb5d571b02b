//! The life of a connection that has a session: link after link, until the session is over.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{
    Door, Returned, Served, Sessions,
    parked::Place,
    served::{Next, Over},
};
use crate::{
    ServerEvent, SessionEvent, SessionLoss, WsDatatype, WsError,
    handshake::admission::Permit,
    link::{
        Ending, OpenLink,
        session::{News, SessionLink, encode},
    },
    protocol::close::GOING_AWAY,
    server::serving::Serving,
    transport::Transport,
};

impl<D: WsDatatype> Serving<'_, D> {
    /// Serves the links of a session, until it is over. Without a link the connection has no `permit`: the place is another's.
    pub(crate) async fn drive_session(
        &self,
        sessions: &Sessions,
        session: &mut Served,
        mut link: Box<OpenLink<Transport>>,
        permit: &mut Option<Permit>,
    ) -> Ending {
        self.emit_session(SessionEvent::Opened);
        loop {
            let ending = self.drive(link, session.knocked()).await;
            let ended = Instant::now();
            if let Err(over) = Served::outlives(&ending, &self.connection.core().outbox) {
                return self.close_session(sessions, session, over, ending);
            }
            *permit = None;
            let door = session.door.clone();
            match session.next(sessions, &self.connection.core().outbox, || self.park(sessions, &door)).await {
                Ok(next) => link = self.resume(session, next, permit, ended),
                Err(over) => {
                    let lost = self.lost_session(over.0);
                    return self.close_session(sessions, session, over, lost);
                }
            }
        }
    }

    fn park<'a>(&self, sessions: &'a Sessions, door: &Arc<Door>) -> Place<'a> {
        let address = self.connection.core().peer.addr.as_tcp().map(|addr| addr.ip());
        let place = sessions.park(door, address);
        self.connection.core().set_linked(false);
        self.emit_session(SessionEvent::Parked);
        place
    }

    fn emit_session(&self, event: SessionEvent) {
        self.emit_event(ServerEvent::Session { peer: self.connection.core().peer.clone(), event });
    }

    /// Opens a link that goes on with the session.
    fn resume(
        &self,
        session: &Served,
        next: Next,
        permit: &mut Option<Permit>,
        ended: Instant,
    ) -> Box<OpenLink<Transport>> {
        let Next { returned: Returned { stream, early_bytes, permit: place, .. }, answer, resent } = next;
        *permit = Some(place);
        self.connection.core().set_linked(true);
        let of_link = self.session_link(session, Some((resent, ended)));
        self.link(early_bytes, Some(of_link)).open(stream, encode(&answer, Role::Server)).into()
    }

    /// The part of a link that belongs to the session. One that goes on with it knows how many messages it sends again, and when
    /// the last one ended.
    pub(crate) fn session_link(&self, session: &Served, resumed: Option<(u64, Instant)>) -> SessionLink {
        let core = self.connection.core();
        let (own, of_server) = (core.component.events.copies().clone(), self.server.component.events.clone());
        let peer = core.peer.clone();
        SessionLink::new(session.received.clone(), resumed.is_some(), move |news| {
            let event = match (news, resumed) {
                (News::Resumed { missed }, Some((resent, ended))) => {
                    SessionEvent::Resumed { missed, resent, away: ended.elapsed() }
                }
                (News::Resumed { missed } | News::Gap { missed }, _) => SessionEvent::Gap { missed },
            };
            let event = ServerEvent::Session { peer: peer.clone(), event };
            own.next(event.clone());
            of_server.next(event);
        })
    }

    fn lost_session(&self, why: SessionLoss) -> Ending {
        let core = self.connection.core();
        let stats = core.outbox.stats();
        let (unconfirmed, unsent) = (stats.retained, stats.queued.messages);
        let error = WsError::SessionLost { peer: core.peer.to_string(), why, unconfirmed, unsent };
        Ending { unconfirmed, ..Ending::lost(error) }
    }

    fn close_session(&self, sessions: &Sessions, session: &Served, Over(why): Over, ending: Ending) -> Ending {
        let outbox = &self.connection.core().outbox;
        // Before the end is known, which no later push may move.
        outbox.close(GOING_AWAY, "", std::time::Duration::ZERO);
        sessions.bury(&session.door, why, session.known(outbox));
        self.connection.core().set_linked(false);
        ending
    }
}
