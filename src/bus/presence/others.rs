//! [`Others`]: what the other nodes have told of their connections. No I/O, no clock of its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    bus::presence::message::{Change, Message},
    presence::roster::Roster,
    sparse,
};

/// How many other nodes there may be.
const MOST_NODES: usize = 4_096;

/// Bytes of memory of all that they have told, more or less: three million members. More is left out.
const MOST: usize = 256 * 1024 * 1024;

/// How many messages behind a hole are kept until it is filled.
const MOST_LATER: usize = 64;

/// How many ticks a node may be silent: of a second each, three beats.
const SILENT_TICKS: u32 = 15;

/// When a node that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The other nodes, by their names.
#[derive(Default)]
pub(crate) struct Others {
    nodes: HashMap<Arc<str>, Node>,
    /// Bytes of memory of what they have told.
    len: usize,
}

/// Another node, as far as it is known.
#[derive(Default)]
struct Node {
    roster: Roster,
    /// The number up to which the roster is complete; none before it has ever been.
    at: Option<u64>,
    /// Changes behind a hole, by their number.
    later: BTreeMap<u64, Later>,
    gathering: Option<Gathering>,
    /// How many ticks have passed since it was heard last.
    silent: u32,
    /// When it is to be asked for its state, if that is needed.
    ask_at: Option<Instant>,
}

/// Changes that wait, and their bytes of memory.
struct Later {
    changes: Vec<Change>,
    len: usize,
}

/// A part of a state, as it comes.
struct State {
    number: u64,
    part: u32,
    is_last: bool,
    changes: Vec<Change>,
}

/// A state that has come in part.
struct Gathering {
    number: u64,
    parts: u32,
    roster: Roster,
}

/// Where something is different now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// On these paths.
    Changes(Vec<String>),
    /// On any path.
    Anything,
    Nothing,
}

impl Others {
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(crate) fn rosters(&self) -> impl Iterator<Item = &Roster> {
        self.nodes.values().map(|node| &node.roster)
    }

    /// Takes a message of another node's.
    pub(crate) fn hear(&mut self, from: &Arc<str>, number: u64, message: Message, now: Instant) -> Heard {
        match message {
            Message::Ask { .. } => return Heard::Nothing,
            Message::Gone => {
                let gone = sparse::remove(&mut self.nodes, from);
                self.len -= gone.as_ref().map_or(0, Node::len);
                return anything(gone.is_some());
            }
            _ => {}
        }
        if self.nodes.len() >= MOST_NODES && !self.nodes.contains_key(from) {
            return Heard::Nothing;
        }
        let node = self.nodes.entry(from.clone()).or_default();
        node.silent = 0;
        self.len -= node.len();
        let heard = node.hear(number, message, MOST.saturating_sub(self.len), now);
        self.len += node.len();
        heard
    }

    /// Notes that a second has passed. Nodes that have been silent for too long are gone.
    pub(crate) fn tick(&mut self) -> Heard {
        let before = self.nodes.len();
        self.nodes.retain(|_, node| {
            node.silent += 1;
            let is_here = node.silent < SILENT_TICKS;
            self.len -= if is_here { 0 } else { node.len() };
            is_here
        });
        anything(self.nodes.len() < before)
    }

    /// The nodes that are to be asked for their state.
    pub(crate) fn take_asked(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut asked = Vec::new();
        for (name, node) in &mut self.nodes {
            if node.ask_at.is_some_and(|at| at <= now) {
                node.ask_at = Some(now + ASK_AGAIN);
                asked.push(name.clone());
            }
        }
        asked
    }

    /// When the next node is to be asked.
    pub(crate) fn ask_at(&self) -> Option<Instant> {
        self.nodes.values().filter_map(|node| node.ask_at).min()
    }
}

impl Node {
    /// Bytes of memory of what it has told.
    fn len(&self) -> usize {
        let gathered = self.gathering.as_ref().map_or(0, |gathering| gathering.roster.len);
        self.roster.len + gathered + self.later.values().map(|later| later.len).sum::<usize>()
    }

    /// Takes a message, as far as the node has room for it.
    fn hear(&mut self, number: u64, message: Message, room: usize, now: Instant) -> Heard {
        match message {
            Message::Changed(changes) => self.follow(number, changes, room, now),
            Message::State { part, is_last, changes } => {
                self.gather(State { number, part, is_last, changes }, room, now)
            }
            Message::Beat if self.at.is_none_or(|at| at < number) => {
                self.ask(now);
                Heard::Nothing
            }
            Message::Beat | Message::Ask { .. } | Message::Gone => Heard::Nothing,
        }
    }

