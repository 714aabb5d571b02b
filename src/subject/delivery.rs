//! Calls observers and drops the user's values: always outside the lock, each call isolated from the others.

use std::sync::Weak;

use rxrust::observer::Observer;

use crate::{
    runtime::callback,
    subject::{
        core::Core,
        state::{Event, KEPT_CAPACITY, Slot, Terminal, take_open},
    },
    sync::Ordering,
};

/// Told, as long as it is there, when an observer has panicked and was removed.
pub(crate) type PanicHook = Weak<dyn OnPanic>;

/// See [`PanicHook`].
pub(crate) trait OnPanic: Send + Sync {
    /// Called outside all locks.
    fn note_panic(&self);
}

/// The outcome of an item's way to one observer.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Turnout {
    Took,
    /// It took the item, and takes no more.
    TookLast,
    /// It was gone.
    Gone,
}

/// Calls of observers.
impl<T: Clone, E: Clone> Core<T, E> {
    /// Delivers an item to all of them.
    pub(crate) fn emit_to(&self, observers: &mut Vec<Slot<T, E>>, item: T) {
        let Some((last, others)) = observers.split_last_mut() else { return self.discard_event(Event::Next(item)) };
        let (mut any_ended, mut missed) = (false, 0);
        let mut note = |turnout| {
            if turnout != Turnout::Took {
                any_ended = true;
                missed += usize::from(turnout == Turnout::Gone);
            }
        };
        others.iter_mut().for_each(|slot| note(self.next(slot, || item.clone())));
        note(self.give(last, item));
        if any_ended {
            if missed == observers.len() {
                self.count_unheard();
            }
            self.sweep(observers);
        }
    }

    /// Delivers an item.
    #[inline]
    pub(crate) fn give(&self, slot: &mut Slot<T, E>, item: T) -> Turnout {
        self.next(slot, || item)
    }

    /// Delivers an item, which is made inside the isolation: a `clone` is user code too.
    fn next(&self, slot: &mut Slot<T, E>, item: impl FnOnce() -> T) -> Turnout {
        let (open, observer) = (&slot.open, &mut slot.observer);
        let (mut is_gone, mut is_done) = (false, true);
        let returned = callback::isolate("an observer", || {
            let item = item();
            // Checked after the `clone`, since the observer may have left during it.
            is_gone = self.stale.load(Ordering::Acquire) && !open.load(Ordering::Acquire);
            if is_gone {
                return drop(item); // here, because of its destructor
            }
            observer.next(item);
            is_done = observer.is_closed();
        });
        if returned && !is_done {
            return Turnout::Took;
        }
        self.see_off(slot, returned);
        if is_gone { Turnout::Gone } else { Turnout::TookLast }
    }

    #[cold]
    fn see_off(&self, slot: &Slot<T, E>, returned: bool) {
        slot.close();
        if !returned {
            self.report_panic();
        }
    }

    /// Delivers the terminal event and drops the observer. An observer that is no longer open is only dropped.
    pub(crate) fn terminate(&self, slot: Slot<T, E>, terminal: &Terminal<E>) {
        if !slot.is_open() {
            return self.dismiss(slot);
        }
        let Slot { open, observer, .. } = slot;
        let returned = callback::isolate("an observer", || {
            let error = match terminal {
                Terminal::Error(error) => Some(E::clone(error)),
                Terminal::Complete => None,
            };
            // As for an item: checked after the `clone`.
            match error {
                _ if !take_open(&open) => {}
                Some(error) => observer.error(error),
                None => observer.complete(),
            }
        });
        if !returned {
            take_open(&open);
            self.report_panic();
        }
    }
}

/// Drops of user values.
impl<T, E> Core<T, E> {
    /// Drops an event that nobody hears.
    pub(crate) fn discard_event(&self, event: Event<T, E>) {
        if let Event::Next(_) = event {
            self.count_unheard();
        }
        discard(event);
    }

    fn count_unheard(&self) {
        if let Some(unheard) = &self.unheard {
            unheard.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Drops an item for which the inbox has no room. Logs at every power of two, since one loss seldom comes alone.
    #[cold]
    pub(crate) fn lose(&self, event: Event<T, E>) {
        let mut state = self.lock();
        state.waits.noted().lost += 1;
        let lost = state.waits.lost();
        drop(state);
        if lost.is_power_of_two() {
            log_lost(lost);
        }
        discard(event);
    }

    /// Drops the observers that have unsubscribed, finished or panicked.
    pub(crate) fn sweep(&self, observers: &mut Vec<Slot<T, E>>) {
        for slot in observers.extract_if(.., |slot| !slot.is_open()) {
            self.dismiss(slot);
        }
        if observers.capacity() > KEPT_CAPACITY && observers.len() < observers.capacity() / 4 {
            observers.shrink_to_fit();
        }
    }

    /// Drops an observer, whose captured values may panic in their destructors.
    pub(crate) fn dismiss(&self, slot: Slot<T, E>) {
        if !callback::isolate("an observer's destructor", || drop(slot)) {
            self.report_panic();
        }
    }

    pub(crate) fn report_panic(&self) {
        if let Some(told) = self.on_panic.as_ref().and_then(Weak::upgrade) {
            told.note_panic();
        }
    }
}

// Apart, so that it is not compiled for each type of item.
fn log_lost(lost: u64) {
    tracing::error!(lost, "items pushed into a subject were lost: its observers are slower than what callbacks push");
}

/// Drops an item, whose destructor is user code.
pub(crate) fn discard<T>(item: T) {
    callback::isolate("an item's destructor", || drop(item));
}

/// As [`discard`], for several.
pub(crate) fn discard_all<T>(items: impl IntoIterator<Item = T>) {
    callback::drop_each("an item's destructor", items);
}
