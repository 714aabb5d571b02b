//! [`Arrival`]: a peer on its way to being a connection, and how it gets there, or to the answer that refuses it.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
};

use bytes::Bytes;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    Addr, Tag, UpgradeRequest, WsDatatype,
    handshake::{
        self, Asked, Entrant, Granted, Refused,
        admission::{MADE_ROOM, Permit},
        subprotocol::Mode,
    },
    runtime::{debts::Debts, guard::isolated, in_span::InSpan},
    server::{
        core::ServerCore,
        lane::{Lane, Seat},
        serving::Registered,
        session::{self, Back, Greeted, Served},
    },
    transport::{
        Transport,
        raw::{Given, Raw},
    },
};

/// A peer, with its place in the server.
pub(crate) struct Arrival {
    pub(crate) addr: Addr,
    pub(crate) permit: Permit,
    pub(crate) opening: Opening,
}

/// How far a peer's opening handshake is.
pub(crate) enum Opening {
    /// It is still to be made, with a peer of the server's own listener.
    Accepted(TcpStream),
    /// It is still to be made, over a stream of the program's.
    Given(Given),
    /// The program has made it.
    Made(Box<Made>),
    /// Another HTTP server has read the request, and writes the answer.
    #[cfg(feature = "mount")]
    Mounted(Box<crate::handshake::Mounted>),
}

/// A stream whose opening handshake the program has made, and what came of it.
pub(crate) struct Made {
    pub(crate) stream: Given,
    pub(crate) path: Tag,
    /// The bytes that came behind the handshake.
    pub(crate) early_bytes: Bytes,
    pub(crate) subprotocol: Option<String>,
    pub(crate) grant: Option<Granted>,
}

impl Opening {
    /// For a task on another thread than the one that has accepted the peer.
    pub(crate) fn elsewhere(self) -> Self {
        match self {
            Self::Accepted(stream) => Self::Given(Given::Tcp(stream)),
            other => other,
        }
    }
}

impl Made {
    /// Lets the peer in, as far as the limits allow it. On the runtime of the server.
    pub(crate) fn enter(self, addr: Addr, permit: &mut Permit) -> Result<Entrant, Refused> {
        let Self { stream, path, early_bytes, subprotocol, grant } = self;
        permit.enter(&path).map_err(Refused::unanswered)?;
        let stream = stream.into_raw().map_err(|error| Refused::unanswered(error.to_string()))?.into();
        let request = UpgradeRequest::made_elsewhere(path, addr);
        let asked = Asked { request, subprotocol, deflate: None, grant };
        Ok(Entrant { stream, early_bytes, answer: Vec::new(), asked })
    }
}

/// Serves a peer from its admission to the end of the connection that it gets, or of the answer that refuses it.
pub(crate) fn serve<D: WsDatatype>(
    server: Arc<ServerCore<D>>,
    seat: Seat,
    arrival: Arrival,
) -> impl Future<Output = ()> {
    let arrival = Box::new(arrival);
    // Not an `async fn`, whose future has room for its arguments to the end; and each part on the heap for as long as it lasts:
    // handshakes do not take the room of connections, nor the other way round.
    async move {
        let mut debts = Debts::default();
        let Some(connection) = Box::pin(arrive(&server, &seat.0, arrival, &mut debts)).await else { return };
        if let Err((addr, refused)) = debts.owing(connection).await {
            debts.incur(|| server.report_refusal(addr, refused));
        }
        server.pay(&mut debts).await;
    }
}

/// Makes a connection of a peer: the future serves it to its end. A peer that is refused is seen off first.
async fn arrive<'a, D: WsDatatype>(
    server: &'a ServerCore<D>,
    lane: &Arc<Lane>,
    arrival: Box<Arrival>,
    debts: &mut Debts,
) -> Option<InSpan<impl Future<Output = Result<(), (Addr, Refused)>> + use<'a, D>>> {
    let Arrival { addr, mut permit, opening } = *arrival;
    let mut evicted = pin!(permit.evicted());
    let shaking = Box::pin(shake_hands(server, lane, opening, addr.clone(), &mut permit, evicted.as_mut()));
    let shaken = debts.owing(isolated("an opening handshake", shaking)).await;
    let panicked = |panic| Err(Refused::unanswered(format!("its handshake panicked: {panic}")));
    let mut refused = match shaken.unwrap_or_else(panicked) {
        Ok(Shaken::New(registered)) => return Some(registered.spanned(permit)),
        Ok(Shaken::Back(back)) => {
            back.hand_over(permit, lane.clone());
            server.pay(debts).await;
            return None;
        }
        Err(refused) => refused,
    };
    let stream = refused.stream.take();
    debts.incur(|| server.report_refusal(addr, refused));
    server.pay(debts).await;
    if let Some(stream) = stream {
        see_off(server, stream, evicted).await;
    }
    None
}

