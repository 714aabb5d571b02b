//! [`Places`]: the position of each message in a queue that keeps what it has written, and whether it was written.

use std::{collections::VecDeque, mem::replace};

/// The messages of a queue, in its order. Positions grow by one for each message; what was dropped leaves a hole.
///
/// Messages that follow each other share an entry. There are few: each hole is one more, and holes arise where the link has
/// come to.
#[derive(Debug, Default)]
pub(crate) struct Places {
    runs: VecDeque<Run>,
    /// The position of the next message.
    end: u64,
    len: usize,
}

/// Messages that follow each other without a hole.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    count: usize,
    /// They were written at least once.
    is_written: bool,
}

impl Run {
    fn end(&self) -> u64 {
        self.first + self.count as u64
    }

    /// The part from `index` on.
    fn split_off(&mut self, index: usize) -> Self {
        let rest = Self { first: self.first + index as u64, count: self.count - index, ..*self };
        self.count = index;
        rest
    }
}

impl Places {
    /// The positions of a queue of `written` messages that were written, behind `fresh` that were not, and before `waiting`
    /// that were not either, counted from 0.
    pub(crate) fn anew(fresh: usize, written: usize, waiting: usize) -> Self {
        let mut places = Self::default();
        for (count, is_written) in [(fresh, false), (written, true), (waiting, false)] {
            places.add(count, is_written);
        }
        places
    }

    fn add(&mut self, count: usize, is_written: bool) {
        if count == 0 {
            return;
        }
        match self.runs.back_mut() {
            Some(last) if last.end() == self.end && last.is_written == is_written => last.count += count,
            _ => self.runs.push_back(Run { first: self.end, count, is_written }),
        }
        self.end += count as u64;
        self.len += count;
    }

    /// One more message at the end of the queue.
    pub(crate) fn push(&mut self) {
        self.add(1, false);
    }

    /// Gives the position of the newest message to the next: it was refused, and has [left](Self::remove) the queue.
    pub(crate) fn take_back_end(&mut self) {
        self.end -= 1;
    }

    /// The position behind the last message.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The position of a message, or the end.
    pub(crate) fn at(&self, mut index: usize) -> u64 {
        for run in &self.runs {
            if index < run.count {
                return run.first + index as u64;
            }
            index -= run.count;
        }
        self.end
    }

    /// How many messages lie before a position.
    pub(crate) fn count_before(&self, position: u64) -> usize {
        let before = |run: &Run| (position.saturating_sub(run.first) as usize).min(run.count);
        self.runs.iter().take_while(|run| run.first < position).map(before).sum()
    }

    /// How many messages at the front were written.
    pub(crate) fn written_in_front(&self) -> usize {
        self.runs.iter().take_while(|run| run.is_written).map(|run| run.count).sum()
    }

    /// How many messages were written.
    pub(crate) fn written(&self) -> usize {
        self.runs.iter().filter(|run| run.is_written).map(|run| run.count).sum()
    }

    /// The index behind the last message that was written.
    pub(crate) fn written_end(&self) -> usize {
        let behind = self.runs.iter().rev().take_while(|run| !run.is_written).map(|run| run.count).sum::<usize>();
        self.len - behind
    }

    /// Whether the message at `index` was written.
    pub(crate) fn is_written(&self, mut index: usize) -> bool {
        for run in &self.runs {
            if index < run.count {
                return run.is_written;
            }
            index -= run.count;
        }
        false
    }

    /// Notes that `count` messages from `index` on are written. Returns how many were not before.
    pub(crate) fn mark_written(&mut self, mut index: usize, count: usize) -> usize {
        let (mut left, mut marked) = (count, 0);
        while left > 0
            && let Some((at, inside)) = self.find(index)
        {
            let run = &self.runs[at];
            let part = left.min(run.count - inside);
            if !run.is_written {
                self.mark_part(at, inside, part);
                marked += part;
            }
            (index, left) = (index + part, left - part);
        }
        marked
    }

    /// Notes that `count` messages of an entry are written, from its `inside`-th on. As a rule that is all of them.
    fn mark_part(&mut self, at: usize, inside: usize, count: usize) {
        let run = &mut self.runs[at];
        let mut marked = run.split_off(inside);
        let rest = marked.split_off(count);
        marked.is_written = true;
        let before = replace(run, marked);
        // Few entries follow, and before an entry in use there is one at most.
        if rest.count > 0 {
            self.runs.insert(at + 1, rest);
        }
        if before.count > 0 {
            self.runs.insert(at, before);
        }
        self.join_around(at);
    }

