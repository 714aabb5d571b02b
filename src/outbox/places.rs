//! [`Places`]: the position of each message in a queue that keeps what it has written, and whether it was written.

use std::ops::Range;

/// The messages of a queue, by their indices in it. Positions grow by one for each message; what was dropped leaves a hole.
///
/// A push changes nothing here, so it does not touch this memory. Where the end of the queue matters, the caller says how
/// long the queue is.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Places {
    /// How many messages have left at the front.
    popped: u64,
    /// The sizes of all holes that the front has passed.
    passed: u64,
    /// How many messages at the front were written at least once.
    front: u32,
    /// Further messages that were written: behind the greetings of a new session, if what is in doubt is sent again.
    apart: Range<u32>,
    /// The positions before this one are those of the greetings.
    greetings: u32,
    /// None as a rule.
    holes: Vec<Hole>,
}

/// Positions that no message has, in front of a message or of the end. In the order of the queue, one for each place, and
/// none at the first.
#[derive(Clone, Copy, Debug)]
struct Hole {
    /// The index of the message behind it, counted from the first message that there ever was.
    at: u64,
    /// The sizes of this hole and of all before it. So the position of the message is the sum of both.
    sum: u64,
}

impl Places {
    /// The positions of a queue of `written` messages that were written, behind `fresh` that were not, counted from 0. Those
    /// behind them were not either.
    pub(crate) fn anew(fresh: usize, written: usize) -> Self {
        let (greetings, end) = (fresh as u32, (fresh + written) as u32);
        let mut places = Self { apart: greetings..end, greetings, ..Self::default() };
        places.join();
        places
    }

    /// The position of a message, or the position behind the last.
    pub(crate) fn at(&self, index: usize) -> u64 {
        let at = self.popped + index as u64;
        at + self.sum_before(self.holes.partition_point(|hole| hole.at <= at))
    }

    /// How many of the first `len` messages lie before a position.
    pub(crate) fn count_before(&self, position: u64, len: usize) -> usize {
        let next = self.holes.partition_point(|hole| hole.at + hole.sum <= position);
        let end = self.holes.get(next).map_or(u64::MAX, |hole| hole.at);
        let at = position.saturating_sub(self.sum_before(next)).min(end);
        (at.saturating_sub(self.popped) as usize).min(len)
    }

    /// The sizes of all holes before one of those that there are.
    fn sum_before(&self, hole: usize) -> u64 {
        hole.checked_sub(1).map_or(self.passed, |last| self.holes[last].sum)
    }

    /// How many messages at the front were written.
    pub(crate) fn written_in_front(&self) -> usize {
        self.front as usize
    }

    /// How many messages at the front were written, and are greetings.
    pub(crate) fn count_greetings(&self) -> usize {
        self.count_before(self.greetings.into(), self.written_in_front())
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
        self.popped += count as u64;
        let passed = self.holes.partition_point(|hole| hole.at <= self.popped);
        self.passed = self.sum_before(passed);
        self.holes.drain(..passed);
        if self.holes.is_empty() {
            self.holes = Vec::new();
        }
        let gone = count as u32;
        self.front = self.front.saturating_sub(gone);
        self.apart = self.apart.start.saturating_sub(gone)..self.apart.end.saturating_sub(gone);
        self.join();
    }

    /// Takes the message at `index` out, which leaves a hole.
    pub(crate) fn remove(&mut self, index: usize) {
        if index == 0 {
            return self.pop_front(1);
        }
        let at = self.popped + index as u64;
        let behind = self.holes.partition_point(|hole| hole.at <= at);
        self.holes[behind..].iter_mut().for_each(|hole| hole.at -= 1);
        // Between two holes there may have been this message alone.
        if behind > 0 && self.holes.get(behind).is_some_and(|next| next.at == self.holes[behind - 1].at) {
            self.holes.remove(behind - 1);
        }
        self.add_hole(index, 1);
        let closer = |place: u32| place - u32::from(place as usize > index);
        self.front = closer(self.front);
        self.apart = closer(self.apart.start)..closer(self.apart.end);
        self.join();
    }

    /// Leaves positions out before the message at `index`, or behind the last.
    pub(crate) fn add_hole(&mut self, index: usize, size: u64) {
        let at = self.popped + index as u64;
        let place = self.holes.partition_point(|hole| hole.at < at);
        if index == 0 {
            self.passed += size;
        } else if self.holes.get(place).is_none_or(|hole| hole.at != at) {
            self.holes.insert(place, Hole { at, sum: self.sum_before(place) });
        }
        self.holes[place..].iter_mut().for_each(|hole| hole.sum += size);
    }

    /// Takes out all of `len` messages but the first `kept`, which leaves a hole at the end.
    pub(crate) fn truncate(&mut self, len: usize, kept: usize) {
        let end = self.at(len);
        let at = self.popped + kept as u64;
        self.holes.truncate(self.holes.partition_point(|hole| hole.at < at));
        let size = end - self.at(kept);
        if size > 0 {
            self.add_hole(kept, size);
        }
        let kept = kept as u32;
        self.front = self.front.min(kept);
        self.apart = self.apart.start.min(kept)..self.apart.end.min(kept);
        self.join();
    }

    /// Gives the position of the newest message to the next: it was refused, and has [left](Self::remove) the queue.
    pub(crate) fn take_back_end(&mut self) {
        let Some(last) = self.holes.len().checked_sub(1) else {
            self.popped -= 1;
            return;
        };
        self.holes[last].sum -= 1;
        if self.holes[last].sum == self.sum_before(last) {
            self.holes.truncate(last);
        }
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
        Hole(usize),
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
            2 => (0..12usize).prop_map(Step::Hole),
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
                Step::Hole(index) if index <= len && self.places.get(index).is_none_or(|place| !place.1) => {
                    self.places[index..].iter_mut().for_each(|place| place.0 += 1);
                    self.end += 1;
                    places.add_hole(index, 1);
                }
                Step::Remove(_) | Step::Hole(_) => {}
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
                    places.take_back_end();
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
            let holes =
                [Hole { at: places.popped, sum: places.passed }].into_iter().chain(places.holes.iter().copied());
            assert!(holes.is_sorted_by(|a, b| a.at < b.at && a.sum < b.sum), "{places:?}");
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
