//! [`Watchers`]: who wants to hear who is there on all tags, and what they have heard. No I/O, no clock of its own.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Presence, SerializedSubject, Tag, TaggedData, sparse,
    subject::{Backlog, replay::Keyed},
};

/// How often observers hear who is there.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);

/// How many tags an observer hears of at once: between two looks at its sockets, a thread makes a few hundred deliveries.
const BATCH: usize = 256;

/// How many members they have together, about: each is looked at, and copied.
const BATCH_MEMBERS: usize = 4_096;

/// The observers of all tags, by the number of the server that they have asked.
#[derive(Default)]
pub(crate) struct Watchers(HashMap<u64, AllWatched>);

/// Observers that share a subject.
struct AllWatched {
    subject: SerializedSubject<TaggedData<Presence>>,
    /// What was emitted last of each tag where somebody is.
    last: HashMap<Tag, Presence>,
    /// The tags on which something may be different from that.
    stale: HashSet<Tag>,
    /// Nothing is emitted before.
    emit_at: Instant,
    observers: usize,
}

/// What is to be emitted, once no lock is held.
#[must_use]
pub(crate) enum Emission {
    Next(SerializedSubject<TaggedData<Presence>>, TaggedData<Presence>),
    End(SerializedSubject<TaggedData<Presence>>),
}

impl Emission {
    pub(crate) fn emit(self) {
        match self {
            Self::Next(subject, presence) => subject.next(presence),
            Self::End(subject) => subject.complete(),
        }
    }

    /// Emits all. Returns what the observers that end have still to hear.
    pub(crate) fn emit_all(all: Vec<Self>) -> Vec<Arc<dyn Backlog>> {
        let ended = all.iter().filter_map(|emission| match emission {
            Self::Next(..) => None,
            Self::End(subject) => Some(subject.backlog()),
        });
        let ended = ended.collect();
        all.into_iter().for_each(Self::emit);
        ended
    }
}

impl Watchers {
    /// Notes that something may be different on a tag. Returns whether that is the first such news since the last emission, for
    /// which a turn is due.
    pub(crate) fn note(&mut self, tag: &Tag) -> bool {
        let mut is_first = false;
        for all in self.0.values_mut() {
            is_first |= all.stale.is_empty();
            all.stale.insert(tag.clone());
        }
        is_first
    }

    /// Counts an observer in. `subject` makes what those observe who ask this server, if nobody has; nothing is emitted to that
    /// before `emit_from`. `present` are the tags where somebody is.
    pub(crate) fn watch(
        &mut self,
        server: u64,
        emit_from: Instant,
        present: impl FnOnce() -> Vec<Tag>,
        subject: impl FnOnce() -> SerializedSubject<TaggedData<Presence>>,
    ) -> SerializedSubject<TaggedData<Presence>> {
        let all = self.0.entry(server).or_insert_with(|| {
            let stale = present().into_iter().collect();
            AllWatched { subject: subject(), last: HashMap::new(), stale, emit_at: emit_from, observers: 0 }
        });
        all.observers += 1;
        all.subject.clone()
    }

    /// Counts an observer out. Returns what is to be dropped outside the lock.
    pub(crate) fn unwatch(&mut self, server: u64) -> Option<SerializedSubject<TaggedData<Presence>>> {
        let all = self.0.get_mut(&server)?;
        all.observers -= 1;
        if all.observers > 0 {
            return None;
        }
        self.0.remove(&server).map(|all| all.subject)
    }

    /// What is due.
    pub(crate) fn take_due(&mut self, now: Instant, presence: impl Fn(&Tag) -> Presence) -> Vec<Emission> {
        let mut due = Vec::new();
        for all in self.0.values_mut().filter(|all| all.emit_at <= now) {
            all.take_stale(now, &presence, &mut due);
        }
        due
    }

    /// When there is something to emit.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().filter(|all| !all.stale.is_empty()).map(|all| all.emit_at).min()
    }

    /// The last that those hear who have asked this server. They leave with that.
    pub(crate) fn end(&mut self, server: u64, presence: impl Fn(&Tag) -> Presence) -> Vec<Emission> {
        let mut due = Vec::new();
        if let Some(mut all) = self.0.remove(&server) {
            mem::take(&mut all.stale).into_iter().for_each(|tag| _ = all.take(tag, &presence, &mut due));
            due.push(Emission::End(all.subject));
        }
        due
    }
}