    /// Joins the entries around `at` that have become one.
    fn join_around(&mut self, at: usize) {
        for index in (at.saturating_sub(1)..=at + 1).rev() {
            if let (Some(&run), Some(&next)) = (self.runs.get(index), self.runs.get(index + 1))
                && run.end() == next.first
                && run.is_written == next.is_written
            {
                self.runs[index].count += next.count;
                self.runs.remove(index + 1);
            }
        }
    }

    fn find(&self, mut index: usize) -> Option<(usize, usize)> {
        for (at, run) in self.runs.iter().enumerate() {
            if index < run.count {
                return Some((at, index));
            }
            index -= run.count;
        }
        None
    }

    /// Takes the first `count` messages out.
    pub(crate) fn pop_front(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while let Some(run) = self.runs.front_mut()
            && left > 0
        {
            let gone = left.min(run.count);
            *run = run.split_off(gone);
            left -= gone;
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// Takes the message at `index` out, which leaves a hole.
    pub(crate) fn remove(&mut self, index: usize) {
        let Some((at, inside)) = self.find(index) else { return };
        let mut rest = self.runs[at].split_off(inside);
        let rest = rest.split_off(1);
        if rest.count > 0 {
            self.runs.insert(at + 1, rest);
        }
        if self.runs[at].count == 0 {
            self.runs.remove(at);
        }
        self.len -= 1;
    }

    /// Takes out all messages but the first `len`, which leaves a hole at the end.
    pub(crate) fn truncate(&mut self, len: usize) {
        let mut left = len;
        self.runs.retain_mut(|run| {
            run.count = run.count.min(left);
            left -= run.count;
            run.count > 0
        });
        self.len = self.len.min(len);
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
        Remove(usize),
        Truncate(usize),
        Mark(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            2 => (0..4usize).prop_map(Step::Pop),
            2 => (0..12usize).prop_map(Step::Remove),
            1 => (0..12usize).prop_map(Step::Truncate),
            3 => (0..12usize, 0..4usize).prop_map(|(index, count)| Step::Mark(index, count)),
        ]
    }

    /// The same as a plain list.
    #[derive(Default)]
    struct Plain {
        places: Vec<(u64, bool)>,
        end: u64,
    }

    impl Plain {
        fn step(&mut self, step: &Step) {
            match *step {
                Step::Push => self.places.push((self.end, false)),
                Step::Pop(count) => _ = self.places.drain(..count.min(self.places.len())),
                Step::Remove(index) if index < self.places.len() => _ = self.places.remove(index),
                Step::Truncate(len) => self.places.truncate(len),
                Step::Mark(index, count) => {
                    self.places.iter_mut().skip(index).take(count).for_each(|place| place.1 = true)
                }
                Step::Remove(_) => {}
            }
            self.end += u64::from(matches!(step, Step::Push));
        }

        fn check(&self, places: &Places) {
            let Self { places: plain, end } = self;
            assert_eq!((places.len, places.end()), (plain.len(), *end));
            for index in 0..=plain.len() {
                let (position, is_written) = plain.get(index).copied().unwrap_or((*end, false));
                assert_eq!((places.at(index), places.is_written(index)), (position, is_written));
                assert_eq!(places.count_before(position), index);
            }
            let written = |place: &&(u64, bool)| place.1;
            assert_eq!(places.written(), plain.iter().filter(written).count());
            assert_eq!(places.written_in_front(), plain.iter().take_while(written).count());
            let waiting = plain.iter().rev().take_while(|place| !place.1).count();
            assert_eq!(places.written_end(), plain.len() - waiting);
            let joins = |a: &Run, b: &Run| a.end() == b.first && a.is_written == b.is_written;
            assert!(places.runs.iter().zip(places.runs.iter().skip(1)).all(|(a, b)| !joins(a, b)), "{places:?}");
        }
    }

    proptest! {
        #[test]
        fn positions_are_those_of_a_plain_list(steps in prop::collection::vec(step(), 1..60)) {
            let (mut places, mut plain) = (Places::default(), Plain::default());
            for step in steps {
                let before = places.written();
                plain.step(&step);
                match step {
                    Step::Push => places.push(),
                    Step::Pop(count) => places.pop_front(count),
                    Step::Remove(index) => places.remove(index),
                    Step::Truncate(len) => places.truncate(len),
                    Step::Mark(index, count) => {
                        let marked = places.mark_written(index, count);
                        assert_eq!(places.written(), before + marked);
                    }
                }
                plain.check(&places);
            }
        }
    }

    #[test]
    fn new_positions_begin_at_0_with_what_is_fresh() {
        let places = Places::anew(2, 3, 1);
        assert_eq!((places.at(0), places.end(), places.len), (0, 6, 6));
        assert_eq!(
            (0..6).map(|index| places.is_written(index)).collect::<Vec<_>>(),
            [false, false, true, true, true, false]
        );
    }
}
