//! The client: one link at a time, and a session that outlives its links.

use std::{collections::BTreeSet, mem};

use super::{
    Event, Ledger, Mutant, Tally,
    facts::Broken,
    incoming::Incoming,
    network::{LinkId, Network, Way},
    outgoing::{Limits, Outgoing, Push},
    wire::{Known, Message, Token, id_of},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Down,
    /// Waits for `hello`.
    Opening,
    /// Has said `resume`, and waits for `resumed` or `lost`.
    Resuming,
    /// Has said `new`, and waits for any answer. Nothing is written before, so nothing can be in doubt.
    Beginning,
    Up,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) token: Token,
    /// This is the client's n-th link.
    pub(crate) link: u64,
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
}

/// What a client knows of a session that it has lost: how many messages of the server did not come, if the server told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) token: Token,
    pub(crate) missed: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Client {
    limits: Limits,
    ack_every: u64,
    pub(crate) state: State,
    pub(crate) link: Option<LinkId>,
    pub(crate) session: Option<Session>,
    /// What is pushed while there is no session.
    early: Outgoing,
    has_asked: bool,
    pub(crate) ledger: Ledger,
    /// The server's messages, in the order in which they arrived.
    pub(crate) heard: Vec<u64>,
    /// The sessions that it knows it has had.
    pub(crate) sessions: BTreeSet<Token>,
    pub(crate) losses: Vec<Loss>,
    /// How many messages of the server did not come in the sessions that are over, as `at` announced it.
    pub(crate) missed_before: u64,
    /// How many messages were dropped before they had a position, so that no `at` can announce them.
    pub(crate) dropped_before: u64,
    pub(crate) tally: Tally,
}

impl Client {
    pub(crate) fn new(limits: Limits, ack_every: u64) -> Self {
        Self {
            limits,
            ack_every,
            state: State::Down,
            link: None,
            session: None,
            early: Outgoing::new(limits),
            has_asked: false,
            ledger: Ledger::default(),
            heard: Vec::new(),
            sessions: BTreeSet::new(),
            losses: Vec::new(),
            missed_before: 0,
            dropped_before: 0,
            tally: Tally::default(),
        }
    }

    pub(crate) fn use_link(&mut self, link: LinkId) {
        (self.link, self.state) = (Some(link), State::Opening);
    }

    pub(crate) fn push(&mut self, id: u64) {
        let is_linked = self.state == State::Up;
        let outgoing = self.session.as_mut().map_or(&mut self.early, |session| &mut session.outgoing);
        if outgoing.push(id, is_linked) == Push::Accepted {
            self.ledger.accepted.insert(id);
        }
        self.settle();
    }

    /// Writes one payload, or asks why it cannot.
    pub(crate) fn write(&mut self, network: &mut Network) {
        let (State::Up, Some(link), Some(session)) = (self.state, self.link, &mut self.session) else { return };
        if let Some(messages) = session.outgoing.write() {
            messages.iter().for_each(|message| network[link].send(Way::Up, message));
        } else if session.outgoing.has_unacknowledged() && !mem::replace(&mut self.has_asked, true) {
            network[link].send(Way::Up, &Message::Ask);
        }
    }

    pub(crate) fn ack_if_owed(&mut self, network: &mut Network) {
        if self.state == State::Up && self.session.as_ref().is_some_and(|session| session.incoming.owes_ack()) {
            self.ack(network);
        }
    }

    pub(crate) fn read(&mut self, link: LinkId, text: &str, network: &mut Network) -> Result<(), Broken> {
        let message = Message::decode(text)?;
        if self.state == State::Beginning {
            self.be_up();
        }
        match (self.state, message) {
            (State::Opening, Message::Hello(token)) => self.greet(link, token, network),
            (State::Resuming, Message::Resumed { received, next }) => self.resume(link, received, next, network)?,
            (State::Resuming, Message::Lost(known)) => {
                self.lose_session(known);
                self.begin(link, network[link].offered, network);
            }
            (State::Up, Message::Ask) => self.ack(network),
            (State::Up, message) => self.go_on(message, network)?,
            (state, message) => return Err(Broken::protocol(format!("a client that is {state:?} reads {message:?}"))),
        }
        self.settle();
        Ok(())
    }

