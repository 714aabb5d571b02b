//! What a server remembers of sessions that are over, so that a client that comes back hears exact counts.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use tokio::time::Instant;

use super::{SessionLoss, Token, verb::Known};

/// How many sessions are remembered: less than 1 MiB.
const MAX: usize = 10_000;

/// How long a session is remembered.
const AGE: Duration = Duration::from_secs(10 * 60);

/// A bounded memory of sessions that are over. The oldest goes first. `K` is the owner's identity.
#[derive(Debug)]
pub(crate) struct Tombstones<K> {
    of: HashMap<Token, Tombstone<K>>,
    by_age: VecDeque<(Instant, Token)>,
}

#[derive(Debug)]
struct Tombstone<K> {
    owner: K,
    why: SessionLoss,
    known: Known,
}

impl<K: Eq> Tombstones<K> {
    pub(crate) fn new() -> Self {
        Self { of: HashMap::new(), by_age: VecDeque::new() }
    }

    /// Remembers a session that has just ended. A session ends once: a second end of it changes nothing.
    pub(crate) fn insert(&mut self, now: Instant, token: Token, owner: K, why: SessionLoss, known: Known) {
        self.expire(now);
        let Entry::Vacant(place) = self.of.entry(token) else { return };
        place.insert(Tombstone { owner, why, known });
        self.by_age.push_back((now, token));
        if self.by_age.len() > MAX {
            self.forget_oldest();
        }
    }

    /// Why a session is over, and what is known of it. Another owner than its own learns nothing.
    pub(crate) fn find(&mut self, now: Instant, token: Token, owner: &K) -> Option<(SessionLoss, Known)> {
        self.expire(now);
        let tombstone = self.of.get(&token).filter(|tombstone| tombstone.owner == *owner)?;
        Some((tombstone.why, tombstone.known))
    }

    /// Forgets the sessions that ended long ago.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.by_age.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) >= AGE) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, token)) = self.by_age.pop_front() {
            self.of.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { received: 3, end: 5 };

    #[test]
    fn session_that_is_over_is_known_to_its_owner_alone() {
        let (mut tombstones, now, token) = (Tombstones::new(), Instant::now(), Token::random());
        tombstones.insert(now, token, "owner", SessionLoss::Evicted, KNOWN);
        assert_eq!(tombstones.find(now, token, &"owner"), Some((SessionLoss::Evicted, KNOWN)));
        assert_eq!(tombstones.find(now, token, &"thief"), None);
        assert_eq!(tombstones.find(now, Token::random(), &"owner"), None);
        assert_eq!(tombstones.find(now, token, &"owner"), Some((SessionLoss::Evicted, KNOWN)));
    }

    #[test]
    fn session_is_forgotten_after_ten_minutes() {
        let (mut tombstones, now) = (Tombstones::new(), Instant::now());
        let tokens = [Token::random(), Token::random()];
        tombstones.insert(now, tokens[0], (), SessionLoss::Expired, KNOWN);
        tombstones.insert(now + AGE / 2, tokens[1], (), SessionLoss::Expired, KNOWN);
        let later = now + AGE;
        assert!(tombstones.find(later - Duration::from_nanos(1), tokens[0], &()).is_some());
        assert!(tombstones.find(later, tokens[0], &()).is_none());
        assert!(tombstones.find(later, tokens[1], &()).is_some());
        tombstones.expire(later + AGE);
        assert!(tombstones.of.is_empty() && tombstones.by_age.is_empty());
    }

    #[test]
    fn oldest_is_forgotten_when_there_are_too_many() {
        let (mut tombstones, now) = (Tombstones::new(), Instant::now());
        let tokens: Vec<_> = std::iter::repeat_with(Token::random).take(MAX + 2).collect();
        for token in &tokens {
            tombstones.insert(now, *token, (), SessionLoss::Overflow, KNOWN);
        }
        let found: Vec<_> = tokens.iter().map(|token| tombstones.find(now, *token, &()).is_some()).collect();
        assert_eq!(found[..3], [false, false, true]);
        assert!(found[2..].iter().all(|found| *found));
        assert_eq!((tombstones.of.len(), tombstones.by_age.len()), (MAX, MAX));
    }

    #[test]
    fn second_end_of_a_session_changes_nothing() {
        let (mut tombstones, now, token) = (Tombstones::new(), Instant::now(), Token::random());
        tombstones.insert(now, token, "owner", SessionLoss::Ended, KNOWN);
        tombstones.insert(now, token, "thief", SessionLoss::Expired, Known { received: 0, end: 0 });
        assert_eq!(tombstones.find(now, token, &"owner"), Some((SessionLoss::Ended, KNOWN)));
        assert_eq!(tombstones.by_age.len(), 1);
    }
}
