//! A model of the resumable mode: both ends without I/O, speaking the real wire format over a network that breaks everywhere.
//!
//! ```text
//! world      a client, a server and a network, whose steps and faults a seed decides; facts: what must be true at the end
//! client  >  outgoing >  wire  >  network  >  wire  >  incoming  >  server       and the same in the other direction
//! ```
//!
//! It is the specification of the mode in an executable form. It has no code of the crate, so it can be read beside it.

mod client;
mod facts;
mod incoming;
mod network;
mod outgoing;
mod random;
mod server;
mod wire;
mod world;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use facts::{Broken, Fact};
pub(crate) use world::World;

/// A mistake in one of the two ends, which the facts must reveal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mutant {
    /// The server lets the link that arrives last have the session, not the one with the higher number.
    LinkNumberIgnored,
    /// The client acknowledges one message more than it has received.
    AckTooEarly,
    /// The server's count falls by one when a session is resumed.
    CountFallsOnResume,
    /// What was dropped is not announced by `at`.
    AtLeftOut,
    /// The client does not use the numbers in `lost`.
    NumbersOfLostUnused,
    /// What may have arrived is sent again in the next session.
    DoubtfulSentAgain,
    /// A message is forgotten when it is written, and not when it is acknowledged.
    ForgottenWhenWritten,
    /// A link that another one has taken over from is read on.
    OldLinkReadOn,
    /// The client writes payloads before its `new` is answered.
    PayloadBeforeAnswer,
}

impl Mutant {
    pub(crate) const ALL: [Self; 9] = [
        Self::LinkNumberIgnored,
        Self::AckTooEarly,
        Self::CountFallsOnResume,
        Self::AtLeftOut,
        Self::NumbersOfLostUnused,
        Self::DoubtfulSentAgain,
        Self::ForgottenWhenWritten,
        Self::OldLinkReadOn,
        Self::PayloadBeforeAnswer,
    ];
}

/// What happens in worlds. A fault that no world has is not tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Delivered,
    Reset,
    HalfOpen,
    Restart,
    Expiry,
    Takeover,
    StaleAttempt,
    Clone,
    Resume,
    /// A session was lost, with numbers.
    Lost,
    /// A session was lost, and nobody knows how far it had come.
    LostUnknown,
    /// A receiver heard of a gap.
    Gap,
    /// A message was dropped that had been written, and that may have arrived.
    Shelved,
    WindowFull,
}

impl Event {
    pub(crate) const ALL: [Self; 14] = [
        Self::Delivered,
        Self::Reset,
        Self::HalfOpen,
        Self::Restart,
        Self::Expiry,
        Self::Takeover,
        Self::StaleAttempt,
        Self::Clone,
        Self::Resume,
        Self::Lost,
        Self::LostUnknown,
        Self::Gap,
        Self::Shelved,
        Self::WindowFull,
    ];
}

/// How often each event happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<Event, u64>);

impl Tally {
    pub(crate) fn of(&self, event: Event) -> u64 {
        self.0.get(&event).copied().unwrap_or_default()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(event, count)| *self.0.entry(*event).or_default() += count);
    }

    fn count(&mut self, event: Event) {
        *self.0.entry(event).or_default() += 1;
    }
}

/// How a message ended that the sender had accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    Dropped,
    /// Written, and nobody knows whether it arrived.
    Doubtful,
}

/// What a sender knows of its own messages, by the numbers that they have in the test.
#[derive(Debug, Default)]
struct Ledger {
    accepted: BTreeSet<u64>,
    /// In a list, so that a second fate is not overlooked.
    fates: BTreeMap<u64, Vec<Fate>>,
}

impl Ledger {
    fn settle(&mut self, fates: impl IntoIterator<Item = (u64, Fate)>) {
        fates.into_iter().for_each(|(id, fate)| self.fates.entry(id).or_default().push(fate));
    }
}
