//! [`BusLost`]: what a server does without the others on its bus.

use std::{convert::Infallible, future::pending, sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{WsDatatype, bus::core::Told, server::core::ServerCore};

/// What a server does while its [bus](crate::RxBus) has no link to the broker: see
/// [`ServerBuilder::on_bus_lost`](crate::ServerBuilder::on_bus_lost).
///
/// A bus that was completed is not lost: its server goes on without one. One that ended with an error is, for good.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BusLost {
    /// Serves its clients on, who then hear nothing of the other servers. The default.
    #[default]
    KeepClients,
    /// Closes its clients, so that they go to a server that has its link: with code 1013, "try again later" (registered with IANA),
    /// after what is queued for them. Requests for connections are answered with 503 until the bus has a link again. That lasts
    /// from the beginning to the first link as well.
    ///
    /// Sessions of the [resumable mode](crate::Resume) end with their connections, parked ones too. Plain requests are
    /// [answered](crate::ServerBuilder::answer_plain_requests) as ever.
    ///
    /// It suits servers behind a balancer of which one may be cut off from the others. When the broker itself is away, *all*
    /// servers close their clients and refuse them.
    CloseClients {
        /// How long the bus may be without a link before that, from a few seconds on: a bus that has lost its broker needs 1 to
        /// 3 s to connect again, and a lost client is dearer. Zero closes them at once.
        after: Duration,
    },
}

/// Does with the clients of a server what its `BusLost` says.
pub(in crate::server) async fn mind_bus<D: WsDatatype>(server: &ServerCore<D>) -> Infallible {
    let (Some(bus), BusLost::CloseClients { after }) = (&server.on_bus.bus, server.on_bus.on_lost) else {
        return pending().await;
    };
    let mut told = bus.told();
    // At the beginning there are no clients to keep.
    if told.borrow().is_lost() {
        suspend(server, &mut told).await;
    }
    loop {
        until(&mut told, Told::is_lost).await;
        if timeout(after, back(&mut told)).await.is_err() {
            suspend(server, &mut told).await;
        }
    }
}

/// Closes the clients of a server, and lets nobody in until its bus is back.
async fn suspend<D: WsDatatype>(server: &ServerCore<D>, told: &mut watch::Receiver<Told>) {
    server.policy.is_suspended.store(true, SeqCst);
    // Afterwards: a connection that is let in meanwhile is among these, or sees it.
    server.close_connections();
    back(told).await;
    server.policy.is_suspended.store(false, SeqCst);
}

async fn back(told: &mut watch::Receiver<Told>) {
    until(told, |told| !told.is_lost()).await;
}

async fn until(told: &mut watch::Receiver<Told>, wanted: impl Fn(Told) -> bool) {
    // An error is impossible: the server holds the bus, and that the sender.
    let _ = told.wait_for(|told| wanted(*told)).await;
}
