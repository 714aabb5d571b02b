//! The numbers of messages: each publisher counts the messages of each path from 1, so that a receiver drops doubles and knows
//! how many it has missed. No I/O, no clock.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    mem,
    sync::Arc,
};

use crate::Tag;

/// How many paths a publisher remembers, and how many pairs of a publisher and a path a receiver.
const REMEMBERED: usize = 65_536;

/// How often the last number of a path is repeated while no message follows: with the next beat, and then after twice as many
/// beats each time, since a receiver that was away has not heard of it. The last time is about 20 minutes after the message.
const REPETITIONS: usize = 8;

/// The paths of a publisher, with the number of the last message of each.
pub(crate) struct Publishing {
    /// The publisher's name: random, and the same for as long as the bus lives.
    id: Arc<str>,
    paths: Recent<Tag, Line>,
    /// The paths whose last number is to be repeated, by how often it was. The turn of each list comes every 1, 2, 4, .. beats.
    due: [VecDeque<Tag>; REPETITIONS],
    beats: u64,
}

/// A path, as its publisher counts it.
struct Line {
    publisher: Arc<str>,
    last: u64,
    /// The list that it is in. In others it may be as well, where it does not count.
    due: Option<usize>,
}

/// The number of a message, and the name under which its publisher counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) publisher: Arc<str>,
    pub(crate) number: u64,
}

impl Stamp {
    /// Whether the publisher with this name counts so, in one of its runs.
    pub(crate) fn is_of(&self, id: &str) -> bool {
        self.publisher.strip_prefix(id).is_some_and(|run| run.is_empty() || run.starts_with('-'))
    }
}

impl Publishing {
    pub(crate) fn new(id: &str) -> Self {
        Self::remembering(REMEMBERED, id)
    }

    fn remembering(most: usize, id: &str) -> Self {
        Self { id: id.into(), paths: Recent::of(most), due: Default::default(), beats: 0 }
    }

    /// Numbers the next message of a path.
    pub(crate) fn next(&mut self, path: &Tag) -> Stamp {
        if self.paths.get(path).is_none() {
            let line = Line { publisher: self.run(), last: 0, due: None };
            self.paths.insert(path.clone(), line);
        }
        let most = 2 * self.paths.half;
        let line = self.paths.get(path).expect("the path is there now");
        line.last += 1;
        let stamp = Stamp { publisher: line.publisher.clone(), number: line.last };
        if line.due != Some(0) {
            line.due = enlist(&mut self.due, 0, path, most);
        }
        stamp
    }

    /// The name for a path that is new or was forgotten: in its old run, the numbers of a forgotten one would be doubles.
    fn run(&self) -> Arc<str> {
        match self.paths.turns {
            0 => self.id.clone(),
            turns => format!("{}-{}", self.id, turns + 1).into(),
        }
    }

    /// Takes up to `most` of the paths whose last number is to be repeated now, with the stamp that has it.
    pub(crate) fn beat(&mut self, most: usize) -> Vec<(Tag, Stamp)> {
        self.beats += 1;
        let mut taken = Vec::new();
        for (list, paths) in self.due.iter_mut().enumerate().filter(|(list, _)| self.beats.is_multiple_of(1 << list)) {
            let count = paths.len().min(most - taken.len());
            taken.extend(paths.drain(..count).map(|path| (list, path)));
        }
        taken.into_iter().filter_map(|(list, path)| self.repeat(list, path)).collect()
    }

    /// The stamp of a path that was in a list. `None` if it was forgotten meanwhile, or is in another.
    fn repeat(&mut self, list: usize, path: Tag) -> Option<(Tag, Stamp)> {
        let most = 2 * self.paths.half;
        let line = self.paths.get(&path).filter(|line| line.due == Some(list))?;
        line.due = enlist(&mut self.due, list + 1, &path, most);
        let stamp = Stamp { publisher: line.publisher.clone(), number: line.last };
        Some((path, stamp))
    }
}

/// Puts a path into a list, if there is such a list with room. Paths that come and go while there is no broker must not pile up.
fn enlist(lists: &mut [VecDeque<Tag>], list: usize, path: &Tag, most: usize) -> Option<usize> {
    lists.get_mut(list).filter(|paths| paths.len() < most)?.push_back(path.clone());
    Some(list)
}

