//! The task of a server: accepts peers, and serves each of them in a task of its own.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use tokio::{net::TcpStream, task::JoinSet, time::sleep};

use crate::{
    CloseReport, ServerEvent, WsDatatype, WsError,
    handshake::{self, Refused},
    link::READ_AHEAD,
    runtime::debts::Debts,
    server::{core::ServerCore, serving},
    subject::at_most,
    transport::listen::Listener,
};

/// How long the server stops accepting when the operating system refuses, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the server has ended. Meanwhile the same task writes for connections that sleep.
pub(crate) async fn run<D: WsDatatype>(server: Arc<ServerCore<D>>, listener: Listener) {
    let scheduler = server.scheduler.clone();
    let flushing = async {
        match scheduler {
            Some(scheduler) => scheduler.run().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = flushing => {}
        () = serve_all(server, listener) => {}
    }
}

/// Accepts connections until the server is to end, and then waits until they are closed.
async fn serve_all<D: WsDatatype>(server: Arc<ServerCore<D>>, mut listener: Listener) {
    let mut serving = JoinSet::new();
    let mut closing = pin!(server.until_closing());
    let mut debts = Debts::default();
    loop {
        let accepting = async {
            // Deliveries on other threads are not waited for: their observers may block.
            debts.settle().await;
            // Each connection is an event: while no subscriber takes those, no more connections are let in.
            at_most(&*server.component.events.backlog(), READ_AHEAD).await;
            listener.accept().await
        };
        tokio::select! {
            accepted = accepting => match accepted {
                Ok((stream, addr)) => match server.admission.enter(addr.ip()) {
                    Some(permit) => {
                        serving.spawn(serving::serve(server.clone(), stream, addr, permit));
                    }
                    None => debts.incur(|| turn_away(&server, stream, addr)),
                },
                // A peer that left before it was its turn (POSIX, `accept`).
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => recover(&server, error).await,
            },
            // A finished task is forgotten, so that the set holds no more than there are connections.
            Some(_) = serving.join_next() => {}
            () = &mut closing => break,
        }
    }
    drop(listener);
    server.close_connections();
    while serving.join_next().await.is_some() {}
    let report = CloseReport::from(server.unsent());
    server.component.end(report, || server.last(report)).await;
}

async fn recover<D: WsDatatype>(server: &ServerCore<D>, error: io::Error) {
    // We may be out of file descriptors.
    server.admission.evict_older_half();
    let peer = server.component.name.to_string();
    let error = WsError::Transport { peer, source: Arc::new(error) };
    server.component.events.next(ServerEvent::AcceptFailed { error, count: 1 });
    sleep(ACCEPT_PAUSE).await;
}

/// Refuses a peer at once, since there is no room even to read its request.
fn turn_away<D: WsDatatype>(server: &ServerCore<D>, stream: TcpStream, addr: SocketAddr) {
    let reason = "this server has as many handshakes under way as it allows (Limits::handshakes)";
    // Before the TLS handshake, plain text means nothing to the client.
    let status = server.tls.is_none().then_some(503);
    if status.is_some() {
        handshake::turn_away(stream, reason);
    }
    server.report_refusal(addr, Refused { status, reason: reason.into(), stream: None });
}
