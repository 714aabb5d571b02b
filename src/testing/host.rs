//! [`Host`]: a name on the network, what listens there, and its faults.

use std::{io, sync::Arc, time::Duration};

use super::{
    stream::TestStream,
    wire::{Condition, Wire},
};

/// Takes the server's end of a new connection.
pub(super) type Accept = Arc<dyn Fn(TestStream) + Send + Sync>;

#[derive(Default)]
pub(super) struct Host {
    pub(super) accept: Option<Accept>,
    /// How many connections are still refused.
    pub(super) refusals: u32,
    /// How many connections still get garbage for an answer.
    pub(super) garbage: u32,
    pub(super) latency: Duration,
    condition: Condition,
    wires: Vec<Wire>,
}

/// A connection to a host.
pub(super) enum Reached {
    Garbage(TestStream, TestStream),
    Host(Accept, TestStream, TestStream),
}

impl Host {
    /// Connects to the host, unless it refuses.
    pub(super) fn reach(&mut self) -> io::Result<Reached> {
        let refused = || Err(io::ErrorKind::ConnectionRefused.into());
        if take_one(&mut self.refusals) {
            return refused();
        }
        let Some(accept) = self.accept.clone() else { return refused() };
        self.wires.retain(|wire| !wire.is_unused());
        let wire = Wire::new(self.latency, self.condition);
        let (client, server) = TestStream::pair(&wire);
        self.wires.push(wire);
        Ok(if take_one(&mut self.garbage) {
            Reached::Garbage(client, server)
        } else {
            Reached::Host(accept, client, server)
        })
    }

    pub(super) fn set_latency(&mut self, latency: Duration) {
        self.latency = latency;
        self.wires.iter().for_each(|wire| wire.set_latency(latency));
    }

    /// For the connections that there are, and for later ones.
    pub(super) fn set_condition(&mut self, condition: Condition) {
        self.condition = condition;
        self.wires.iter().for_each(|wire| wire.set_condition(condition));
    }

    /// For the connections that there are.
    pub(super) fn cut(&mut self) {
        self.wires.drain(..).for_each(|wire| wire.set_condition(Condition::Cut));
    }
}

fn take_one(count: &mut u32) -> bool {
    let any = *count > 0;
    *count = count.saturating_sub(1);
    any
}
