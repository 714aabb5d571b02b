//! One connection, from its opening to its end.

use std::{
    future::pending,
    io,
    sync::{Arc, OnceLock, Weak, atomic::AtomicU64},
};

use bytes::Bytes;
use rxrust::context::Context;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::{
    Addr, Connection, Frame, Io, ObservableExt, SessionEvent, SessionLoss, Tag, TaggedData, Tally, WsDatatype, WsError,
    endpoint::{
        Component, Received,
        emitter::Emitting,
        event::ServerEvent,
        incoming::{Incoming, IncomingCounts},
        trace,
    },
    handshake::{Asked, Entrant, Refused, admission::Permit},
    link::{
        Ending, Link, NewLink, OpenLink, Receipt, Recipient, drive,
        session::{News, Resumption, SessionLink},
    },
    outbox::Outbox,
    protocol::deflate::Agreed,
    runtime::{
        guard::{Death, isolated},
        in_span::InSpan,
    },
    server::{
        connection::{ConnectionCore, Linked},
        core::{Acquaintance, ServerCore},
        lane::Lane,
        rooms::Tags,
        session::Served,
    },
    subject::{
        Backlog,
        branch::{Branch, Main, kept_in},
    },
    transport::Transport,
};

/// A connection on its path, until its end. The connection ends in any case, even if the answer cannot be written to its
/// client, or if its task is dropped with its runtime or its server.
pub(super) struct Registered<'a, D: WsDatatype> {
    serving: Serving<'a, D>,
    /// Until [`run`](Self::run) takes it. In a box, or each future that it passes through would have room for it.
    link: Option<Box<OpenLink<Transport>>>,
    /// Until the other server has written the answer.
    #[cfg(feature = "mount")]
    upgrading: Option<Box<crate::handshake::Upgrading>>,
    session: Option<Box<Served>>,
    /// Its place among the connections; none while its session has no link.
    permit: Option<Permit>,
    is_over: bool,
}

impl<'a, D: WsDatatype> Registered<'a, D> {
    /// Makes a connection to a peer, which is then to be [told](Self::answered) so.
    pub(super) fn open(
        server: &'a ServerCore<D>,
        lane: &Arc<Lane>,
        entrant: Entrant,
        session: Option<Box<Served>>,
    ) -> Self {
        let Entrant { stream, early_bytes, answer, asked: asked @ Asked { deflate, .. } } = entrant;
        let serving = Serving::new(server, lane, asked);
        let of_link = session.is_some().then(|| serving.begin_session());
        // Opened before anybody can push: whatever the socket takes is written behind the answer, and not held against the
        // peer.
        let link = Box::new(serving.link(early_bytes, deflate, of_link).open(stream, answer));
        Self::register(serving, Some(link), session)
    }

    /// Sends the peer the answer that says so.
    pub(super) async fn answered(&self) -> io::Result<()> {
        match &self.link {
            Some(link) => link.answered().await,
            None => Ok(()),
        }
    }

    /// As [`open`](Self::open), where another server sends the answer: pushes wait in the outbox until it has.
    #[cfg(feature = "mount")]
    pub(super) fn mounted(
        server: &'a ServerCore<D>,
        lane: &Arc<Lane>,
        mut asked: Asked,
        upgrading: crate::handshake::Upgrading,
    ) -> Self {
        asked.take_mode();
        let mut registered = Self::register(Serving::new(server, lane, asked), None, None);
        registered.upgrading = Some(Box::new(upgrading));
        registered
    }

    /// Waits for the stream of a mounted connection. Also while the server ends: the peer is to hear that from it.
    #[cfg(feature = "mount")]
    async fn upgrade(&mut self, upgrading: crate::handshake::Upgrading) -> Result<(), Refused> {
        let deflate = upgrading.deflate;
        let limits = &self.serving.server.options.limits;
        let late = || io::Error::other("the server in front took too long to answer");
        let limit = limits.handshake.min(limits.close_timeout);
        let upgraded = tokio::time::timeout(limit, upgrading.stream()).await.unwrap_or_else(|_| Err(late()));
        let (stream, early_bytes) = upgraded.map_err(|error| Refused::unanswered(error.to_string()))?;
        self.link = Some(self.serving.link(early_bytes, deflate, None).open(stream, Vec::new()).into());
        Ok(())
    }