    fn ask(&mut self, now: Instant) {
        self.ask_at.get_or_insert(now);
    }

    fn follow(&mut self, number: u64, changes: Vec<Change>, room: usize, now: Instant) -> Heard {
        // A message that was sent again has been heard already.
        if self.at.is_some_and(|at| number <= at) {
            return Heard::Nothing;
        }
        let len = changes.iter().map(Change::memory).sum();
        if self.later.len() < MOST_LATER && self.len().saturating_add(len) <= room {
            self.later.insert(number, Later { changes, len });
        }
        self.catch_up(room, now)
    }

    /// Takes what was kept as far as there is no hole.
    fn catch_up(&mut self, room: usize, now: Instant) -> Heard {
        let mut changed = Vec::new();
        let most = room.saturating_sub(self.len() - self.roster.len);
        while let Some(next) = self.at.and_then(|at| at.checked_add(1))
            && let Some(Later { changes, .. }) = self.later.remove(&next)
        {
            changed.extend(changes.iter().map(|change| change.path.clone()));
            changes.into_iter().for_each(|change| self.roster.apply(change, most));
            self.at = Some(next);
        }
        if self.later.is_empty() {
            self.ask_at = None;
        } else {
            self.ask(now);
        }
        Heard::Changes(changed)
    }

    fn gather(&mut self, State { number, part, is_last, changes }: State, room: usize, now: Instant) -> Heard {
        // An answer that was overtaken.
        if self.at.is_some_and(|at| number < at) {
            return Heard::Nothing;
        }
        let mut gathering = match self.gathering.take() {
            _ if part == 0 => Gathering { number, parts: 0, roster: Roster::default() },
            Some(gathering) if (gathering.number, gathering.parts) == (number, part) => gathering,
            // A part is missing. The node is asked again, since it is not complete.
            _ => {
                self.ask(now);
                return Heard::Nothing;
            }
        };
        gathering.parts += 1;
        let most = room.saturating_sub(self.len());
        changes.into_iter().for_each(|change| gathering.roster.apply(change, most));
        if !is_last {
            self.gathering = Some(gathering);
            return Heard::Nothing;
        }
        self.roster = gathering.roster;
        self.at = Some(number);
        self.later.retain(|later, _| *later > number);
        self.catch_up(room, now);
        Heard::Anything
    }
}

