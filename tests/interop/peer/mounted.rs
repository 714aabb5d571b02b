//! The server mounted in axum.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread,
};

use rxplus::prelude::*;
use tokio::runtime::Builder;

/// Serves on a thread of its own until the process ends. Returns the address.
pub(crate) fn serve(server: &RxWsServer<WsFrame>) -> io::Result<SocketAddr> {
    let app = axum::Router::new().fallback_service(server.service());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener)?, app).await })
    });
    Ok(addr)
}