/// Of a bus, which several servers share.
#[cfg(feature = "nats")]
impl Watchers {
    /// Whether nobody wants to hear anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes that something may be different anywhere. `present` are the tags where somebody is.
    pub(crate) fn note_all(&mut self, present: impl Fn() -> Vec<Tag>) {
        for all in self.0.values_mut() {
            all.stale.extend(all.last.keys().cloned());
            all.stale.extend(present());
        }
    }

    /// The end of all, who hear nothing before it.
    pub(crate) fn end_all(&self) -> Vec<Emission> {
        self.0.values().map(|all| Emission::End(all.subject.clone())).collect()
    }
}

impl AllWatched {
    fn take_stale(&mut self, now: Instant, presence: impl Fn(&Tag) -> Presence, due: &mut Vec<Emission>) {
        // Observers that have not taken what was emitted before hear the latest state later: nothing piles up.
        if self.subject.is_idle() {
            let batch: Vec<_> = self.stale.iter().take(BATCH).cloned().collect();
            let mut members = 0;
            for tag in batch {
                if members >= BATCH_MEMBERS {
                    break;
                }
                self.stale.remove(&tag);
                members += self.take(tag, &presence, due);
            }
            if !self.stale.is_empty() {
                return;
            }
            self.stale.shrink_to(BATCH);
        } else if self.stale.len() > 2 * self.last.len() + BATCH {
            // Most of these tags have come and gone meanwhile.
            self.stale.retain(|tag| self.last.contains_key(tag) || presence(tag).connections > 0);
        }
        self.emit_at = now + INTERVAL;
    }

    /// Takes what is to be told of a tag, if anything is. Returns how many members it has.
    fn take(&mut self, tag: Tag, presence: impl Fn(&Tag) -> Presence, due: &mut Vec<Emission>) -> usize {
        let presence = presence(&tag);
        let members = presence.members.len();
        let is_empty = presence.connections == 0;
        let before = if is_empty {
            sparse::remove(&mut self.last, &tag)
        } else {
            self.last.insert(tag.clone(), presence.clone())
        };
        if before.unwrap_or_default() != presence {
            due.push(Emission::Next(self.subject.clone(), TaggedData::new(tag, presence)));
        }
        members
    }
}

/// What a later observer of all tags hears first: the presence on each where somebody is.
#[derive(Default)]
pub(crate) struct Present(HashMap<Tag, TaggedData<Presence>>);

impl Keyed<TaggedData<Presence>> for Present {
    fn note(&mut self, item: &TaggedData<Presence>) -> Option<TaggedData<Presence>> {
        match item.data.connections {
            0 => sparse::remove(&mut self.0, &item.tag),
            _ => self.0.insert(item.tag.clone(), item.clone()),
        }
    }