    /// Puts a connection on its path.
    fn register(serving: Serving<'a, D>, link: Option<Box<OpenLink<Transport>>>, session: Option<Box<Served>>) -> Self {
        let Serving { server, connection } = &serving;
        // Outbound: messages pushed for its path go into its outbox.
        server.enter(connection);
        server.add(connection);
        Self {
            serving,
            link,
            #[cfg(feature = "mount")]
            upgrading: None,
            session,
            permit: None,
            is_over: false,
        }
    }

    /// Serves the connection to its end, inside its span. The place that it has is free after that. An error tells whose
    /// connection it was.
    pub(super) fn spanned(
        mut self: Box<Self>,
        permit: Permit,
    ) -> InSpan<impl Future<Output = Result<(), (Addr, Refused)>> + use<'a, D>> {
        let Serving { server, connection } = &self.serving;
        let span = trace::connection_span(server.component.name(), &connection.core().peer());
        self.permit = Some(permit);
        InSpan::new(span, async move {
            let served = self.run().await;
            served.map_err(|refused| (self.serving.connection.peer_addr(), refused))
        })
    }

    /// Serves the connection to its end.
    async fn run(&mut self) -> Result<(), Refused> {
        #[cfg(feature = "mount")]
        if let Some(upgrading) = self.upgrading.take() {
            Box::pin(self.upgrade(*upgrading)).await?;
        }
        let Some(link) = self.link.take() else { return Ok(()) };
        let Self { serving, session, permit, .. } = self;
        // In boxes, the first and the last: they take more room than the rest, and last a moment.
        Box::pin(serving.announce()).await;
        serving.server.attend(&serving.connection);
        let ending = match (session, &serving.server.sessions) {
            (Some(session), Some(sessions)) => Box::pin(serving.drive_session(sessions, session, link, permit)).await,
            // In a box as well: a connection with a session would have room for both.
            _ => Box::pin(serving.drive(link, pending())).await,
        };
        Box::pin(serving.end(*ending)).await;
        self.is_over = true;
        Ok(())
    }
}

impl<D: WsDatatype> Drop for Registered<'_, D> {
    fn drop(&mut self) {
        if !self.is_over {
            let Serving { server, connection } = &self.serving;
            // Messages that are counted as unsent must not be written any more.
            self.link = None;
            if let (Some(session), Some(sessions)) = (&self.session, &server.sessions) {
                sessions.bury(&session.door, SessionLoss::Ended, session.known(&connection.core().outbox));
            }
            let of_server = server.component.terminal();
            self.serving.lose(of_server.unwrap_or_else(|| Death::Shutdown.of(connection.name())));
        }
    }
}

/// Frees the box, which a `*` in the middle of an `async fn` would keep to its end.
#[expect(clippy::boxed_local, reason = "that it is freed here is what this is for")]
fn unboxed<T>(boxed: Box<T>) -> T {
    *boxed
}

/// The rest of a connection that is no longer on its server.
struct Farewell {
    /// Its last event.
    last: ServerEvent,
    /// The messages that it has not sent.
    unsent: Tally,
    /// What may still be delivered to those who hear of its link.
    links: Vec<Arc<dyn Backlog>>,
}

/// A connection as its server serves it.
pub(crate) struct Serving<'a, D: WsDatatype> {
    pub(crate) server: &'a ServerCore<D>,
    pub(crate) connection: Connection<D>,
}

impl<'a, D: WsDatatype> Serving<'a, D> {
    fn new(server: &'a ServerCore<D>, lane: &Arc<Lane>, asked: Asked) -> Self {
        Self { server, connection: Connection::new(|this| new_core(server, lane, asked, this)) }
    }