fn anything(is_so: bool) -> Heard {
    if is_so { Heard::Anything } else { Heard::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Tag,
        bus::presence::own::{Answer, Numbered, Own},
        presence::roster::{Place, presence},
    };

    /// A node, and one that hears it.
    struct Pair {
        own: Own,
        others: Others,
        now: Instant,
    }

    impl Pair {
        fn new() -> Self {
            Self { own: Own::new(), others: Others::default(), now: Instant::now() }
        }

        fn join(&mut self, ids: impl IntoIterator<Item = u64>) {
            let place = Place { path: "/a".into(), server: "x".into() };
            ids.into_iter().for_each(|id| self.own.join(&place, id, Some(format!("n{id}").into())));
        }

        fn leave(&mut self, id: u64) {
            let place = Place { path: "/a".into(), server: "x".into() };
            self.own.leave(&place, id, Some(&"".into()));
        }

        fn hear(&mut self, told: Vec<Numbered>) {
            for Numbered { number, message } in told {
                self.others.hear(&"x".into(), number, message, self.now);
            }
        }

        fn tell(&mut self) {
            let told = self.own.tell();
            self.hear(told);
        }

        fn assert_asks(&mut self) {
            assert_eq!(self.others.take_asked(self.now).len(), 1);
            self.answer();
            self.assert_same();
        }

        fn answer(&mut self) {
            let Answer { news, state } = self.own.answer();
            self.hear(news);
            self.hear(state);
        }

        fn assert_same(&mut self) {
            let path = Tag::from("/a");
            let [own, heard] =
                [presence([&self.own.roster].into_iter(), &path), presence(self.others.rosters(), &path)];
            assert_eq!(own, heard);
            assert_eq!(self.others.ask_at(), None);
        }
    }

    #[tokio::test]
    async fn changes_are_followed() {
        let mut pair = Pair::new();
        pair.join(0..3);
        pair.tell();
        pair.assert_same();
        pair.join(3..5);
        pair.leave(0);
        // One that comes and goes between is no news.
        pair.join([9]);
        pair.leave(9);
        pair.tell();
        pair.assert_same();
        assert!(!pair.own.has_news());
    }

    #[tokio::test]
    async fn who_comes_late_asks_and_so_does_who_missed_something() {
        let mut pair = Pair::new();
        pair.join(0..3);
        pair.own.tell();
        let beat = pair.own.beat();
        pair.hear(beat.into_iter().collect());
        pair.assert_asks();
        pair.join([3]);
        pair.own.tell();
        pair.join([4]);
        pair.tell();
        pair.assert_asks();
    }

    #[tokio::test]
    async fn what_overtakes_the_answer_is_not_lost_and_what_is_overtaken_does_no_harm() {
        let mut pair = Pair::new();
        pair.join([0]);
        pair.own.tell();
        let late = pair.own.answer().state;
        pair.join([1]);
        pair.tell();
        pair.hear(late);
        pair.assert_same();
        let later = pair.own.answer().state;
        pair.leave(0);
        pair.tell();
        pair.hear(later);
        pair.assert_same();
    }

    #[tokio::test]
    async fn member_that_comes_and_goes_around_an_answer_does_not_stay() {
        let mut pair = Pair::new();
        pair.join([0]);
        pair.tell();
        pair.join([1]);
        pair.answer();
        pair.leave(1);
        pair.tell();
        pair.assert_same();
    }

    #[tokio::test]
    async fn state_of_which_a_part_is_missing_is_asked_for_again() {
        let mut pair = Pair::new();
        pair.join(0..10_000);
        let mut state = pair.own.tell();
        assert!(state.len() > 2);
        state.remove(1);
        pair.hear(state);
        pair.assert_asks();
    }

    #[tokio::test]
    async fn what_was_told_twice_is_heard_once() {
        let mut pair = Pair::new();
        pair.join([0]);
        pair.tell();
        pair.join([1]);
        let told = pair.own.tell();
        let again: Vec<_> =
            told.iter().map(|told| Numbered { number: told.number, message: told.message.clone() }).collect();
        pair.hear(told);
        pair.leave(1);
        pair.tell();
        pair.hear(again);
        pair.assert_same();
    }

    #[tokio::test]
    async fn silent_node_is_gone_within_fifteen_seconds() {
        let mut pair = Pair::new();
        pair.join([0]);
        pair.tell();
        assert!((1..SILENT_TICKS).all(|_| pair.others.tick() == Heard::Nothing));
        pair.hear(pair.own.beat().into_iter().collect());
        assert!((1..SILENT_TICKS).all(|_| pair.others.tick() == Heard::Nothing));
        assert_eq!((pair.others.tick(), pair.others.is_empty()), (Heard::Anything, true));
    }

    #[tokio::test]
    async fn numbers_of_the_wire_overflow_nothing() {
        let mut pair = Pair::new();
        let state = || Message::State { part: 0, is_last: true, changes: Vec::new() };
        for message in [Message::Changed(Vec::new()), state(), Message::Changed(Vec::new()), Message::Beat] {
            pair.hear(vec![Numbered { number: u64::MAX, message }]);
        }
        assert_eq!(pair.others.ask_at(), None);
    }

    /// By all the ways on which there are, and with any names.
    #[tokio::test]
    async fn others_together_cannot_fill_the_memory() {
        // What is left is a megabyte.
        let taken = MOST - (1 << 20);
        let mut others = Others { len: taken, ..Others::default() };
        let (now, name) = (Instant::now(), "x".repeat(1_000));
        for round in 0..2_000_u64 {
            let joined = (0..10).map(|id| (id, name.clone())).collect();
            let changes = vec![Change { path: format!("/{round}"), connections: 1, joined, ..Change::default() }];
            let (number, message) = match round % 3 {
                0 => (round, Message::Changed(changes)),
                part => (1, Message::State { part: part as u32 - 1, is_last: part == 2, changes }),
            };
            others.hear(&format!("{}", round / 60).into(), number, message, now);
            assert!(others.len <= MOST, "{}", others.len);
        }
        assert!(others.len > MOST - (1 << 16));
        assert_eq!(others.len - taken, others.nodes.values().map(Node::len).sum::<usize>());
        others.hear(&"0".into(), 1, Message::Gone, now);
        (0..SILENT_TICKS).for_each(|_| _ = others.tick());
        assert_eq!((others.len, others.is_empty()), (taken, true));
    }

    #[tokio::test]
    async fn more_news_than_are_kept_are_told_as_everything() {
        let mut pair = Pair::new();
        pair.join([0]);
        pair.tell();
        pair.join(1..70_000);
        pair.tell();
        pair.assert_same();
    }
}
