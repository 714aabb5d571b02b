//! The task of a server: accepts peers, and serves each of them in a task of its own.

use std::{future::pending, io, iter::zip, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::mpsc, task::JoinSet, time::sleep};

#[cfg(feature = "nats")]
use crate::server::bus::lost::mind_bus;
use crate::{
    CloseReport, IoRuntime, ServerEvent, WsDatatype, WsError,
    handshake::Refused,
    link::READ_AHEAD,
    runtime::{Work, debts},
    server::{
        arrival::{self, Arrival, Opening},
        core::ServerCore,
        lane::{Lane, Seat},
    },
    subject::at_most,
    transport::{listen::Listener, raw::Given},
};

/// How long the server stops accepting when the operating system refuses, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A peer that has come to the server.
enum Came {
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    Arrived(Arrival),
}

/// Serves until the server has ended. Meanwhile the same task writes for connections of the first lane that sleep, and tells
/// who is there.
pub(crate) async fn run<D: WsDatatype>(
    server: Arc<ServerCore<D>>,
    runtime: IoRuntime,
    listener: Listener,
    arrivals: mpsc::Receiver<Arrival>,
) {
    let (home, others) = server.lanes.split_first().expect("a runtime has a lane");
    let mut flushing = JoinSet::new();
    for (lane, runtime) in zip(others, &runtime.lanes()[1..]) {
        let flush: Work = Box::pin(write_for_sleepers(lane.clone()));
        flushing.spawn_on(flush, runtime.handle());
    }
    tokio::select! {
        biased;
        () = write_for_sleepers(home.clone()) => {}
        () = serve_all(server.clone(), &runtime, listener, arrivals) => {}
        never = server.presence.keep() => match never {},
    }
}

/// Writes for the connections of a lane that sleep.
async fn write_for_sleepers(lane: Arc<Lane>) {
    match &lane.scheduler {
        Some(scheduler) => scheduler.run().await,
        None => pending().await,
    }
}

/// Accepts connections until the server is to end, and then waits until they are closed.
async fn serve_all<D: WsDatatype>(
    server: Arc<ServerCore<D>>,
    runtime: &IoRuntime,
    mut listener: Listener,
    mut arrivals: mpsc::Receiver<Arrival>,
) {
    let mut serving = JoinSet::new();
    let (mut closing, mut minding) = (pin!(server.until_closing()), pin!(mind_bus(&server)));
    loop {
        let accepting = async {
            // Deliveries on other threads are not waited for: their observers may block.
            debts::settled().await;
            server.until_few_owe().await;
            // Each connection is an event, and an item of `connections()`: while no subscriber takes those, no more are let in.
            at_most(&*server.component.events.subject().backlog(), READ_AHEAD).await;
            at_most(&*server.connections.backlog(), READ_AHEAD).await;
            next_peer(&mut listener, &mut arrivals).await
        };
        tokio::select! {
            biased;
            () = &mut closing => break,
            // Before the first peer: it is not let in by a server that begins without a bus.
            never = &mut minding => match never {},
            // A finished task is forgotten, so that the set holds no more than there are connections. Before the next peer, or a
            // rush of peers would keep it; and peers come soon, since no more tasks finish than peers were accepted.
            Some(_) = serving.join_next() => {}
            came = accepting => take_in(&server, runtime, came, &mut serving).await,
        }
    }
    drop(listener);
    dismiss(arrivals).await;
    server.close_connections();
    while serving.join_next().await.is_some() {}
    // Another thread may still be emitting them: whoever has waited for the end has heard of all.
    server.connections.clone().complete();
    server.connections.delivered().await;
    let report = CloseReport::from(server.unsent());
    let presences = server.presence.end();
    server.component.end(report, || server.last(report), presences).await;
}

#[cfg(not(feature = "nats"))]
async fn mind_bus<D: WsDatatype>(_: &ServerCore<D>) -> std::convert::Infallible {
    pending().await
}

/// Drops the peers that nobody will serve any more.
async fn dismiss(mut arrivals: mpsc::Receiver<Arrival>) {
    arrivals.close();
    // To the end: another thread that has reserved a place may be about to put a peer into it, and the peer would stay there.
    while arrivals.recv().await.is_some() {}
}

/// Cancel safe.
async fn next_peer(listener: &mut Listener, arrivals: &mut mpsc::Receiver<Arrival>) -> Came {
    // In random order: a rush at either does not keep the other waiting.
    tokio::select! {
        accepted = listener.accept() => Came::Accepted(accepted),
        Some(arrival) = arrivals.recv() => Came::Arrived(arrival),
    }
}

/// Serves a peer in a task of its own, if it may stay.
async fn take_in<D: WsDatatype>(
    server: &Arc<ServerCore<D>>,
    runtime: &IoRuntime,
    came: Came,
    serving: &mut JoinSet<()>,
) {
    let mut arrival = match came {
        Came::Accepted(Ok((stream, addr))) => match admit(server, stream, addr) {
            Ok(arrival) => arrival,
            Err(refused) => return server.report_refusal(addr.into(), refused),
        },
        Came::Arrived(arrival) => arrival,
        // A peer that left before it was its turn (POSIX, `accept`).
        Came::Accepted(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => return,
        Came::Accepted(Err(error)) => return recover(server, error).await,
    };
    let nth = Seat::most_free(&server.lanes);
    if nth > 0 {
        // This task, and so what it accepts, is on the first lane.
        arrival.opening = arrival.opening.elsewhere();
    }
    let seat = Seat::take(&server.lanes[nth]);
    serving.spawn_on(arrival::serve(server.clone(), seat, arrival), runtime.lanes()[nth].handle());
}

fn admit<D: WsDatatype>(server: &ServerCore<D>, stream: TcpStream, addr: SocketAddr) -> Result<Arrival, Refused> {
    match server.admission.enter(Some(addr.ip())) {
        Some(permit) => Ok(Arrival { addr: addr.into(), permit, opening: Opening::Accepted(stream) }),
        None => Err(server.turn_away(Given::Tcp(stream))),
    }
}

async fn recover<D: WsDatatype>(server: &ServerCore<D>, error: io::Error) {
    // We may be out of file descriptors.
    server.admission.evict_older_half();
    let peer = server.component.name().to_string();
    let error = WsError::Transport { peer, source: Arc::new(error) };
    server.component.events.next(ServerEvent::AcceptFailed { error, count: 1 });
    sleep(ACCEPT_PAUSE).await;
}
