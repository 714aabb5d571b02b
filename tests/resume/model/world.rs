//! A client, a server and a network, whose steps and faults a seed decides.

use std::collections::BTreeSet;

use super::{
    Event, Mutant, Tally,
    client::{Client, State},
    facts::{Broken, Fact},
    network::{Found, LinkId, Network, Way},
    outgoing::{Limits, Overflow},
    random::Random,
    server::Server,
    wire::{Message, Token},
};

/// Which faults a world has.
#[derive(Debug)]
struct Weather {
    /// One fault in so many steps.
    every: u64,
    restarts: bool,
    expiry: bool,
    clones: bool,
}

/// Steps within which everything must have arrived once the faults are over: of 300,000 worlds, the slowest needed 3,850.
const PATIENCE: usize = 50_000;

#[derive(Debug)]
pub(crate) struct World {
    random: Random,
    weather: Weather,
    steps: usize,
    pub(super) network: Network,
    pub(super) client: Client,
    pub(super) server: Server,
    /// The sessions that a second client has a copy of.
    pub(super) cloned: BTreeSet<Token>,
    /// How many messages were pushed, by the client and by the server.
    pushed: [u64; 2],
    tally: Tally,
}

/// Whether there are faults, and new messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sky {
    Stormy,
    Calm,
}

impl World {
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut random = Random::new(seed);
        let (window, ack_every) = (1 + random.index(8), 1 + random.below(6));
        let mut limits = || Limits {
            window,
            bound: 1 + random.index(12),
            overflow: if random.one_in(3) { Overflow::DropOldest } else { Overflow::DropLatest },
            mutant,
        };
        let (client, server) = (Client::new(limits(), ack_every), Server::new(limits(), ack_every));
        let weather = Weather {
            every: [20, 40, 100, 400][random.index(4)],
            restarts: random.one_in(3),
            expiry: random.one_in(3),
            clones: random.one_in(4),
        };
        let steps = 100 + random.index(900);
        let (network, cloned, tally) = Default::default();
        Self { random, weather, steps, network, client, server, cloned, pushed: [0; 2], tally }
    }

    /// Lives through all steps and then until everything has arrived. Returns the facts that are not so.
    pub(crate) fn run(&mut self) -> Vec<Broken> {
        match self.live() {
            Ok(()) => Fact::check_all(self),
            Err(broken) => vec![broken],
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        tally.merge(&self.client.tally);
        tally.merge(&self.server.tally);
        tally
    }

    fn live(&mut self) -> Result<(), Broken> {
        for _ in 0..self.steps {
            self.step(Sky::Stormy)?;
        }
        self.network.links().for_each(|link| link.give_up_if_stuck());
        for _ in 0..PATIENCE {
            self.step(Sky::Calm)?;
            if self.is_settled() {
                return Ok(());
            }
        }
        Err(Broken { fact: Fact::Settles, detail: format!("not within {PATIENCE} steps") })
    }

    fn step(&mut self, sky: Sky) -> Result<(), Broken> {
        let is_stormy = sky == Sky::Stormy;
        if is_stormy && self.random.one_in(self.weather.every) {
            self.fault();
        }
        match self.random.below(14) {
            0 if is_stormy => self.client.push(number(&mut self.pushed[0])),
            1 if is_stormy => self.server.push(number(&mut self.pushed[1])),
            2 | 3 => self.client.write(&mut self.network),
            4 | 5 => self.server.write(&mut self.network),
            6..9 => self.server_reads()?,
            9..12 => self.client_reads()?,
            12 => self.let_time_pass(),
            _ if self.client.state == State::Down && self.random.one_in(2) => {
                self.client.use_link(self.network.open());
            }
            _ => {}
        }
        Ok(())
    }

    fn fault(&mut self) {
        let Some(link) = self.network.any_open(&mut self.random) else { return };
        match self.random.below(8) {
            0..3 => {
                self.network[link].reset_somewhere(&mut self.random);
                self.tally.count(Event::Reset);
            }
            3..5 => {
                let way = self.random.below(3);
                self.network[link].up.is_stuck |= way != 1;
                self.network[link].down.is_stuck |= way != 0;
                self.tally.count(Event::HalfOpen);
            }
            // For whatever reason. What the client wrote may still arrive, much later.
            5 if self.client.link == Some(link) => self.client.lose_link(&mut self.network),
            6 if self.weather.expiry => self.server.expire(),
            7 if self.weather.restarts => self.server.restart(&mut self.network),
            7 if self.weather.clones => self.clone_resumes(),
            _ => {}
        }
    }

    /// Another client comes with a copy of the session, as a duplicated tab does, and does not even read.
    fn clone_resumes(&mut self) {
        let Some(session) = &self.client.session else { return };
        let (token, received) = (session.token, session.incoming.received);
        let number = session.link + self.random.below(3);
        let link = self.network.open_unread();
        self.network[link].send(Way::Up, &Message::Resume { token, link: number, received });
        self.cloned.insert(token);
        self.tally.count(Event::Clone);
    }

    fn server_reads(&mut self) -> Result<(), Broken> {
        let Some(link) = self.network.any_open(&mut self.random) else { return Ok(()) };
        if !self.network[link].server_reads {
            return Ok(());
        }
        match self.network[link].receive(Way::Up) {
            Found::Message(text) => self.server.read(link, &text, &mut self.network)?,
            Found::End => self.server.lose_link(link, &mut self.network),
            Found::Nothing => self.server_notices_an_end(link),
        }
        Ok(())
    }

    /// The end of a link that the client has left arrives behind all that it wrote, some time.
    fn server_notices_an_end(&mut self, link: LinkId) {
        if !self.network[link].up.is_stuck && !self.network[link].client_reads && self.random.one_in(2) {
            self.server.lose_link(link, &mut self.network);
        }
    }

    fn client_reads(&mut self) -> Result<(), Broken> {
        let Some(link) = self.client.link else { return Ok(()) };
        match self.network[link].receive(Way::Down) {
            Found::Message(text) => self.client.read(link, &text, &mut self.network)?,
            Found::End => self.client.lose_link(&mut self.network),
            Found::Nothing => {}
        }
        Ok(())
    }

    /// Timers: an ack that is due, a peer that does not answer.
    fn let_time_pass(&mut self) {
        self.client.ack_if_owed(&mut self.network);
        self.server.ack_if_owed(&mut self.network);
        if let Some(link) = self.client.link
            && self.network[link].is_stuck()
            && self.random.one_in(3)
        {
            self.client.lose_link(&mut self.network);
        }
        if let Some(link) = self.network.any_open(&mut self.random)
            && (self.network[link].up.is_stuck || !self.network[link].client_reads)
            && self.random.one_in(3)
        {
            self.server.lose_link(link, &mut self.network);
        }
    }

    fn is_settled(&self) -> bool {
        let (State::Up, Some(link), Some(own)) = (self.client.state, self.client.link, &self.client.session) else {
            return false;
        };
        let Some(peer) = self.server.sessions.get(&own.token) else { return false };
        let (is_linked, link) = (peer.link == Some(link), &self.network[link]);
        let is_quiet = !link.is_reset && link.up.under_way.is_empty() && link.down.under_way.is_empty();
        let is_sent = own.outgoing.is_written() && peer.outgoing.is_written();
        is_linked && is_quiet && is_sent && !own.incoming.owes_ack() && !peer.incoming.owes_ack()
    }
}

fn number(next: &mut u64) -> u64 {
    *next += 1;
    *next - 1
}
