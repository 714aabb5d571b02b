//! [`Places`]: the position of each message in a queue that keeps what it has written, and whether it was written.

use std::ops::Range;

/// The messages of a queue, by their indices in it. Positions grow by one for each message; what was dropped leaves a hole.
///
/// A push changes nothing here, so it does not touch this memory. Where the end of the queue matters, the caller says how
/// long the queue is.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Places {
    /// The position of the first message.
    first: u64,
    /// How many messages at the front were written at least once.
    front: u32,
    /// Further messages that were written: behind the greetings of a new session, if what is in doubt is sent again.
    apart: Range<u32>,
    /// None as a rule.
    holes: Vec<Hole>,
}

/// Positions that no message has, in front of a message or of the end. In the order of the queue, one for each index, and
/// none at 0.
#[derive(Clone, Copy, Debug)]
struct Hole {
    at: u32,
    size: u64,
}

impl Places {
    /// The positions of a queue of `written` messages that were written, behind `fresh` that were not, counted from 0. Those
    /// behind them were not either.
    pub(crate) fn anew(fresh: usize, written: usize) -> Self {
        let apart = fresh as u32..(fresh + written) as u32;
        let mut places = Self { apart, ..Self::default() };
        places.join();
        places
    }

    /// The position of a message, or the position behind the last.
    pub(crate) fn at(&self, index: usize) -> u64 {
        let before = self.holes.iter().take_while(|hole| hole.at as usize <= index);
        self.first + index as u64 + before.map(|hole| hole.size).sum::<u64>()
    }

    /// How many of the first `len` messages lie before a position.
    pub(crate) fn count_before(&self, position: u64, len: usize) -> usize {
        let (mut begin, mut first) = (0, self.first);
        for hole in &self.holes {
            let end = hole.at as usize;
            let behind = first + (end - begin) as u64;
            if position <= behind {
                break;
            }
            (begin, first) = (end, behind + hole.size);
        }
        (begin + position.saturating_sub(first) as usize).min(len)
    }

    /// How many messages at the front were written.
    pub(crate) fn written_in_front(&self) -> usize {
        self.front as usize
    }

    /// How many messages were written.
    pub(crate) fn written(&self) -> usize {
        self.front as usize + self.apart.len()
    }

    /// The index behind the last message that was written.
    pub(crate) fn written_end(&self) -> usize {
        if self.apart.is_empty() { self.front as usize } else { self.apart.end as usize }
    }

    /// Whether the message at `index` was written.
    pub(crate) fn is_written(&self, index: usize) -> bool {
        index < self.front as usize || self.apart.contains(&(index as u32))
    }

    /// Notes that `count` messages from `index` on are written: those before them are.
    pub(crate) fn mark_written(&mut self, index: usize, count: usize) {
        debug_assert!(index <= self.front as usize, "a link writes from the front on");
        self.front = self.front.max((index + count) as u32);
        self.join();
    }

    /// Joins what was written at the front and apart, if that has become one.
    fn join(&mut self) {
        if self.apart.start <= self.front {
            self.front = self.front.max(self.apart.end);
            self.apart = 0..0;
        }
    }

    /// Takes the first `count` messages out.
    pub(crate) fn pop_front(&mut self, count: usize) {
        let gone = count as u32;
        self.first += u64::from(gone);
        let passed = self.holes.partition_point(|hole| hole.at <= gone);
        self.first += self.holes.drain(..passed).map(|hole| hole.size).sum::<u64>();
        self.holes.iter_mut().for_each(|hole| hole.at -= gone);
        if self.holes.is_empty() {
            self.holes = Vec::new();
        }
        self.front = self.front.saturating_sub(gone);
        self.apart = self.apart.start.saturating_sub(gone)..self.apart.end.saturating_sub(gone);
        self.join();
    }

    /// Takes the message at `index` out, which leaves a hole.
    pub(crate) fn remove(&mut self, index: usize) {
        if index == 0 {
            return self.pop_front(1);
        }
        let at = index as u32;
        let closer = |place: u32| place - u32::from(place > at);
        self.holes.iter_mut().for_each(|hole| hole.at = closer(hole.at));
        self.add_hole(at, 1);
        self.front = closer(self.front);
        self.apart = closer(self.apart.start)..closer(self.apart.end);
        self.join();
    }

    /// Gives the place of the message at `index` to a newer one, which leaves a hole before that.
    pub(crate) fn replace(&mut self, index: usize) {
        match index {
            0 => self.first += 1,
            _ => self.add_hole(index as u32, 1),
        }
    }

    fn add_hole(&mut self, at: u32, size: u64) {
        let place = self.holes.partition_point(|hole| hole.at < at);
        self.holes.insert(place, Hole { at, size });
        // Messages between holes may have gone.
        self.holes.dedup_by(|next, hole| {
            let is_one = next.at == hole.at;
            hole.size += if is_one { next.size } else { 0 };
            is_one
        });
    }