async fn shake_hands<'a, D: WsDatatype>(
    server: &'a ServerCore<D>,
    lane: &Arc<Lane>,
    opening: Opening,
    addr: Addr,
    permit: &mut Permit,
    evicted: Pin<&mut impl Future<Output = ()>>,
) -> Result<Shaken<'a, D>, Refused> {
    let limits = &server.options.limits;
    let gone = |reason: &str| Err(Refused::unanswered(reason));
    tokio::select! {
        biased;
        // First: a peer that has its answer is told why its connection ends.
        shaken = timeout(limits.handshake, Box::pin(open(server, lane, opening, addr, permit))) => {
            shaken.unwrap_or_else(|_| gone("the handshake took too long (Limits::handshake)"))
        }
        () = evicted => gone(MADE_ROOM),
        () = server.until_closing() => gone("the server is closing"),
    }
}

/// A peer that is let in.
enum Shaken<'a, D: WsDatatype> {
    New(Box<Registered<'a, D>>),
    /// It goes on with the session that it had.
    Back(Back),
}

impl<'a, D: WsDatatype> Shaken<'a, D> {
    /// In a box, since a connection takes more room than a peer that has gone elsewhere.
    fn of(registered: Registered<'a, D>) -> Self {
        Self::New(Box::new(registered))
    }

    /// Sends the peer of a new connection its answer; one that is back has had its own.
    async fn answered(self) -> Result<Self, Refused> {
        if let Self::New(registered) = &self {
            registered.answered().await.map_err(|error| Refused::unanswered(error.to_string()))?;
        }
        Ok(self)
    }
}

/// Makes what is left of an opening handshake.
async fn open<'a, D: WsDatatype>(
    server: &'a ServerCore<D>,
    lane: &Arc<Lane>,
    opening: Opening,
    addr: Addr,
    permit: &mut Permit,
) -> Result<Shaken<'a, D>, Refused> {
    let broken = |error: io::Error| Refused::unanswered(error.to_string());
    let register = async |entrant| register(server, lane, entrant).await;
    let stream = match opening {
        Opening::Accepted(stream) => Ok(Raw::accepted(stream)),
        Opening::Given(stream) => stream.into_raw(),
        // In boxes: thousands of tasks may be parked in a handshake, and each would have room for these too.
        Opening::Made(made) => return Box::pin(register(made.enter(addr, permit)?)).await,
        #[cfg(feature = "mount")]
        Opening::Mounted(mounted) => return Box::pin(mount(server, lane, *mounted, addr, permit)).await,
    };
    let (policy, limits) = (&server.policy, &server.options.limits);
    handshake::accept(stream.map_err(broken)?, addr, permit, policy, server.tls.as_ref(), limits, register).await
}

/// Makes a connection to a peer, or finds the session that it wants back.
async fn register<'a, D: WsDatatype>(
    server: &'a ServerCore<D>,
    lane: &Arc<Lane>,
    mut entrant: Entrant,
) -> Result<Shaken<'a, D>, Refused> {
    let sessions = match entrant.asked.take_mode() {
        Mode::Resumable => server.sessions.as_ref(),
        Mode::Plain => None,
    };
    let shaken = match sessions {
        None => Shaken::of(Registered::open(server, lane, entrant, None)),
        // In a box, as most peers have no session.
        Some(sessions) => match Box::pin(session::greet(sessions, entrant)).await? {
            Greeted::New { entrant, door } => {
                let session = Some(Served::new(door).into());
                Shaken::of(Registered::open(server, lane, entrant, session))
            }
            Greeted::Back(back) => Shaken::Back(back),
        },
    };
    shaken.answered().await
}

/// As [`register`], where another server has read the request and sends the answer.
#[cfg(feature = "mount")]
async fn mount<'a, D: WsDatatype>(
    server: &'a ServerCore<D>,
    lane: &Arc<Lane>,
    mounted: handshake::Mounted,
    addr: Addr,
    permit: &mut Permit,
) -> Result<Shaken<'a, D>, Refused> {
    let (asked, upgrading) = mounted.decide(addr, permit, &server.policy, &server.options.limits).await?;
    if server.sessions.is_none() || !asked.is_resumable() {
        return Ok(Shaken::of(Registered::mounted(server, lane, asked, upgrading)));
    }
    // A session is settled on the stream before there is a connection.
    let upgraded = upgrading.stream().await.map_err(|error| Refused::unanswered(error.to_string()));
    let (stream, early_bytes) = upgraded?;
    register(server, lane, Entrant { stream, early_bytes, answer: Vec::new(), asked }).await
}

/// Gives a peer that was refused the time to read why, as long as no other peer needs its place.
async fn see_off<D: WsDatatype>(
    server: &ServerCore<D>,
    stream: Transport,
    evicted: Pin<&mut impl Future<Output = ()>>,
) {
    tokio::select! {
        biased;
        () = handshake::see_off(stream) => {}
        () = evicted => {}
        () = server.until_closing() => {}
    }
}
