//! Mounting a server in another HTTP server: [`service`](RxWsServer::service) and [`upgrade`](RxWsServer::upgrade).

use std::{
    any::Any,
    convert::Infallible,
    fmt,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower_service::Service;

use crate::{
    Addr, Grant, RxWsServer, WsDatatype,
    endpoint::EndpointCore,
    handshake::{
        Refused,
        mounted::{self, Mounted},
    },
    server::{
        arrival::{Arrival, Opening},
        core::NO_ROOM,
    },
};

/// Why a request is refused that has come too late.
const CLOSING: &str = "this server is closing";

/// Why a request is refused that was not decided on.
const GIVEN_UP: &str = "this server gave up the request (Limits::handshake, Limits::handshakes), or is closing";

/// The findings of a handler about a request that it passes to [`RxWsServer::upgrade`].
#[must_use]
#[derive(Debug, Default)]
pub struct Upgrade {
    path: Option<String>,
    grant: Option<Grant>,
    peer_addr: Option<SocketAddr>,
}

impl Upgrade {
    /// None: the request decides.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the path of the connection, which is its tag, in place of the request's own.
    ///
    /// A missing `/` at the start is added; else it is taken as it stands. axum's `Path` decodes percent signs; the request's
    /// own path keeps them.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.path = Some(if path.starts_with('/') { path } else { format!("/{path}") });
        self
    }

    /// Sets the value that [`Connection::grant`](crate::Connection::grant) returns: the user that an extractor has found, say.
    /// The server's `authorize` is not asked then.
    pub fn grant(mut self, grant: impl Any + Send + Sync) -> Self {
        self.grant = Some(Grant::of(grant));
        self
    }

    /// Sets the address of the peer, for [`Limits::connections_per_address`](crate::Limits::connections_per_address), events and
    /// [`Connection::peer_addr`](crate::Connection::peer_addr). Without it the address is [`Addr::Unknown`], and has no such limit.
    pub fn peer_addr(mut self, addr: SocketAddr) -> Self {
        self.peer_addr = Some(addr);
        self
    }
}

/// # Mounted in another HTTP server
#[cfg_attr(docsrs, doc(cfg(feature = "mount")))]
impl<D: WsDatatype> RxWsServer<D> {
    /// This server as a tower service, to be mounted where such services are: in axum by `route_service`, `nest_service`,
    /// `fallback_service`.
    ///
    /// Each request is answered as the server's own listener would answer it: with a connection, whose path is that of the
    /// request as the service sees it (`nest_service` takes its prefix away), or with a refusal. A handler whose extractors
    /// decide calls [`upgrade`](Self::upgrade) instead.
    ///
    /// A service is a handle: as long as it lives, the server stays open. After `complete` it answers with 503.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let echo = RxWsServer::unbound(WsStr).build()?;
    /// echo.clone().subscribe_with(echo.clone());
    ///
    /// let app = axum::Router::new()
    ///     .route("/", axum::routing::get(|| async { "the page" }))
    ///     .route_service("/echo", echo.service());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(async move {
    ///         tokio::signal::ctrl_c().await.ok();
    ///         echo.clone().complete();
    ///         echo.closed().await;
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Threads
    ///
    /// The TCP socket below the request moves to the server's I/O thread, so callbacks keep their thread and order, and a slow
    /// handler of a page holds up no connection. A stream that is no TCP socket of tokio's, such as TLS of another library,
    /// HTTP/2 or a Unix socket, stays with the other server's runtime and is driven from the I/O thread: each wake-up then
    /// crosses threads, which costs a short message half as much again, unless both have one runtime
    /// ([`IoRuntime::from_tokio`](crate::IoRuntime::from_tokio)).
    #[must_use]
    pub fn service(&self) -> RxWsService<D> {
        RxWsService(self.clone())
    }

    /// Answers a request that a handler of another hyper-based server has got, and serves the connection that it becomes.
    ///
    /// `upgrade` has what the handler has found: who it is, which path, which address. Paths, origins and limits hold as for the
    /// server's own listener; a refusal is a [`Rejected`](crate::ServerEvent::Rejected) event, and the answer says why. The
    /// request's extensions are not kept.
    ///
    /// ```
    /// use axum::{extract::{Path, Request, State}, response::IntoResponse, routing::any};
    /// use rxplus::prelude::*;
    ///
    /// async fn enter(
    ///     Path(room): Path<String>,
    ///     State(rooms): State<RxWsServer<WsStr>>,
    ///     request: Request,
    /// ) -> impl IntoResponse {
    ///     rooms.upgrade(request, Upgrade::new().path(room).grant("ann")).await
    /// }
    ///
    /// let rooms = RxWsServer::unbound(WsStr).build()?;
    /// let app: axum::Router = axum::Router::new().route("/rooms/{room}", any(enter)).with_state(rooms);
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a request that is given up opens no connection.
    pub async fn upgrade<B>(&self, request: Request<B>, upgrade: Upgrade) -> Response<Full<Bytes>> {
        let core = &self.inner.core;
        let Upgrade { path, grant, peer_addr } = upgrade;
        let addr = peer_addr.map_or(Addr::Unknown, Addr::from);
        if core.is_closing() {
            return mounted::refusal(CLOSING);
        }
        let Some((permit, place)) = core.admit(&addr) else {
            core.post_refusal(addr, Refused { status: Some(503), reason: NO_ROOM.into(), stream: None });
            return mounted::refusal(NO_ROOM);
        };
        let (mounted, replying) = Mounted::new(request, path, grant);
        place.send(Arrival { addr, permit, opening: Opening::Mounted(Box::new(mounted)) });
        replying.reply(GIVEN_UP).await
    }
}

/// A server as a tower service: see [`RxWsServer::service`].
pub struct RxWsService<D: WsDatatype>(RxWsServer<D>);

// Not derived: the datatype need not be `Clone`.
impl<D: WsDatatype> Clone for RxWsService<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: WsDatatype> fmt::Debug for RxWsService<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RxWsService").field(&self.0).finish()
    }
}

impl<D: WsDatatype, B: Send + 'static> Service<Request<B>> for RxWsService<D> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move { Ok(server.upgrade(request, Upgrade::new()).await) })
    }
}