    /// Takes out all of `len` messages but the first `kept`, which leaves a hole at the end.
    pub(crate) fn truncate(&mut self, len: usize, kept: usize) {
        let (end, at) = (self.at(len), kept as u32);
        self.holes.retain(|hole| hole.at < at);
        let size = end - self.at(kept);
        match kept {
            0 => self.first = end,
            _ if size > 0 => self.add_hole(at, size),
            _ => {}
        }
        self.front = self.front.min(at);
        self.apart = self.apart.start.min(at)..self.apart.end.min(at);
        self.join();
    }

    /// Gives the position of the newest message to the next: it was refused, and has [left](Self::remove) the queue, which
    /// is `len` long now.
    pub(crate) fn take_back_end(&mut self, len: usize) {
        match self.holes.pop() {
            Some(Hole { at, size }) if size > 1 => self.add_hole(at, size - 1),
            Some(_) => {}
            None => self.first -= 1,
        }
        debug_assert!(self.holes.last().is_none_or(|hole| hole.at as usize <= len));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Pop(usize),
        /// Of a message that was not written.
        Remove(usize),
        Replace(usize),
        Truncate(usize),
        /// From so far before the first that was not written.
        Mark(usize, usize),
        /// A newest message that is refused.
        Refuse,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            2 => (0..4usize).prop_map(Step::Pop),
            2 => (0..12usize).prop_map(Step::Remove),
            2 => (0..12usize).prop_map(Step::Replace),
            1 => (0..12usize).prop_map(Step::Truncate),
            3 => (0..3usize, 0..4usize).prop_map(|(before, count)| Step::Mark(before, count)),
            1 => Just(Step::Refuse),
        ]
    }

    /// The same as a plain list.
    struct Plain {
        places: Vec<(u64, bool)>,
        end: u64,
    }

    impl Plain {
        fn anew(fresh: usize, written: usize, waiting: usize) -> Self {
            let end = fresh + written + waiting;
            let places = (0..end).map(|index| (index as u64, (fresh..fresh + written).contains(&index)));
            Self { places: places.collect(), end: end as u64 }
        }

        fn written_in_front(&self) -> usize {
            self.places.iter().take_while(|place| place.1).count()
        }

        /// Makes a step in both.
        fn step(&mut self, step: &Step, places: &mut Places) {
            let len = self.places.len();
            match *step {
                Step::Push => {
                    self.places.push((self.end, false));
                    self.end += 1;
                }
                Step::Pop(count) => {
                    self.places.drain(..count.min(len));
                    places.pop_front(count.min(len));
                }
                Step::Remove(index) if index < len && !self.places[index].1 => {
                    self.places.remove(index);
                    places.remove(index);
                }
                Step::Replace(index) if index < len && !self.places[index].1 => {
                    self.places[index..].iter_mut().for_each(|place| place.0 += 1);
                    self.end += 1;
                    places.replace(index);
                }
                Step::Remove(_) | Step::Replace(_) => {}
                Step::Truncate(kept) => {
                    self.places.truncate(kept);
                    places.truncate(len, kept.min(len));
                }
                Step::Mark(before, count) => {
                    let index = self.written_in_front().saturating_sub(before);
                    let count = count.min(len - index);
                    self.places.iter_mut().skip(index).take(count).for_each(|place| place.1 = true);
                    places.mark_written(index, count);
                }
                Step::Refuse => {
                    places.remove(len);
                    places.take_back_end(len);
                }
            }
        }

        fn check(&self, places: &Places) {
            let Self { places: plain, end } = self;
            assert_eq!(places.at(plain.len()), *end);
            for index in 0..=plain.len() {
                let (position, is_written) = plain.get(index).copied().unwrap_or((*end, false));
                assert_eq!((places.at(index), places.is_written(index)), (position, is_written), "{index}: {places:?}");
                assert_eq!(places.count_before(position, plain.len()), index);
                assert_eq!(places.count_before(position, index / 2), index / 2);
            }
            assert_eq!(places.written(), plain.iter().filter(|place| place.1).count());
            assert_eq!(places.written_in_front(), self.written_in_front());
            let waiting = plain.iter().rev().take_while(|place| !place.1).count();
            assert_eq!(places.written_end(), plain.len() - waiting);
            assert!(places.holes.is_sorted_by(|a, b| 0 < a.at && a.at < b.at), "{places:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn positions_are_those_of_a_plain_list(
            (fresh, written, waiting) in (0..4usize, 0..4usize, 0..4usize),
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let (mut places, mut plain) = (Places::anew(fresh, written), Plain::anew(fresh, written, waiting));
            plain.check(&places);
            for step in steps {
                plain.step(&step, &mut places);
                plain.check(&places);
            }
        }
    }

    #[test]
    fn holes_take_no_memory_once_they_are_passed() {
        let mut places = Places::anew(0, 0);
        places.remove(2);
        assert_eq!((places.at(1), places.at(2)), (1, 3));
        places.pop_front(2);
        assert_eq!((places.at(0), places.holes.capacity() == 0), (3, true));
    }
}
