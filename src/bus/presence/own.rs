//! [`Own`]: what a node tells the others of its connections. No I/O, no clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use crate::{
    bus::presence::message::{Change, Message, divide},
    presence::roster::{Place, Roster},
};

/// How much may have changed that the others have not been told. Beyond that they are told everything anew.
const MOST_NEWS: usize = 65_536;

/// The number of a node that has told nothing. Numbers of the wire begin with 1.
const NOBODY: u64 = 1;

/// The connections of this node, and what the others know of them.
pub(crate) struct Own {
    pub(crate) roster: Roster,
    /// Whether the others have been told everything but the news.
    is_told: bool,
    news: BTreeMap<Place, News>,
    /// How many members there are in the news.
    news_len: usize,
    /// The number of what was told last.
    number: u64,
    /// How many bytes of a message the broker takes.
    pub(crate) max_len: usize,
}

/// The members that have come to a place, and gone.
#[derive(Default)]
struct News {
    joined: BTreeSet<u64>,
    left: BTreeSet<u64>,
}

/// A message and its number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) message: Message,
}

/// What one who asks is told, and all before.
pub(crate) struct Answer {
    pub(crate) news: Vec<Numbered>,
    pub(crate) state: Vec<Numbered>,
}

impl Own {
    pub(crate) fn new() -> Self {
        Self {
            roster: Roster::default(),
            is_told: false,
            news: BTreeMap::new(),
            news_len: 0,
            number: NOBODY,
            max_len: usize::MAX,
        }
    }

    pub(crate) fn join(&mut self, place: &Place, id: u64, name: Option<Arc<str>>) {
        self.note(place, name.as_ref().map(|_| id), |news, id| {
            if !news.left.remove(&id) {
                news.joined.insert(id);
            }
        });
        self.roster.join(place, id, name);
    }

    pub(crate) fn leave(&mut self, place: &Place, id: u64, name: Option<&Arc<str>>) {
        self.note(place, name.map(|_| id), |news, id| {
            if !news.joined.remove(&id) {
                news.left.insert(id);
            }
        });
        self.roster.leave(place, id);
    }

    /// Notes a change, which is about a member if there is an `id`.
    fn note(&mut self, place: &Place, id: Option<u64>, note: impl FnOnce(&mut News, u64)) {
        if !self.is_told {
            return;
        }
        let news = self.news.entry(place.clone()).or_default();
        if let Some(id) = id {
            self.news_len += 1;
            note(news, id);
        }
        if self.news.len() + self.news_len > MOST_NEWS {
            self.forget_told();
        }
    }

    /// Notes that the others may have missed anything: they are told everything anew.
    pub(crate) fn forget_told(&mut self) {
        self.is_told = false;
        self.news.clear();
        self.news_len = 0;
    }

    pub(crate) fn has_news(&self) -> bool {
        // Those who have heard of somebody must hear that nobody is left.
        if self.is_told { !self.news.is_empty() } else { !self.roster.is_empty() || self.number > NOBODY }
    }

    /// Tells what is new.
    pub(crate) fn tell(&mut self) -> Vec<Numbered> {
        if !mem::replace(&mut self.is_told, true) {
            self.number += 1;
            return self.state();
        }
        self.news_len = 0;
        let (news, roster) = (mem::take(&mut self.news), &self.roster);
        let change =
            |(place, News { joined, left }): (Place, News)| roster.change(&place, joined, left.into_iter().collect());
        let parts = divide(news.into_iter().map(change), self.max_len).into_iter();
        parts
            .map(|changes| {
                self.number += 1;
                self.numbered(Message::Changed(changes))
            })
            .collect()
    }

    /// Tells that nothing is new, if there is anybody to tell of.
    pub(crate) fn beat(&self) -> Option<Numbered> {
        (self.is_told && !self.roster.is_empty()).then(|| self.numbered(Message::Beat))
    }

    /// Tells that the node ends, if others know of it.
    pub(crate) fn farewell(&self) -> Option<Numbered> {
        (self.number > NOBODY).then(|| self.numbered(Message::Gone))
    }

    /// Everything, for one who asks, and what all are to be told before: a member that has come and is no news yet may go
    /// without ever becoming any.
    pub(crate) fn answer(&mut self) -> Answer {
        let news = if self.has_news() { self.tell() } else { Vec::new() };
        Answer { news, state: self.state() }
    }

    fn state(&self) -> Vec<Numbered> {
        let mut parts = divide(self.roster.all(), self.max_len);
        if parts.is_empty() {
            parts.push(Vec::<Change>::new());
        }
        let last = parts.len() - 1;
        let state = |(part, changes)| Message::State { part: part as u32, is_last: part == last, changes };
        parts.into_iter().enumerate().map(state).map(|message| self.numbered(message)).collect()
    }

    pub(crate) fn numbered(&self, message: Message) -> Numbered {
        Numbered { number: self.number, message }
    }
}
