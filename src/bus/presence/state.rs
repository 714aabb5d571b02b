//! [`State`]: what is done about presence, and when. No I/O, no clock of its own.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    Presence, SerializedSubject, Tag, TaggedData,
    bus::{
        numbers::Stamp,
        presence::{
            channel::Channel,
            message::Message,
            others::{Heard, Others},
            own::{Answer, Numbered, Own},
            watched::WatchedPaths,
        },
        subject_name,
    },
    presence::{
        roster::{Roster, presence},
        watchers::{Emission, Watchers},
    },
};

/// How often the others are told what has changed.
const INTERVAL: Duration = Duration::from_millis(200);

/// How often the others are told that nothing has changed.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked for nodes that are silent.
const TICK: Duration = Duration::from_secs(1);

/// How long the others have to answer, before an observer hears who is there.
const PATIENCE: Duration = Duration::from_millis(250);

/// How many nodes may wait for an answer.
const MOST_ASKERS: usize = 4_096;

/// What a node knows, and what it has to do.
pub(crate) struct State {
    own: Own,
    others: Others,
    watched: WatchedPaths,
    watchers: Watchers,
    link: Option<LinkState>,
    /// The nodes that have asked for everything.
    askers: BTreeSet<Arc<str>>,
    tick_at: Instant,
    /// Whether the node is about to end. From then on no link is one to tell the others anything.
    is_leaving: bool,
    pub(crate) is_over: bool,
}

/// What matters as long as there is a link.
struct LinkState {
    /// Whether all others are to be asked for their state, once somebody here wants to know it.
    asks: bool,
    /// When the others have had the time to answer, once they were asked.
    known_at: Option<Instant>,
    /// When the others may be told something again.
    tell_at: Instant,
    beat_at: Instant,
}

/// What is to be done in a turn.
pub(crate) struct Turn {
    pub(crate) told: Vec<(Channel, Numbered)>,
    pub(crate) emitted: Vec<(SerializedSubject<Presence>, Presence)>,
    /// To the observers of all paths.
    pub(crate) emitted_of_all: Vec<Emission>,
    /// When there is something to do again, if nothing happens.
    pub(crate) next: Option<Instant>,
}