    /// The link has ended, or is given up.
    pub(crate) fn lose_link(&mut self, network: &mut Network) {
        let Some(link) = self.link.take() else { return };
        network[link].client_reads = false;
        if self.state == State::Beginning
            && self.limits.mutant != Some(Mutant::PayloadBeforeAnswer)
            && let Some(session) = self.session.take()
        {
            // There was no session.
            self.early = session.outgoing;
        }
        let is_taken_over = network[link].is_taken_over;
        (self.state, self.has_asked) = (State::Down, false);
        if let Some(session) = &mut self.session {
            session.outgoing.lose_link();
        }
        self.settle();
        if is_taken_over && self.session.is_some() {
            self.lose_session(None);
        }
    }

    fn greet(&mut self, link: LinkId, offered: Token, network: &mut Network) {
        let Some(session) = &mut self.session else { return self.begin(link, offered, network) };
        session.link += 1;
        let received = session.incoming.told();
        let resume = Message::Resume { token: session.token, link: session.link, received };
        network[link].send(Way::Up, &resume);
        self.state = State::Resuming;
    }

    fn begin(&mut self, link: LinkId, token: Token, network: &mut Network) {
        self.dropped_before += self.early.dropped;
        let outgoing = mem::replace(&mut self.early, Outgoing::new(self.limits)).begin();
        self.session = Some(Session { token, link: 1, outgoing, incoming: Incoming::default() });
        network[link].send(Way::Up, &Message::New);
        self.state = State::Beginning;
        if self.limits.mutant == Some(Mutant::PayloadBeforeAnswer) {
            self.be_up();
        }
    }

    fn be_up(&mut self) {
        self.state = State::Up;
        self.sessions.extend(self.session.as_ref().map(|session| session.token));
    }

    fn resume(&mut self, link: LinkId, received: u64, next: u64, network: &mut Network) -> Result<(), Broken> {
        let session = self.session.as_mut().expect("a client that resumes has a session");
        let acked = session.outgoing.position_told();
        if received < acked {
            return Err(Broken::protocol(format!("the server is back at {received}, but was at {acked}")));
        }
        let own = session.outgoing.resume(received)?;
        session.incoming.at(next)?;
        session.incoming.told();
        network[link].send(Way::Up, &Message::At(own));
        self.state = State::Up;
        self.tally.count(Event::Resume);
        Ok(())
    }

    fn go_on(&mut self, message: Message, network: &mut Network) -> Result<(), Broken> {
        let session = self.session.as_mut().expect("a client that is up has a session");
        match message {
            Message::Payload(text) => {
                session.incoming.received += 1;
                self.heard.push(id_of(&text));
                self.tally.count(Event::Delivered);
                if session.incoming.received - session.incoming.acked >= self.ack_every {
                    self.ack(network);
                }
            }
            Message::At(position) => {
                if session.incoming.at(position)? > 0 {
                    self.tally.count(Event::Gap);
                }
            }
            Message::Ack(position) => {
                session.outgoing.ack(position)?;
                // One `ask` at a time: a slow peer would only find a heap of them.
                self.has_asked = false;
            }
            message => return Err(Broken::protocol(format!("a client that is up reads {message:?}"))),
        }
        Ok(())
    }

    fn ack(&mut self, network: &mut Network) {
        let (Some(link), Some(session)) = (self.link, &mut self.session) else { return };
        let early = if self.limits.mutant == Some(Mutant::AckTooEarly) { 1 } else { 0 };
        network[link].send(Way::Up, &Message::Ack(session.incoming.told() + early));
    }

    fn lose_session(&mut self, known: Option<Known>) {
        let Some(Session { token, outgoing, incoming, .. }) = self.session.take() else { return };
        self.early = outgoing.lose_session(known.map(|known| known.received));
        let missed = known.map(|known| match self.limits.mutant {
            Some(Mutant::NumbersOfLostUnused) => 0,
            _ => known.end - incoming.received,
        });
        self.losses.push(Loss { token, missed });
        self.missed_before += incoming.missed;
        self.tally.count(if known.is_some() { Event::Lost } else { Event::LostUnknown });
        self.settle();
    }

    /// Writes down what has become of messages.
    fn settle(&mut self) {
        let outgoings = self.session.iter_mut().map(|session| &mut session.outgoing).chain([&mut self.early]);
        for outgoing in outgoings {
            self.ledger.settle(outgoing.take_fates());
            self.tally.merge(&mem::take(&mut outgoing.tally));
        }
    }
}
