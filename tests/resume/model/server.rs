//! The server: sessions by token, of which each has at most one link, and tombstones.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use super::{
    Event, Ledger, Mutant, Tally,
    facts::Broken,
    incoming::Incoming,
    network::{LinkId, Network, Way},
    outgoing::{Limits, Outgoing, Push},
    wire::{Known, Message, Token, id_of},
};

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
    pub(crate) link: Option<LinkId>,
    /// The client's number of that link. A lower one is an attempt that it has given up.
    number: u64,
    has_asked: bool,
}

#[derive(Debug)]
pub(crate) struct Server {
    limits: Limits,
    ack_every: u64,
    pub(crate) sessions: BTreeMap<Token, Session>,
    tombstones: BTreeMap<Token, Known>,
    /// The session of each link that has one.
    greeted: BTreeMap<LinkId, Token>,
    pub(crate) ledger: Ledger,
    /// Which messages it accepted for which session.
    pub(crate) accepted: BTreeMap<Token, BTreeSet<u64>>,
    /// The client's messages, in the order in which they arrived.
    pub(crate) heard: Vec<u64>,
    /// How many messages of the client did not come, as `at` announced it.
    pub(crate) missed: u64,
    /// The sessions that a restart has wiped out.
    pub(crate) forgotten: BTreeSet<Token>,
    pub(crate) tally: Tally,
}