impl State {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            own: Own::new(),
            others: Others::default(),
            watched: WatchedPaths::new(now),
            watchers: Watchers::default(),
            link: None,
            askers: BTreeSet::new(),
            tick_at: now,
            is_leaving: false,
            is_over: false,
        }
    }

    /// Makes a change on a path. Returns whether a turn is due for that alone.
    pub(crate) fn change(&mut self, path: &Tag, change: impl FnOnce(&mut Own)) -> bool {
        let had_news = self.own.has_news();
        change(&mut self.own);
        let is_first = self.note(path);
        (self.own.has_news() && self.link.is_some() && !had_news) || is_first
    }

    /// Notes that something may be different on a path. Returns whether a turn is due for that.
    fn note(&mut self, path: &Tag) -> bool {
        // Both.
        self.watched.note(path) | self.watchers.note(path)
    }

    fn note_heard(&mut self, heard: Heard) {
        match heard {
            _ if !self.is_watched() => {}
            Heard::Changes(paths) => paths.into_iter().for_each(|path| _ = self.note(&path.into())),
            Heard::Anything => {
                self.watched.note_all();
                self.watchers.note_all(|| present(&self.own, &self.others));
            }
            Heard::Nothing => {}
        }
    }

    /// Whether anybody wants to hear who is there.
    fn is_watched(&self) -> bool {
        !self.watched.is_empty() || !self.watchers.is_empty()
    }

    /// Notes that a link has begun, and whether it is one on which answers are heard. Returns what the others are told of a node
    /// that ends with this link.
    pub(crate) fn link(&mut self, hears_answers: bool, now: Instant) -> Option<Numbered> {
        if self.is_leaving {
            return self.own.farewell();
        }
        self.own.forget_told();
        self.link = Some(LinkState { asks: hears_answers, known_at: None, tell_at: now, beat_at: now + BEAT_INTERVAL });
        None
    }

    pub(crate) fn unlink(&mut self) {
        self.own.forget_told();
        self.askers.clear();
        self.link = None;
    }

    pub(crate) fn ask_all(&mut self) {
        if let Some(link) = &mut self.link {
            link.asks = true;
        }
    }

    /// Notes that the node is about to end. Returns what the others are told, if there is a link.
    pub(crate) fn farewell(&mut self) -> Option<Numbered> {
        self.is_leaving = true;
        self.link.take().and_then(|_| self.own.farewell())
    }

    /// Ends it. Returns what is to be completed.
    pub(crate) fn end(&mut self) -> (Vec<SerializedSubject<Presence>>, Vec<Emission>) {
        self.is_over = true;
        (self.watched.subjects(), self.watchers.end_all())
    }

    /// The subject of a path. `subject` makes it, if nobody watches the path so far.
    pub(crate) fn watch(
        &mut self,
        path: &Tag,
        now: Instant,
        subject: impl FnOnce() -> SerializedSubject<Presence>,
    ) -> SerializedSubject<Presence> {
        let emit_from = self.emit_from(now);
        self.watched.watch(path, emit_from, subject)
    }

    /// As [`watch`](Self::watch), for all paths; those who ask this server share a subject.
    pub(crate) fn watch_all(
        &mut self,
        server: u64,
        now: Instant,
        subject: impl FnOnce() -> SerializedSubject<TaggedData<Presence>>,
    ) -> SerializedSubject<TaggedData<Presence>> {
        let emit_from = self.emit_from(now);
        self.watchers.watch(server, emit_from, || present(&self.own, &self.others), subject)
    }

    /// When a new observer hears who is there.
    fn emit_from(&self, now: Instant) -> Instant {
        if self.is_known(now) { now } else { now + PATIENCE }
    }

    /// Whether the others have had the time to answer. While nobody watches anything, they are not heard.
    fn is_known(&self, now: Instant) -> bool {
        let known_at = self.link.as_ref().and_then(|link| link.known_at);
        self.is_watched() && known_at.is_some_and(|at| at <= now)
    }

    /// Counts an observer out. Returns what is to be dropped outside the lock.
    pub(crate) fn unwatch(&mut self, path: &Tag) -> Option<SerializedSubject<Presence>> {
        self.watched.unwatch(path)
    }

    pub(crate) fn unwatch_all(&mut self, server: u64) -> Option<SerializedSubject<TaggedData<Presence>>> {
        self.watchers.unwatch(server)
    }

    /// Ends the observers that have asked this server.
    pub(crate) fn end_all(&mut self, server: u64) -> Vec<Emission> {
        let (own, others) = (&self.own, &self.others);
        self.watchers.end(server, |path| presence(rosters(own, others), path))
    }

    pub(crate) fn hear(
        &mut self,
        node: &Arc<str>,
        Stamp { publisher, number }: &Stamp,
        message: Message,
        now: Instant,
    ) {
        if publisher == node {
            return;
        }
        if let Message::Ask { of } = &message
            && of.as_ref().is_none_or(|of| **of == **node)
            && self.askers.len() < MOST_ASKERS
            && subject_name::is_token(publisher)
        {
            self.askers.insert(publisher.clone());
        }
        let heard = self.others.hear(publisher, *number, message, now);
        self.note_heard(heard);
    }

    /// One turn. Nothing is told as long as the broker has not taken what was told before, and never more than it takes at once.
    pub(crate) fn turn(&mut self, now: Instant, may_tell: bool, max_len: usize) -> Turn {
        self.own.max_len = max_len;
        if self.tick_at <= now {
            self.tick_at = now + TICK;
            let heard = self.others.tick();
            self.note_heard(heard);
        }
        let told = if may_tell { self.tell(now) } else { Vec::new() };
        let (own, others) = (&self.own, &self.others);
        let presence = |path: &Tag| presence(rosters(own, others), path);
        let emitted = self.watched.take_due(now, presence);
        let emitted_of_all = self.watchers.take_due(now, presence);
        Turn { told, emitted, emitted_of_all, next: self.next(now, may_tell) }
    }

    fn tell(&mut self, now: Instant) -> Vec<(Channel, Numbered)> {
        let is_watched = self.is_watched();
        let Some(link) = &mut self.link else { return Vec::new() };
        let mut told = Vec::new();
        if link.asks && is_watched {
            link.asks = false;
            link.known_at = Some(now + PATIENCE);
            told.push((Channel::Asks, self.own.numbered(Message::Ask { of: None })));
        }
        for node in self.others.take_asked(now) {
            told.push((Channel::Asks, self.own.numbered(Message::Ask { of: Some(node.to_string()) })));
        }
        if link.tell_at <= now && self.own.has_news() {
            link.tell_at = now + INTERVAL;
            link.beat_at = now + BEAT_INTERVAL;
            told.extend(self.own.tell().into_iter().map(|told| (Channel::All, told)));
        }
        if link.beat_at <= now {
            link.beat_at = now + BEAT_INTERVAL;
            told.extend(self.own.beat().map(|beat| (Channel::All, beat)));
        }
        // One a turn, since each is told everything.
        if let Some(asker) = self.askers.pop_first() {
            let Answer { news, state } = self.own.answer();
            told.extend(news.into_iter().map(|told| (Channel::All, told)));
            told.extend(state.into_iter().map(|state| (Channel::To(asker.clone()), state)));
        }
        told
    }

    /// When the next turn is due.
    fn next(&self, now: Instant, may_tell: bool) -> Option<Instant> {
        let tick = (!self.others.is_empty()).then_some(self.tick_at);
        let emission = self.watched.next().into_iter().chain(self.watchers.next()).min();
        let Some(link) = &self.link else { return [tick, emission].into_iter().flatten().min() };
        if !may_tell {
            // Later, when the broker has taken what was told.
            return [tick, emission, Some(now + INTERVAL)].into_iter().flatten().min();
        }
        let news = self.own.has_news().then_some(link.tell_at);
        let answer = (!self.askers.is_empty()).then_some(now);
        [tick, emission, news, answer, Some(link.beat_at), self.others.ask_at()].into_iter().flatten().min()
    }
}

