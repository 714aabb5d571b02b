//! [`Numbered`]: what has come in turn, and goes in any order.

/// How many more places than twice its values a list may have.
const SPARE_PLACES: usize = 16;

/// Values by number, in the order of their numbers. They are given out in ascending order, so a new one belongs behind all others,
/// or nearly so. One that has gone leaves an empty place, until half of the places are empty.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    /// The last one is not empty.
    places: Vec<(u64, Option<T>)>,
    /// How many places before the first value are empty. Those who take out the first value, one after the other, must not look
    /// at all of them each time.
    vacant: usize,
    len: usize,
}

// Not derived: the values need not be `Default`.
impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { places: Vec::new(), vacant: 0, len: 0 }
    }
}

impl<T> Numbered<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the value that had the number before.
    pub(crate) fn insert(&mut self, number: u64, value: T) -> Option<T> {
        let (at, before) = match self.find(number) {
            Ok(at) => (at, self.places[at].1.replace(value)),
            Err(at) => {
                self.places.insert(at, (number, Some(value)));
                (at, None)
            }
        };
        self.vacant = self.vacant.min(at);
        self.len += usize::from(before.is_none());
        before
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        self.places[self.find(number).ok()?].1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = self.find(number).ok()?;
        self.places[at].1.as_mut()
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.find(number).ok()?;
        let removed = self.places[at].1.take()?;
        self.len -= 1;
        self.tidy();
        Some(removed)
    }

    /// The values with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.places[self.vacant..].iter().filter_map(|(number, value)| Some((*number, value.as_ref()?)))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.places.into_iter().filter_map(|(_, value)| value)
    }

    /// The place of a number, or where it would be.
    fn find(&self, number: u64) -> Result<usize, usize> {
        match self.places.last() {
            Some((last, _)) if *last >= number => self.places.binary_search_by_key(&number, |(number, _)| *number),
            _ => Err(self.places.len()),
        }
    }

    /// Gives up empty places: all at the end, and the others when they are half of all.
    fn tidy(&mut self) {
        while self.places.pop_if(|(_, value)| value.is_none()).is_some() {}
        if self.places.len() > 2 * self.len + SPARE_PLACES {
            self.places.retain(|(_, value)| value.is_some());
            self.vacant = 0;
        }
        self.vacant = self.vacant.min(self.places.len());
        self.vacant += self.places[self.vacant..].iter().take_while(|(_, value)| value.is_none()).count();
        if self.places.capacity() > 4 * self.places.len() + SPARE_PLACES {
            self.places.shrink_to(2 * self.places.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_map_whatever_comes_and_goes(steps in prop::collection::vec((0..4, 0..60u64), 0..300)) {
            let (mut ours, mut theirs, mut next) = (Numbered::default(), BTreeMap::new(), 0);
            for (value, (kind, number)) in steps.into_iter().enumerate() {
                match kind {
                    0 => prop_assert_eq!(ours.insert(number, value), theirs.insert(number, value)),
                    1 => {
                        next += number;
                        prop_assert_eq!(ours.insert(next, value), theirs.insert(next, value));
                    }
                    2 => prop_assert_eq!(ours.remove(number), theirs.remove(&number)),
                    _ => prop_assert_eq!(ours.get_mut(number), theirs.get_mut(&number)),
                }
                prop_assert_eq!(ours.get(number), theirs.get(&number));
                prop_assert_eq!((ours.len(), ours.is_empty()), (theirs.len(), theirs.is_empty()));
                prop_assert!(ours.iter().eq(theirs.iter().map(|(number, value)| (*number, value))));
                prop_assert!(ours.places.len() <= 2 * ours.len() + SPARE_PLACES);
                prop_assert_eq!(ours.vacant, ours.places.iter().take_while(|(_, value)| value.is_none()).count());
            }
            prop_assert!(ours.into_values().eq(theirs.into_values()));
        }
    }

    #[test]
    fn room_of_a_crowd_is_given_back_although_the_first_and_the_last_stay() {
        let mut crowd: Numbered<_> = Numbered::default();
        (0..100_000).for_each(|number| assert!(crowd.insert(number, ()).is_none()));
        (1..99_999).for_each(|number| assert!(crowd.remove(number).is_some()));
        assert!(crowd.values().count() == 2 && crowd.places.capacity() <= 100, "{}", crowd.places.capacity());
    }
}
