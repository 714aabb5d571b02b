//! Little memory for what is mostly empty: maps whose entries have gone, and lists with one entry.

use std::{collections::HashMap, hash::Hash};

/// A map that has room for more than this gives it back when most of it is empty.
pub(crate) const KEPT_CAPACITY: usize = 1024;

/// Removes an entry, and from time to time the room for those that have gone before.
pub(crate) fn remove<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: &K) -> Option<V> {
    remove_entry(map, key).map(|(_, value)| value)
}

/// As [`remove`], with the key, whose destructor may be the program's.
pub(crate) fn remove_entry<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: &K) -> Option<(K, V)> {
    let removed = map.remove_entry(key);
    give_back(map);
    removed
}

/// Gives back the room for entries that have gone, where most of it is empty.
pub(crate) fn give_back<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    let capacity = map.capacity();
    if capacity > KEPT_CAPACITY && map.len() < capacity / 4 {
        map.shrink_to(capacity / 2);
    }
}

/// As [`give_back`], for a list.
pub(crate) fn give_back_list<T>(list: &mut Vec<T>) {
    let capacity = list.capacity();
    if capacity > KEPT_CAPACITY && list.len() < capacity / 4 {
        list.shrink_to(capacity / 2);
    }
}

/// Makes room for one entry in an empty list, of which there are many with no other: a vector begins with room for four.
pub(crate) fn expect_one<T>(list: &mut Vec<T>) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_of_a_crowd_is_given_back_when_it_has_gone() {
        let mut map: HashMap<_, _> = (0..100_000).map(|n| (n, ())).collect();
        (0..100_000).for_each(|n| assert!(remove(&mut map, &n).is_some()));
        assert!(remove(&mut map, &0).is_none() && map.capacity() <= 2 * KEPT_CAPACITY, "{}", map.capacity());
    }
}