/// The numbers that a receiver has heard, for each of its interests.
pub(crate) struct Receiving {
    last: Recent<(u64, Arc<str>, Tag), u64>,
}

/// The meaning of a number for a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// The next one, or the first of its publisher on this path.
    Next,
    /// It was heard before.
    Double,
    /// So many were missed before it.
    Gap(u64),
}

impl Default for Receiving {
    fn default() -> Self {
        Self { last: Recent::of(REMEMBERED) }
    }
}

impl Receiving {
    /// Notes that a message was heard, by way of the interest with this number.
    pub(crate) fn hear(&mut self, interest: u64, stamp: &Stamp, path: &Tag) -> Hearing {
        match self.advance(interest, stamp, path) {
            None | Some(1) => Hearing::Next,
            Some(0) => Hearing::Double,
            Some(ahead) => Hearing::Gap(ahead - 1),
        }
    }

    /// Notes that no message with a higher number was published so far. Returns how many of those up to it were missed.
    pub(crate) fn beat(&mut self, interest: u64, stamp: &Stamp, path: &Tag) -> u64 {
        self.advance(interest, stamp, path).unwrap_or(0)
    }

    /// How far a number is ahead of the last one; `None` for the first that is heard, which tells where to begin.
    fn advance(&mut self, interest: u64, stamp: &Stamp, path: &Tag) -> Option<u64> {
        let key = (interest, stamp.publisher.clone(), path.clone());
        let Some(last) = self.last.get(&key) else {
            self.last.insert(key, stamp.number);
            return None;
        };
        let ahead = stamp.number.saturating_sub(*last);
        *last += ahead;
        Some(ahead)
    }
}

/// A map with a bound. What was not asked for while `half` other entries were goes first.
struct Recent<K, V> {
    new: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
    /// How often the old half was forgotten.
    turns: u64,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    fn of(most: usize) -> Self {
        Self { new: HashMap::new(), old: HashMap::new(), half: most / 2, turns: 0 }
    }

    fn get(&mut self, key: &K) -> Option<&mut V> {
        if !self.new.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.new.get_mut(key)
    }

