//! The network: links that are reset at any point, or stand still without a word.

use std::{
    collections::VecDeque,
    ops::{Index, IndexMut},
};

use super::{
    random::Random,
    wire::{Message, Token},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(usize);

/// To the server, or to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) under_way: VecDeque<String>,
    /// Nothing moves any more, and nobody is told.
    pub(crate) is_stuck: bool,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    pub(crate) client_reads: bool,
    pub(crate) server_reads: bool,
    /// What is under way may still be read, then the end is seen. The operating system takes what is written, and loses it.
    pub(crate) is_reset: bool,
    /// Close code 4900: another link has the session.
    pub(crate) is_taken_over: bool,
    /// The session that the server offers on it.
    pub(crate) offered: Token,
}

/// What the reading end of a link finds.
pub(crate) enum Found {
    Nothing,
    Message(String),
    End,
}

impl Link {
    pub(crate) fn is_stuck(&self) -> bool {
        self.up.is_stuck || self.down.is_stuck
    }

    pub(crate) fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    pub(crate) fn send(&mut self, way: Way, message: &Message) {
        if !self.is_reset {
            self.pipe(way).under_way.push_back(message.encode());
        }
    }

    pub(crate) fn receive(&mut self, way: Way) -> Found {
        let is_reset = self.is_reset;
        let pipe = self.pipe(way);
        match pipe.is_stuck {
            true => Found::Nothing,
            false => match pipe.under_way.pop_front() {
                Some(text) => Found::Message(text),
                None if is_reset => Found::End,
                None => Found::Nothing,
            },
        }
    }

    /// At any byte: some of what is under way is lost, the rest of a message with it.
    pub(crate) fn reset_somewhere(&mut self, random: &mut Random) {
        for way in [Way::Up, Way::Down] {
            let under_way = &mut self.pipe(way).under_way;
            under_way.truncate(random.index(under_way.len() + 1));
        }
        self.is_reset = true;
    }

    /// The server closes it with 4900.
    pub(crate) fn take_over(&mut self) {
        (self.server_reads, self.is_reset, self.is_taken_over) = (false, true, true);
    }

    /// The server's process is gone, and all that it has not read.
    pub(crate) fn lose_server(&mut self) {
        (self.server_reads, self.is_reset) = (false, true);
        self.up.under_way.clear();
    }

    /// Ends a link that stands still, as time-outs do in the end.
    pub(crate) fn give_up_if_stuck(&mut self) {
        if self.is_stuck() {
            (self.up, self.down) = Default::default();
            self.is_reset = true;
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    links: Vec<Link>,
}

impl Network {
    pub(crate) fn open(&mut self) -> LinkId {
        let id = self.open_unread();
        // The server speaks first, together with its 101.
        let hello = Message::Hello(self[id].offered);
        self[id].send(Way::Down, &hello);
        id
    }

    /// A link to a client that does not read.
    pub(crate) fn open_unread(&mut self) -> LinkId {
        self.links.push(Link {
            up: Pipe::default(),
            down: Pipe::default(),
            client_reads: true,
            server_reads: true,
            is_reset: false,
            is_taken_over: false,
            offered: self.links.len() as Token + 1,
        });
        LinkId(self.links.len() - 1)
    }

    pub(crate) fn links(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.iter_mut()
    }

    /// A link that at least one end still has.
    pub(crate) fn any_open(&self, random: &mut Random) -> Option<LinkId> {
        let is_open = |id: &usize| self.links[*id].client_reads || self.links[*id].server_reads;
        let open: Vec<_> = (0..self.links.len()).filter(is_open).collect();
        (!open.is_empty()).then(|| LinkId(open[random.index(open.len())]))
    }
}

impl Index<LinkId> for Network {
    type Output = Link;

    fn index(&self, id: LinkId) -> &Link {
        &self.links[id.0]
    }
}

impl IndexMut<LinkId> for Network {
    fn index_mut(&mut self, id: LinkId) -> &mut Link {
        &mut self.links[id.0]
    }
}