    pub(crate) fn link(&self, early_bytes: Bytes, deflate: Option<Agreed>, session: Option<SessionLink>) -> NewLink {
        let (server, core) = (self.server, self.connection.core());
        let link = Link {
            role: Role::Server,
            deflate,
            recipient: core.clone(),
            outbox: core.outbox.clone(),
            limits: server.options.limits.clone(),
            events: server.component.events.subject().backlog(),
            session: session.map(Box::new),
        };
        let (scheduler, heartbeat) = (core.lane.scheduler.clone(), server.options.heartbeat);
        NewLink { link, scheduler, heartbeat, early_bytes }
    }

    /// Begins the session of a new connection.
    fn begin_session(&self) -> SessionLink {
        let window = self.server.sessions.as_ref().map(|sessions| sessions.resume.window);
        self.connection.core().outbox.begin_session(window.unwrap_or_default(), Vec::new());
        self.session_link(None)
    }

    /// Tells the subscribers that the connection is open.
    async fn announce(&self) {
        let Self { server, connection } = self;
        server.note_told(connection);
        let peer = connection.core().peer();
        let compressed = connection.is_compressed();
        self.emit_event(ServerEvent::Connected { peer, compressed });
        server.paid().await;
        // Nothing is read before `connections()` has emitted the connection, so its subscribers miss nothing. This does not
        // wait for the connections behind it, which may come in an endless rush.
        tokio::select! {
            biased;
            // First: `connections()` emits each connection, also while the server ends.
            () = server.connections.deliver_at_home(connection.clone()) => {}
            () = server.until_closing() => {}
        }
    }

    /// Emits the messages that the connection receives on a link, to the end of that.
    pub(crate) async fn drive(
        &self,
        link: Box<OpenLink<Transport>>,
        cut: impl Future<Output = ()> + Send + Unpin,
    ) -> Box<Ending> {
        let _compressing = self.server.note_compressing(&self.connection);
        let ending = isolated("a connection", drive(unboxed(link), self.receiver(), cut)).await;
        ending.unwrap_or_else(|panic| Ending::lost(Death::Panic(panic.into()).of(self.connection.name())).into())
    }

    /// Where the messages of a link go. Apart, since a closure in [`drive`](Self::drive) has a type for each type of `cut`, and the
    /// driver one for each of these.
    fn receiver(&self) -> impl FnMut(Frame) -> Receipt {
        let Self { server, connection } = self;
        // Inbound: received messages flow into the server's subject, tagged with the path.
        let received = Io::from_parts(Emitting::new(), connection.core().component.home.clone());
        let mut emitter = received.tag(connection.path().clone()).merge_into(&server.component.inbound.fed());
        move |frame| self.receive(frame, |received| emitter.next(received))
    }

    /// Emits the message that is in a frame to the subscribers of the connection, and by `feed` to those of its server.
    fn receive(&self, frame: Frame, feed: impl FnOnce(Received<D::Item>)) -> Receipt {
        let (core, len) = (self.connection.core(), frame.len());
        match core.incoming.take(frame, &core.path, core.id) {
            Ok(Some(received)) => core.branch.emit(&core.path, received, feed),
            Ok(None) => {}
            Err(error) => {
                let peer = core.peer();
                self.emit_event(ServerEvent::Undecodable { peer, error, len, count: 1 });
                return Receipt::Undecodable;
            }
        }
        Receipt::Taken
    }

    /// Emits an event of the connection, and of its server.
    pub(crate) fn emit_event(&self, event: ServerEvent) {
        self.connection.core().component.events.copy(&event);
        self.server.component.events.next(event);
    }

    /// Takes the connection out of its server, and ends its subscribers.
    async fn end(&self, ending: Ending) {
        let error = ending.error.clone();
        let Farewell { last, unsent, links } = self.part(ending);
        let component = &self.connection.core().component;
        component.ask_to_end(error.map_or(Ok(()), Err));
        component.end(unsent.into(), || last, links).await;
    }

