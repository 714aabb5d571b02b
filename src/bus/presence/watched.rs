//! [`WatchedPaths`]: who wants to hear who is on a path, and what they have heard. No I/O, no clock of its own.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use tokio::time::Instant;

use crate::{Presence, SerializedSubject, Tag, presence::watchers::INTERVAL, sparse};

/// The paths with observers.
pub(crate) struct WatchedPaths {
    watched: HashMap<Tag, Watched>,
    /// Those among them on which something may be different from what was emitted.
    stale: HashSet<Tag>,
    emit_at: Instant,
}

/// A path with observers.
struct Watched {
    subject: SerializedSubject<Presence>,
    /// What was emitted last.
    last: Option<Presence>,
    /// Nothing is emitted before.
    emit_from: Instant,
    observers: usize,
}

impl WatchedPaths {
    pub(crate) fn new(now: Instant) -> Self {
        Self { watched: HashMap::new(), stale: HashSet::new(), emit_at: now }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Notes that something may be different on a path. Returns whether a turn is due for that.
    pub(crate) fn note(&mut self, path: &str) -> bool {
        let Some((path, _)) = self.watched.get_key_value(path) else { return false };
        let is_first = self.stale.is_empty();
        self.stale.insert(path.clone());
        is_first
    }

    pub(crate) fn note_all(&mut self) {
        self.stale.extend(self.watched.keys().cloned());
    }

    /// The subject of a path. `subject` makes it, if nobody watches the path so far; nothing is emitted to it before `emit_from`.
    pub(crate) fn watch(
        &mut self,
        path: &Tag,
        emit_from: Instant,
        subject: impl FnOnce() -> SerializedSubject<Presence>,
    ) -> SerializedSubject<Presence> {
        let watched = self.watched.entry(path.clone()).or_insert_with(|| {
            self.stale.insert(path.clone());
            Watched { subject: subject(), last: None, emit_from, observers: 0 }
        });
        watched.observers += 1;
        watched.subject.clone()
    }

    /// Counts an observer out. Returns what is to be dropped outside the lock.
    pub(crate) fn unwatch(&mut self, path: &Tag) -> Option<SerializedSubject<Presence>> {
        let watched = self.watched.get_mut(path)?;
        watched.observers -= 1;
        if watched.observers > 0 {
            return None;
        }
        // Or a change elsewhere would take this for work that has a turn already.
        self.stale.remove(path);
        sparse::remove(&mut self.watched, path).map(|watched| watched.subject)
    }

    /// What is to be emitted.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        presence: impl Fn(&Tag) -> Presence,
    ) -> Vec<(SerializedSubject<Presence>, Presence)> {
        if self.emit_at > now {
            return Vec::new();
        }
        let mut due = Vec::new();
        for path in mem::take(&mut self.stale) {
            if self.watched.get(&path).is_some_and(|watched| watched.emit_from > now) {
                self.stale.insert(path);
                continue;
            }
            let presence = presence(&path);
            if let Some(watched) = self.watched.get_mut(&path)
                && watched.last.as_ref() != Some(&presence)
            {
                watched.last = Some(presence.clone());
                due.push((watched.subject.clone(), presence));
            }
        }
        if !due.is_empty() {
            self.emit_at = now + INTERVAL;
        }
        due
    }

    /// When there is something to emit.
    pub(crate) fn next(&self) -> Option<Instant> {
        let stale = self.stale.iter().filter_map(|path| self.watched.get(path));
        stale.map(|watched| watched.emit_from.max(self.emit_at)).min()
    }

    pub(crate) fn subjects(&self) -> Vec<SerializedSubject<Presence>> {
        self.watched.values().map(|watched| watched.subject.clone()).collect()
    }
}
