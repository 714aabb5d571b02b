//! [`Audience`]: who hears a main subject, everything or the items of one tag. Its sources ask before they make an item for it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use crate::{
    sparse,
    sync::{AtomicUsize, Mutex, MutexGuard, Ordering},
};

/// The subscribers of a main subject.
#[derive(Clone, Default)]
pub(crate) struct Audience(Arc<Counts>);

#[derive(Default)]
struct Counts {
    /// Of those that hear everything.
    all: AtomicUsize,
    /// Of those that hear one tag, where there are any.
    by_tag: Mutex<HashMap<Box<str>, usize>>,
    /// How often a tag has come or gone. Changed under the lock, and read without it for each item.
    changes: AtomicUsize,
}

/// Counts a subscriber out when it goes.
pub(crate) struct Seat {
    audience: Audience,
    tag: Option<Box<str>>,
}

/// What the source of one tag has seen last: the number of changes, and in the lowest bit whether anybody hears the tag.
#[derive(Default)]
pub(crate) struct Seen(AtomicUsize);

impl Audience {
    /// Counts one that hears everything, or the items of one tag alone. It must be in before it joins the subject, so that it is not
    /// passed over from its first item on.
    pub(crate) fn count_in(&self, tag: Option<&str>) -> Seat {
        match tag {
            None => _ = self.0.all.fetch_add(1, Ordering::Release),
            Some(tag) => self.change(|tags| {
                let count = tags.entry(tag.into()).or_default();
                *count += 1;
                *count == 1
            }),
        }
        Seat { audience: self.clone(), tag: tag.map(Into::into) }
    }

    /// Whether anybody hears the items of a tag: of one and the same tag for each [`Seen`].
    pub(crate) fn hears(&self, tag: &str, seen: &Seen) -> bool {
        self.0.all.load(Ordering::Acquire) > 0 || self.hears_alone(tag, seen)
    }

    fn hears_alone(&self, tag: &str, Seen(seen): &Seen) -> bool {
        let last = seen.load(Ordering::Relaxed);
        if last | 1 == pack(self.0.changes.load(Ordering::Acquire), true) {
            return last & 1 == 1;
        }
        let tags = self.tags();
        let heard = tags.contains_key(tag);
        seen.store(pack(self.0.changes.load(Ordering::Relaxed), heard), Ordering::Relaxed);
        heard
    }

    /// Changes the tags, and notes whether one has come or gone.
    fn change(&self, change: impl FnOnce(&mut HashMap<Box<str>, usize>) -> bool) {
        let mut tags = self.tags();
        if change(&mut tags) {
            self.0.changes.fetch_add(1, Ordering::Release);
        }
    }

    fn tags(&self) -> MutexGuard<'_, HashMap<Box<str>, usize>> {
        self.0.by_tag.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pack(changes: usize, heard: bool) -> usize {
    changes << 1 | usize::from(heard)
}

impl Clone for Seen {
    fn clone(&self) -> Self {
        Self(AtomicUsize::new(self.0.load(Ordering::Relaxed)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(tag) = self.tag.take() else {
            self.audience.0.all.fetch_sub(1, Ordering::Release);
            return;
        };
        self.audience.change(|tags| match tags.get_mut(&tag) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => sparse::remove(tags, &tag).is_some(),
        });
    }
}