impl Server {
    pub(crate) fn new(limits: Limits, ack_every: u64) -> Self {
        Self {
            limits,
            ack_every,
            sessions: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            greeted: BTreeMap::new(),
            ledger: Ledger::default(),
            accepted: BTreeMap::new(),
            heard: Vec::new(),
            missed: 0,
            forgotten: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    /// Pushes a message to the latest session.
    pub(crate) fn push(&mut self, id: u64) {
        let Some(mut latest) = self.sessions.last_entry() else { return };
        let session = latest.get_mut();
        let is_linked = session.link.is_some();
        if session.outgoing.push(id, is_linked) == Push::Accepted {
            self.accepted.entry(*latest.key()).or_default().insert(id);
            self.ledger.accepted.insert(id);
        }
        self.settle();
    }

    /// Writes one payload of each session, or asks why it cannot.
    pub(crate) fn write(&mut self, network: &mut Network) {
        for session in self.sessions.values_mut() {
            let Some(link) = session.link else { continue };
            if let Some(messages) = session.outgoing.write() {
                messages.iter().for_each(|message| network[link].send(Way::Down, message));
            } else if session.outgoing.has_unacknowledged() && !mem::replace(&mut session.has_asked, true) {
                network[link].send(Way::Down, &Message::Ask);
            }
        }
        self.settle();
    }

    pub(crate) fn ack_if_owed(&mut self, network: &mut Network) {
        self.sessions
            .values_mut()
            .filter(|session| session.incoming.owes_ack())
            .for_each(|session| session.ack(network));
    }

    pub(crate) fn read(&mut self, link: LinkId, text: &str, network: &mut Network) -> Result<(), Broken> {
        let message = Message::decode(text)?;
        match self.greeted.get(&link).copied() {
            Some(token) => self.go_on(token, message, network)?,
            None => self.greet(link, message, network)?,
        }
        self.settle();
        Ok(())
    }

    /// The link has ended, or is given up: its session is parked.
    pub(crate) fn lose_link(&mut self, link: LinkId, network: &mut Network) {
        (network[link].server_reads, network[link].is_reset) = (false, true);
        let session = self.greeted.get(&link).and_then(|token| self.sessions.get_mut(token));
        if let Some(session) = session.filter(|session| session.link == Some(link)) {
            session.lose_link();
        }
        self.settle();
    }

    /// Gives up all sessions that are parked.
    pub(crate) fn expire(&mut self) {
        let sessions = mem::take(&mut self.sessions).into_iter();
        let (linked, parked) = sessions.partition::<Vec<_>, _>(|(_, session)| session.link.is_some());
        self.sessions = linked.into_iter().collect();
        for (token, session) in parked {
            let known = Known { received: session.incoming.received, end: session.outgoing.end() };
            self.tombstones.insert(token, known);
            self.tally.count(Event::Expiry);
        }
    }

    /// The process ends without a word, and another one begins that knows nothing.
    pub(crate) fn restart(&mut self, network: &mut Network) {
        self.forgotten.extend(mem::take(&mut self.sessions).into_keys());
        self.forgotten.extend(mem::take(&mut self.tombstones).into_keys());
        network.links().for_each(|link| link.lose_server());
        self.tally.count(Event::Restart);
    }

    fn greet(&mut self, link: LinkId, message: Message, network: &mut Network) -> Result<(), Broken> {
        match message {
            Message::New => {
                self.begin(network[link].offered, link);
                network[link].send(Way::Down, &Message::Ack(0));
                Ok(())
            }
            Message::Resume { token, .. } if !self.sessions.contains_key(&token) => {
                network[link].send(Way::Down, &Message::Lost(self.tombstones.get(&token).copied()));
                Ok(())
            }
            Message::Resume { token, link: number, received } => self.resume(link, token, number, received, network),
            message => Err(Broken::protocol(format!("a client greets with {message:?}"))),
        }
    }

    fn begin(&mut self, token: Token, link: LinkId) {
        let (outgoing, incoming) = (Outgoing::new(self.limits), Incoming::default());
        let session = Session { outgoing, incoming, link: Some(link), number: 1, has_asked: false };
        self.sessions.insert(token, session);
        self.greeted.insert(link, token);
    }

    fn resume(
        &mut self,
        link: LinkId,
        token: Token,
        number: u64,
        received: u64,
        network: &mut Network,
    ) -> Result<(), Broken> {
        let Some(session) = self.sessions.get_mut(&token) else { return Ok(()) };
        if number <= session.number && self.limits.mutant != Some(Mutant::LinkNumberIgnored) {
            self.tally.count(Event::StaleAttempt);
            network[link].take_over();
            return Ok(());
        }
        session.number = number;
        if let Some(old) = session.link {
            // Before anything is answered: what the old link has counted is final.
            self.tally.count(Event::Takeover);
            session.lose_link();
            network[old].take_over();
            network[old].server_reads = self.limits.mutant == Some(Mutant::OldLinkReadOn);
        }
        session.link = Some(link);
        let next = session.outgoing.resume(received)?;
        let answer = Message::Resumed { received: session.incoming.told(), next };
        if self.limits.mutant == Some(Mutant::CountFallsOnResume) && session.incoming.received > 3 {
            session.incoming.received -= 1;
        }
        self.greeted.insert(link, token);
        network[link].send(Way::Down, &answer);
        Ok(())
    }

    fn go_on(&mut self, token: Token, message: Message, network: &mut Network) -> Result<(), Broken> {
        let Some(session) = self.sessions.get_mut(&token) else {
            return Err(Broken::protocol("reads for a session that is over".into()));
        };
        match message {
            Message::Payload(text) => {
                session.incoming.received += 1;
                self.heard.push(id_of(&text));
                self.tally.count(Event::Delivered);
                if session.incoming.received - session.incoming.acked >= self.ack_every {
                    session.ack(network);
                }
            }
            Message::At(position) => {
                let gap = session.incoming.at(position)?;
                self.missed += gap;
                if gap > 0 {
                    self.tally.count(Event::Gap);
                }
            }
            Message::Ack(position) => {
                session.outgoing.ack(position)?;
                session.has_asked = false;
            }
            Message::Ask => session.ack(network),
            message => return Err(Broken::protocol(format!("the server reads {message:?}"))),
        }
        Ok(())
    }

    /// Writes down what has become of messages.
    fn settle(&mut self) {
        for session in self.sessions.values_mut() {
            self.ledger.settle(session.outgoing.take_fates());
            self.tally.merge(&mem::take(&mut session.outgoing.tally));
        }
    }
}

impl Session {
    fn lose_link(&mut self) {
        (self.link, self.has_asked) = (None, false);
        self.outgoing.lose_link();
    }

    fn ack(&mut self, network: &mut Network) {
        let Some(link) = self.link else { return };
        network[link].send(Way::Down, &Message::Ack(self.incoming.told()));
    }
}