    fn all(&self) -> Vec<TaggedData<Presence>> {
        self.0.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::presence::roster::{Place, Roster, presence};

    /// A roster with an observer of all tags.
    struct Hall {
        roster: RefCell<Roster>,
        watchers: Watchers,
        now: Instant,
    }

    impl Hall {
        fn open() -> Self {
            let now = Instant::now();
            let mut watchers = Watchers::default();
            drop(watchers.watch(0, now, Vec::new, SerializedSubject::new));
            Self { roster: RefCell::default(), watchers, now }
        }

        /// Returns whether a turn is due for it.
        fn join(&mut self, tag: &str, id: u64) -> bool {
            let place = Place { path: tag.into(), server: "x".into() };
            self.roster.get_mut().join(&place, id, None);
            self.watchers.note(&tag.into())
        }

        fn leave(&mut self, tag: &str, id: u64) {
            let place = Place { path: tag.into(), server: "x".into() };
            self.roster.get_mut().leave(&place, id);
            self.watchers.note(&tag.into());
        }

        /// The tags and counts of a turn.
        fn turn(&mut self) -> Vec<(Tag, u64)> {
            let roster = self.roster.borrow();
            let due = self.watchers.take_due(self.now, |tag| presence([&*roster].into_iter(), tag));
            let among = due.into_iter().map(|emission| match emission {
                Emission::Next(_, td) => (td.tag, td.data.connections),
                Emission::End(_) => panic!("nothing ends"),
            });
            among.collect()
        }
    }

    #[test]
    fn ten_thousand_joins_of_one_tag_are_one_change_and_one_turn() {
        let mut hall = Hall::open();
        assert!(hall.join("/a", 0));
        assert!((1..10_000).all(|id| !hall.join("/a", id)));
        assert_eq!(hall.turn(), [("/a".into(), 10_000)]);
        assert_eq!((hall.turn(), hall.watchers.next()), (vec![], None));
        // Soon after that, not at once.
        assert!(hall.join("/a", 10_000));
        assert_eq!((hall.turn(), hall.watchers.next()), (vec![], Some(hall.now + INTERVAL)));
        hall.now += INTERVAL;
        assert_eq!(hall.turn(), [("/a".into(), 10_001)]);
    }

    #[test]
    fn many_tags_are_told_in_batches_each_once() {
        let mut hall = Hall::open();
        (0..10_000).for_each(|n| _ = hall.join(&format!("/{n}"), n));
        let mut told = HashSet::new();
        for _ in 0..10_000_usize.div_ceil(BATCH) {
            assert!(hall.watchers.next().is_some_and(|at| at <= hall.now));
            let turn = hall.turn();
            assert!(turn.len() <= BATCH);
            told.extend(turn);
        }
        assert_eq!((told.len(), hall.watchers.next()), (10_000, None));
    }

    #[test]
    fn batch_ends_with_many_members_however_few_the_tags() {
        const MEMBERS: u64 = 1_000;
        let mut hall = Hall::open();
        for tag in (0..20).map(|n| Tag::from(format!("/{n}"))) {
            let place = Place { path: tag.clone(), server: "x".into() };
            (0..MEMBERS).for_each(|id| hall.roster.get_mut().join(&place, id, Some("Ali".into())));
            hall.watchers.note(&tag);
        }
        let most = BATCH_MEMBERS.div_ceil(MEMBERS as usize);
        let turns: Vec<_> = (0..20_usize.div_ceil(most)).map(|_| hall.turn().len()).collect();
        assert!(turns.iter().all(|tags| *tags <= most), "{turns:?}");
        assert_eq!((turns.iter().sum::<usize>(), hall.watchers.next()), (20, None));
    }

    #[test]
    fn who_has_come_and_gone_between_two_turns_is_no_news() {
        let mut hall = Hall::open();
        hall.join("/a", 1);
        hall.leave("/a", 1);
        assert_eq!(hall.turn(), []);
        hall.now += INTERVAL;
        hall.join("/a", 2);
        assert_eq!(hall.turn(), [("/a".into(), 1)]);
        hall.now += INTERVAL;
        hall.leave("/a", 2);
        hall.join("/a", 3);
        assert_eq!(hall.turn(), [], "without a name they are alike");
        hall.now += INTERVAL;
        hall.leave("/a", 3);
        assert_eq!(hall.turn(), [("/a".into(), 0)]);
        let all = hall.watchers.0.values().next().unwrap();
        assert!(all.last.is_empty() && all.stale.is_empty());
    }

    /// An observer that blocks hears later what is so then, and tags that came and went meanwhile are forgotten.
    #[test]
    fn nothing_piles_up_for_an_observer_that_is_behind() {
        let mut hall = Hall::open();
        let subject = hall.watchers.0[&0].subject.clone();
        subject.enqueue(TaggedData::new("/waits", Presence::default()));
        for n in 0..10_000 {
            hall.join(&format!("/{n}"), n);
            hall.leave(&format!("/{n}"), n);
            hall.now += INTERVAL;
            assert_eq!(hall.turn(), []);
        }
        hall.join("/a", 1);
        assert!(hall.watchers.0[&0].stale.len() <= BATCH + 2);
        subject.wake_home();
        subject.next(TaggedData::new("/goes", Presence::default()));
        hall.now += INTERVAL;
        assert_eq!(hall.turn(), [("/a".into(), 1)]);
    }

    #[test]
    fn last_observer_leaves_nothing_behind() {
        let mut hall = Hall::open();
        let other = hall.watchers.watch(0, hall.now, Vec::new, || unreachable!("there is one"));
        hall.join("/a", 1);
        assert!(hall.watchers.unwatch(0).is_none());
        assert!(hall.watchers.unwatch(0).is_some() && hall.watchers.unwatch(0).is_none());
        drop(other);
        assert!(hall.watchers.0.is_empty() && hall.watchers.next().is_none());
        assert!(!hall.join("/a", 2));
    }
}