    /// As [`end`](Self::end), for a connection whose task has died: it does not wait.
    pub(crate) fn lose(&self, error: WsError) {
        let Farewell { last, unsent, .. } = self.part(Ending::lost(error.clone()));
        let component = &self.connection.core().component;
        component.ask_to_end(Err(error));
        component.end_at_once(unsent.into(), || last);
    }

    /// Takes the connection out of its server, its rooms first, and emits that as an event of the server.
    fn part(&self, ending: Ending) -> Farewell {
        let Self { server, connection } = self;
        let core = connection.core();
        server.leave_all(connection);
        let peer = core.peer();
        core.outbox.end();
        core.report_drops(server);
        let links = core.end_links().into_iter().collect();
        server.connections.forget(peer.id);
        let Ending { code, reason, error, unconfirmed } = ending;
        let last = ServerEvent::Disconnected { peer, code, reason, error, unconfirmed, lasted: core.began.elapsed() };
        let unsent = connection.stats().sent.dropped.closed;
        // Once only: a server that dies also ends connections whose tasks may be about to do so.
        if let Some(acquaintance) = server.forget(connection, unsent) {
            if acquaintance == Acquaintance::Told {
                server.component.events.next(last.clone());
            }
            server.note_left();
        }
        Farewell { last, unsent, links }
    }
}

// Not derived: the datatype need not be `Clone`.
impl<D: WsDatatype> Clone for Serving<'_, D> {
    fn clone(&self) -> Self {
        Self { server: self.server, connection: self.connection.clone() }
    }
}

impl<D: WsDatatype> Recipient for ConnectionCore<D> {
    fn inbound(&self) -> &dyn Backlog {
        &self.branch
    }

    fn hear_news(&self, news: News) {
        let event = match news {
            News::Resumed { missed, resumption: Resumption { resent, ended } } => {
                SessionEvent::Resumed { missed, resent, away: ended.elapsed() }
            }
            News::Gap { missed } => SessionEvent::Gap { missed },
        };
        let event = ServerEvent::Session { peer: self.peer(), event };
        self.component.events.copy(&event);
        if let Some(server) = self.server.upgrade() {
            server.component.events.next(event);
        }
    }
}

fn new_core<D: WsDatatype>(
    server: &ServerCore<D>,
    lane: &Arc<Lane>,
    asked: Asked,
    this: &Weak<ConnectionCore<D>>,
) -> ConnectionCore<D> {
    let Asked { request, subprotocol, grant, .. } = asked;
    let (id, path) = (server.next_number(), request.tag().clone());
    let main = Main { subject: server.component.inbound.clone(), audience: server.audience.clone() };
    // Messages that nobody hears go into the early buffer that all connections share.
    let tag = path.clone();
    let early = kept_in(id, main.subject.clone(), move |received| TaggedData::new(tag.clone(), received));
    let component = Component::new(server.component.name().clone(), lane.home.clone(), early);
    ConnectionCore {
        incoming: Incoming {
            codec: server.codec.another(),
            discards: server.options.discards_inbound,
            counts: IncomingCounts::default(),
        },
        outbox: outbox(server, &path, this.clone()),
        branch: Branch::new(component.inbound.clone(), main),
        component,
        began: Instant::now(),
        id,
        path,
        name: OnceLock::new(),
        request,
        grant,
        subprotocol: subprotocol.map(String::into_boxed_str),
        close_timeout: server.options.limits.close_timeout,
        linked: Linked::default(),
        calls: AtomicU64::new(0),
        tags: Tags::default(),
        lane: lane.clone(),
        server: server.this.clone(),
    }
}

fn outbox<D: WsDatatype>(server: &ServerCore<D>, path: &Tag, connection: Weak<ConnectionCore<D>>) -> Outbox {
    // Without the connection there is nobody who pushes.
    Outbox::new(server.options.outbox_on(path), connection)
}