fn rosters<'a>(own: &'a Own, others: &'a Others) -> impl Iterator<Item = &'a Roster> {
    [&own.roster].into_iter().chain(others.rosters())
}

/// The paths on which somebody is.
fn present(own: &Own, others: &Others) -> Vec<Tag> {
    rosters(own, others).flat_map(Roster::tags).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::roster::Place;

    fn join(state: &mut State, id: u64) {
        let place = Place { path: "/a".into(), server: "x".into() };
        state.change(&"/a".into(), |own| own.join(&place, id, None));
    }

    fn told(state: &mut State, now: Instant) -> Vec<Message> {
        state.turn(now, true, usize::MAX).told.into_iter().map(|(_, numbered)| numbered.message).collect()
    }

    /// Or the node would be there anew, until it has been silent for 15 s.
    #[tokio::test]
    async fn nothing_is_told_after_the_farewell_but_that_again() {
        let now = Instant::now();
        let mut state = State::new(now);
        assert_eq!(state.link(false, now), None);
        join(&mut state, 1);
        assert!(matches!(told(&mut state, now)[..], [Message::State { .. }]));
        let gone = |farewell: Option<Numbered>| farewell.map(|numbered| numbered.message) == Some(Message::Gone);
        assert!(gone(state.farewell()));
        join(&mut state, 2);
        let asked = Stamp { publisher: "other".into(), number: 1 };
        state.hear(&"me".into(), &asked, Message::Ask { of: None }, now);
        assert_eq!(told(&mut state, now + 2 * BEAT_INTERVAL), []);
        state.unlink();
        assert!(gone(state.link(false, now)), "the last link may have broken before it was heard");
        assert_eq!(told(&mut state, now + 2 * BEAT_INTERVAL), []);
    }

    /// No turn was due for what was left of the first path, and none would have come for the second.
    #[tokio::test]
    async fn change_makes_a_turn_due_after_the_observer_of_another_path_has_left() {
        let now = Instant::now();
        let mut state = State::new(now);
        let _subjects = ["/b", "/a"].map(|path| state.watch(&path.into(), now, SerializedSubject::new));
        state.turn(now + PATIENCE, true, usize::MAX);
        // Within the interval since the last emission.
        state.watch(&"/c".into(), now + PATIENCE, SerializedSubject::new);
        drop(state.unwatch(&"/c".into()));
        assert_eq!(state.turn(now + PATIENCE, true, usize::MAX).next, None);
        let place = Place { path: "/a".into(), server: "x".into() };
        assert!(state.change(&"/a".into(), |own| own.join(&place, 1, None)));
    }

    #[tokio::test]
    async fn node_that_has_told_nothing_has_no_farewell() {
        let mut state = State::new(Instant::now());
        assert_eq!(state.farewell(), None);
        assert_eq!(state.link(false, Instant::now()), None);
    }
}
