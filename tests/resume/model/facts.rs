//! What must be true in every world once it has settled.

use std::collections::BTreeSet;

use super::{
    Fate, Ledger, client::Session as ClientSession, incoming::Incoming, outgoing::Outgoing,
    server::Session as ServerSession, world::World,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    /// Neither end takes what the other says for a mistake.
    NoMistake,
    /// When the faults are over, everything arrives.
    Settles,
    /// What arrives does so once and in the order in which it was pushed.
    Order,
    /// Both ends agree on the positions, and everything is acknowledged.
    Agreement,
    /// A message that the client accepted arrives, is dropped with a word, or is in doubt.
    NothingLost,
    /// Each message that the client accepted has one fate.
    OneFate,
    /// What is acknowledged has arrived; what is dropped has not.
    TrueFate,
    /// A message is in doubt only after a restart or a takeover by a clone.
    DoubtHasCause,
    /// The server hears of exactly what is missing, if no session was lost.
    GapToServer,
    /// The client hears of exactly what is missing, over all its sessions.
    GapToClient,
    /// A gap is of unknown size only after a restart or a takeover by a clone.
    UnknownGapHasCause,
}

/// A fact that is not so.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) fact: Fact,
    pub(crate) detail: String,
}

impl Broken {
    pub(crate) fn protocol(detail: String) -> Self {
        Self { fact: Fact::NoMistake, detail }
    }
}

impl Fact {
    /// Checks those that can be checked at the end; a world itself finds the first two.
    pub(crate) fn check_all(world: &World) -> Vec<Broken> {
        let settled = Settled::new(world);
        let verdicts = [
            (Self::Order, settled.order()),
            (Self::Agreement, settled.agreement()),
            (Self::NothingLost, settled.nothing_lost()),
            (Self::OneFate, settled.one_fate()),
            (Self::TrueFate, settled.true_fate()),
            (Self::DoubtHasCause, settled.doubt_has_cause()),
            (Self::GapToServer, settled.gap_to_server()),
            (Self::GapToClient, settled.gap_to_client()),
            (Self::UnknownGapHasCause, settled.unknown_gap_has_cause()),
        ];
        let broken = |(fact, verdict): (Self, Result<(), String>)| Some(Broken { fact, detail: verdict.err()? });
        verdicts.into_iter().filter_map(broken).collect()
    }
}

/// A world in which everything has arrived.
struct Settled<'a> {
    world: &'a World,
    client: &'a ClientSession,
    server: &'a ServerSession,
    server_heard: BTreeSet<u64>,
    client_heard: BTreeSet<u64>,
}

impl<'a> Settled<'a> {
    fn new(world: &'a World) -> Self {
        let client = world.client.session.as_ref().expect("a settled world has a session");
        Self {
            world,
            client,
            server: &world.server.sessions[&client.token],
            server_heard: world.server.heard.iter().copied().collect(),
            client_heard: world.client.heard.iter().copied().collect(),
        }
    }

    fn has_cause(&self) -> bool {
        !self.world.server.forgotten.is_empty() || !self.world.cloned.is_empty()
    }

    fn order(&self) -> Result<(), String> {
        let World { client, server, .. } = self.world;
        let rises = |ids: &[u64]| ids.is_sorted_by(|one, next| one < next);
        ensure(rises(&server.heard), || format!("the server heard {:?}", server.heard))?;
        ensure(rises(&client.heard), || format!("the client heard {:?}", client.heard))
    }

    fn agreement(&self) -> Result<(), String> {
        agree(&self.client.outgoing, &self.server.incoming)?;
        agree(&self.server.outgoing, &self.client.incoming)
    }

    fn nothing_lost(&self) -> Result<(), String> {
        let Ledger { accepted, fates } = &self.world.client.ledger;
        let is_excused = |fate: &Fate| matches!(fate, Fate::Dropped | Fate::Doubtful);
        let lost = accepted.iter().find(|id| {
            !self.server_heard.contains(id) && !fates.get(id).is_some_and(|fates| fates.iter().any(is_excused))
        });
        ensure(lost.is_none(), || format!("{lost:?} on the way to the server"))
    }