    /// Adds an entry that is not there.
    fn insert(&mut self, key: K, value: V) {
        if self.new.len() >= self.half {
            self.old = mem::take(&mut self.new);
            self.turns += 1;
        }
        self.new.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn tag(n: usize) -> Tag {
        format!("/{n}").into()
    }

    fn stamp(number: u64) -> Stamp {
        Stamp { publisher: "a".into(), number }
    }

    #[test]
    fn first_number_heard_is_no_gap_and_the_second_shows_one() {
        let (mut receiving, path) = (Receiving::default(), tag(0));
        let heard = [7, 8, 8, 3, 12, 13].map(|number| receiving.hear(1, &stamp(number), &path));
        use Hearing::{Double, Gap, Next};
        assert_eq!(heard, [Next, Next, Double, Double, Gap(3), Next]);
        assert_eq!(receiving.hear(2, &stamp(3), &path), Next, "another interest begins anew");
    }

    #[test]
    fn beat_shows_what_was_missed_at_the_end_once() {
        let (mut receiving, path) = (Receiving::default(), tag(0));
        assert_eq!(receiving.beat(1, &stamp(5), &path), 0);
        assert_eq!([6, 6, 9, 2].map(|number| receiving.beat(1, &stamp(number), &path)), [1, 0, 3, 0]);
        assert_eq!(receiving.hear(1, &stamp(9), &path), Hearing::Double);
    }

    #[test]
    fn path_that_comes_back_after_being_forgotten_begins_a_new_run() {
        let mut publishing = Publishing::remembering(4, "a");
        let first = publishing.next(&tag(0));
        (1..5).for_each(|n| _ = publishing.next(&tag(n)));
        let again = publishing.next(&tag(0));
        assert_eq!((&*first.publisher, first.number, again.number), ("a", 1, 1));
        assert_ne!(first.publisher, again.publisher);
        assert!([first, again].iter().all(|stamp| stamp.is_of("a") && !stamp.is_of("") && !stamp.is_of("a-")));
        assert!(!Stamp { publisher: "ab".into(), number: 1 }.is_of("a"));
    }

    fn numbers(beat: Vec<(Tag, Stamp)>) -> BTreeMap<Tag, u64> {
        beat.into_iter().map(|(path, stamp)| (path, stamp.number)).collect()
    }

    #[test]
    fn beat_has_the_last_number_of_each_path_that_has_moved_and_the_oldest_first() {
        let mut publishing = Publishing::new("a");
        for path in [0, 1, 0] {
            publishing.next(&tag(path));
        }
        assert_eq!(numbers(publishing.beat(1)), BTreeMap::from([(tag(0), 2)]));
        publishing.next(&tag(0));
        assert_eq!(numbers(publishing.beat(1)), BTreeMap::from([(tag(1), 1)]));
        assert_eq!(numbers(publishing.beat(9)), BTreeMap::from([(tag(0), 3)]));
    }

    #[test]
    fn last_number_is_repeated_more_and_more_rarely_until_the_path_moves_again() {
        let mut publishing = Publishing::new("a");
        publishing.next(&tag(0));
        let mut beats = |count: u64| {
            let beats = (1..=count).map(|beat| (beat, publishing.beat(9)));
            let heard: Vec<_> = beats.filter(|(_, paths)| !paths.is_empty()).map(|(beat, _)| beat).collect();
            publishing.next(&tag(0));
            heard
        };
        assert_eq!(beats(1_024), [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(beats(7), [1, 2, 4]);
        let later = beats(1_024);
        assert!(later.len() == 8 && later.windows(2).all(|pair| pair[1] <= 3 * pair[0]), "{later:?}");
    }

    #[test]
    fn paths_that_wait_for_a_beat_are_bounded() {
        let mut publishing = Publishing::remembering(8, "a");
        for beat in 0..1_000 {
            (0..20).for_each(|n| _ = publishing.next(&tag(beat + n)));
            publishing.beat(3);
            assert!(publishing.due.iter().all(|paths| paths.len() <= 8));
        }
    }

    proptest! {
        /// Whatever is lost or doubled on the way: what is heard and what is announced are all that was sent.
        #[test]
        fn heard_and_announced_are_exactly_those_sent(
            sent in prop::collection::vec((0usize..3, 0u8..4, 0u8..3), 1..200),
        ) {
            let (mut publishing, mut receiving) = (Publishing::new("a"), Receiving::default());
            let (mut heard, mut missed) = (BTreeMap::<usize, Vec<u64>>::new(), [0; 3]);
            let mut hear = |path: usize, stamp: &Stamp, missed: &mut [u64; 3]| {
                match receiving.hear(0, stamp, &tag(path)) {
                    Hearing::Double => return,
                    Hearing::Gap(gap) => missed[path] += gap,
                    Hearing::Next => {}
                }
                heard.entry(path).or_default().push(stamp.number);
            };
            // Each path begins with a message that arrives: before that, nobody knows.
            (0..3).for_each(|path| hear(path, &publishing.next(&tag(path)), &mut missed));
            let mut totals = [1; 3];
            for (path, lost, again) in sent {
                let stamp = publishing.next(&tag(path));
                totals[path] += 1;
                if lost > 0 {
                    (0..=again).for_each(|_| hear(path, &stamp, &mut missed));
                }
            }
            for (path, stamp) in publishing.beat(9) {
                let at = path[1..].parse::<usize>().unwrap();
                missed[at] += receiving.beat(0, &stamp, &path);
            }
            for path in 0..3 {
                prop_assert!(heard[&path].is_sorted());
                prop_assert_eq!(heard[&path].len() as u64 + missed[path], totals[path]);
            }
        }

        #[test]
        fn no_more_is_remembered_than_the_bound_and_nothing_that_was_just_heard_goes(
            paths in prop::collection::vec(0usize..20, 1..300),
        ) {
            let mut recent = Recent::of(8);
            for (at, path) in paths.iter().enumerate() {
                if recent.get(path).is_none() {
                    recent.insert(*path, ());
                }
                prop_assert!(recent.new.len() + recent.old.len() <= 8);
                let mut latest: Vec<_> = paths[..=at].iter().rev().collect();
                latest.dedup();
                latest.truncate(4);
                prop_assert!(latest.into_iter().all(|path| recent.new.contains_key(path) || recent.old.contains_key(path)));
            }
        }
    }
}
