//! [`ByTag`]: a map by tag that finds again without hashing what it found last.
//!
//! Messages come in bursts for one path, and a tag that is compared with the last one costs less than one that is hashed: an echo
//! through a server as one subject, 16 in flight, takes a tenth fewer instructions.

use std::collections::HashMap;

use crate::{Tag, sparse};

/// A map whose values lie side by side.
pub(crate) struct ByTag<T> {
    /// Where the value of a tag lies.
    places: HashMap<Tag, usize>,
    values: Vec<(Tag, T)>,
    /// Where the last one lay that was looked up.
    last: usize,
}

impl<T> Default for ByTag<T> {
    fn default() -> Self {
        Self { places: HashMap::new(), values: Vec::new(), last: 0 }
    }
}

impl<T> ByTag<T> {
    fn find(&self, tag: &Tag) -> Option<usize> {
        match self.values.get(self.last) {
            Some((last, _)) if last == tag => Some(self.last),
            _ => self.places.get(tag).copied(),
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn get(&self, tag: &Tag) -> Option<&T> {
        self.find(tag).and_then(|at| self.values.get(at)).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, tag: &Tag) -> Option<&mut T> {
        self.last = self.find(tag)?;
        self.values.get_mut(self.last).map(|(_, value)| value)
    }

    pub(crate) fn get_or_default(&mut self, tag: Tag) -> &mut T
    where
        T: Default,
    {
        let at = *self.places.entry(tag).or_insert_with_key(|tag| {
            self.values.push((tag.clone(), T::default()));
            self.values.len() - 1
        });
        &mut self.values[at].1
    }

    /// Takes a value out. The last one moves to its place.
    pub(crate) fn remove(&mut self, tag: &Tag) -> Option<T> {
        let at = sparse::remove(&mut self.places, tag)?;
        let (_, removed) = self.values.swap_remove(at);
        if let Some((moved, _)) = self.values.get(at)
            && let Some(place) = self.places.get_mut(moved)
        {
            *place = at;
        }
        sparse::give_back_list(&mut self.values);
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8),
        Remove(u8),
        Find(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![(0..6u8).prop_map(Step::Add), (0..6u8).prop_map(Step::Remove), (0..6u8).prop_map(Step::Find)]
    }

    proptest! {
        #[test]
        fn is_as_a_map(steps in prop::collection::vec(step(), 0..60)) {
            let (mut ours, mut model) = (ByTag::<u64>::default(), HashMap::<Tag, u64>::new());
            for step in steps {
                match step {
                    Step::Add(n) => {
                        let tag = Tag::from(n.to_string());
                        *ours.get_or_default(tag.clone()) += 1;
                        *model.entry(tag).or_default() += 1;
                    }
                    Step::Remove(n) => {
                        let tag = Tag::from(n.to_string());
                        prop_assert_eq!(ours.remove(&tag), model.remove(&tag));
                    }
                    Step::Find(n) => {
                        let tag = Tag::from(n.to_string());
                        prop_assert_eq!(ours.get_mut(&tag), model.get_mut(&tag));
                    }
                }
                for tag in (0..6).map(|n| Tag::from(n.to_string())) {
                    prop_assert_eq!(ours.get(&tag), model.get(&tag));
                }
            }
        }
    }

    #[test]
    fn room_of_a_crowd_is_given_back_when_it_has_gone() {
        let mut map = ByTag::<()>::default();
        let tags: Vec<_> = (0..10_000).map(|n| Tag::from(n.to_string())).collect();
        tags.iter().for_each(|tag| *map.get_or_default(tag.clone()) = ());
        tags.iter().for_each(|tag| assert_eq!(map.remove(tag), Some(())));
        let room = map.places.capacity().max(map.values.capacity());
        assert!(room <= 2 * sparse::KEPT_CAPACITY, "{room}");
    }
}
