//! Our server mounted in axum, and axum's own WebSocket. One thread each: axum's, to which a mounted server adds its own.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::ws::{WebSocket, WebSocketUpgrade},
    routing::any,
};
use rxplus::prelude::*;
use tokio::runtime::Builder;

use crate::ours::{PING_INTERVAL, echo};

/// On a thread of its own, to which the sockets move.
pub(crate) fn moved() -> SocketAddr {
    let server = echo(RxWsServer::unbound(WsStr).ping_interval(PING_INTERVAL).build().expect("no address is needed"));
    serve(move || Router::new().fallback_service(server.service()))
}

/// On axum's own thread.
pub(crate) fn on_the_programs_runtime() -> SocketAddr {
    serve(|| {
        let runtime = IoRuntime::from_tokio(tokio::runtime::Handle::current());
        let server = RxWsServer::unbound(WsStr).ping_interval(PING_INTERVAL).runtime(&runtime).build();
        Router::new().fallback_service(echo(server.expect("no address is needed")).service())
    })
}

/// axum's own socket, as most write it.
pub(crate) fn axums() -> SocketAddr {
    let answer = async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo_by_axum);
    serve(move || Router::new().fallback(any(answer)))
}

async fn echo_by_axum(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Serves until the process ends.
fn serve(app: impl FnOnce() -> Router + Send + 'static) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    listener.set_nonblocking(true).expect("a socket can be");
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a thread can be started");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime with sockets");
            axum::serve(listener, app()).await
        })
    });
    addr
}