    fn one_fate(&self) -> Result<(), String> {
        let Ledger { accepted, fates } = &self.world.client.ledger;
        let wrong = accepted.iter().find(|id| fates.get(id).is_none_or(|fates| fates.len() != 1));
        ensure(wrong.is_none(), || format!("{wrong:?} has the fates {:?}", wrong.and_then(|id| fates.get(id))))
    }

    fn true_fate(&self) -> Result<(), String> {
        // A clone may have made the server forget what the client still found on its old link.
        let is_cloned = !self.world.cloned.is_empty();
        lie(&self.world.client.ledger, &self.server_heard, false)?;
        lie(&self.world.server.ledger, &self.client_heard, is_cloned)
    }

    fn doubt_has_cause(&self) -> Result<(), String> {
        let fates = &self.world.client.ledger.fates;
        let doubtful = fates.iter().find(|(_, fates)| fates.contains(&Fate::Doubtful));
        ensure(self.has_cause() || doubtful.is_none(), || format!("{doubtful:?}"))
    }

    fn gap_to_server(&self) -> Result<(), String> {
        let World { client, server, .. } = self.world;
        if self.has_cause() || !client.losses.is_empty() {
            return Ok(());
        }
        let missing = client.ledger.accepted.difference(&self.server_heard).count() as u64;
        let (announced, before) = (server.missed, client.dropped_before);
        ensure(missing == announced + before, || {
            format!("{missing} missing, {announced} announced, {before} without a position")
        })
    }

    fn gap_to_client(&self) -> Result<(), String> {
        let World { client, server, .. } = self.world;
        let known = server.accepted.iter().filter(|(token, _)| client.sessions.contains(token));
        let missing = known.flat_map(|(_, ids)| ids).filter(|id| !self.client_heard.contains(id)).count() as u64;
        let told: u64 = client.losses.iter().filter_map(|loss| loss.missed).sum();
        let announced = told + client.missed_before + self.client.incoming.missed;
        let is_exact = client.losses.iter().all(|loss| loss.missed.is_some());
        ensure(missing == announced || (!is_exact && missing > announced), || {
            format!("{missing} missing, {announced} announced, exactly: {is_exact}")
        })
    }

    fn unknown_gap_has_cause(&self) -> Result<(), String> {
        let World { client, server, cloned, .. } = self.world;
        let unknown = client.losses.iter().filter(|loss| loss.missed.is_none()).map(|loss| loss.token);
        let wrong = unknown.into_iter().find(|token| !server.forgotten.contains(token) && !cloned.contains(token));
        ensure(wrong.is_none(), || format!("in session {wrong:?}"))
    }
}

/// Finds a message of which its sender says that it arrived, and it did not, or the other way round.
fn lie(ledger: &Ledger, heard: &BTreeSet<u64>, may_drop_heard: bool) -> Result<(), String> {
    let is_lie = |id: &u64, fate: &Fate| match fate {
        Fate::Acknowledged => !heard.contains(id),
        Fate::Dropped => heard.contains(id) && !may_drop_heard,
        Fate::Doubtful => false,
    };
    let lie = ledger.fates.iter().find(|(id, fates)| fates.iter().any(|fate| is_lie(id, fate)));
    ensure(lie.is_none(), || format!("{lie:?}"))
}

/// The receiver has come to where the sender's messages end, and the sender knows.
fn agree(outgoing: &Outgoing, incoming: &Incoming) -> Result<(), String> {
    let is_so = outgoing.end() == incoming.received && outgoing.is_empty();
    ensure(is_so, || format!("{outgoing:?} and {incoming:?}"))
}

fn ensure(is_so: bool, detail: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(detail()) }
}
