//! How an observer joins: it hears its backlog, then takes its place among the others.

use std::{collections::VecDeque, mem::take, sync::Arc};

use rxrust::observer::BoxedObserverSend;

use crate::{
    runtime::callback,
    subject::{
        core::Core,
        delivery::discard,
        replay::{Elsewhere, Replay},
        state::{Slot, State, Terminal},
    },
    sync::{AtomicBool, MutexGuard, Ordering},
};

/// An observer that has subscribed.
pub(crate) struct Joining<T, E> {
    pub(crate) slot: Slot<T, E>,
    /// The items that it hears first.
    pub(crate) backlog: VecDeque<T>,
}

impl<T, E> Joining<T, E> {
    pub(crate) fn may_go_on(&self) -> bool {
        self.backlog.is_empty() || !callback::is_turn_over()
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Core<T, E> {
    /// Adds an observer, which hears `backlog` first, and returns its number.
    pub(crate) fn join(
        self: &Arc<Self>,
        open: Arc<AtomicBool>,
        observer: BoxedObserverSend<'static, T, E>,
        backlog: impl FnOnce() -> VecDeque<T>,
    ) -> u64 {
        let mut state = self.lock();
        state.subscribed += 1;
        let number = state.subscribed;
        let mut joining = Joining { slot: Slot { number, open, observer }, backlog: backlog() };
        joining.backlog.append(&mut state.replay.backlog());
        self.keeps_early.store(state.replay.is_early(), Ordering::Release);
        if let Some(terminal) = state.terminal.clone() {
            drop(state);
            self.join_ended(joining, &terminal);
        } else {
            self.let_join(state, joining);
        }
        number
    }

    /// Puts it among the observers at once, or behind those that join.
    fn let_join(self: &Arc<Self>, mut state: MutexGuard<'_, State<T, E>>, joining: Joining<T, E>) {
        let held = self.token.try_hold();
        match held {
            Some(mut observers) if joining.backlog.is_empty() && state.joining.is_empty() => {
                if observers.len() < 2 {
                    // Most subjects have one observer or two, and a connection has several subjects: a vector would start
                    // with room for four.
                    observers.reserve_exact(1);
                }
                observers.push(joining.slot);
                self.quiet_down(&state);
            }
            held => {
                state.joining.push_back(joining);
                self.token.call();
                let is_idle = held.is_some();
                drop(held);
                drop(state);
                if is_idle {
                    self.wake_home();
                }
            }
        }
    }

    /// Delivers the backlog and the terminal event to an observer that joins after the end.
    fn join_ended(&self, mut joining: Joining<T, E>, terminal: &Terminal<E>) {
        callback::run(|| {
            self.play_backlog(&mut joining, || true);
            let handed = self.lock().hand_on(joining.backlog, true);
            handed.finish();
            self.terminate(joining.slot, terminal);
        });
    }

    /// Adds the joining observers to `observers`, as far as the turn of this thread reaches.
    pub(crate) fn let_in<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T, E>>,
        observers: &mut Vec<Slot<T, E>>,
    ) -> MutexGuard<'a, State<T, E>> {
        while state.joining.front().is_some_and(Joining::may_go_on) {
            let mut joining = take(&mut state.joining);
            drop(state);
            let left = self.play_backlogs(observers, &mut joining);
            state = self.lock();
            joining.append(&mut state.joining);
            state.joining = joining;
            if !left.is_empty() {
                let handed = state.hand_on(left, !observers.iter().any(Slot::is_open));
                drop(state);
                handed.finish();
                state = self.lock();
            }
        }
        state
    }
}

impl<T: Clone, E: Clone> Core<T, E> {
    /// Moves each joining observer to `observers` once it has heard its backlog, as far as the turn of this thread reaches.
    /// Stops at one that leaves before it has heard everything, and returns the rest of its backlog.
    fn play_backlogs(&self, observers: &mut Vec<Slot<T, E>>, joining: &mut VecDeque<Joining<T, E>>) -> VecDeque<T> {
        while let Some(first) = joining.front_mut() {
            self.play_backlog(first, callback::may_deliver);
            if first.slot.is_open() && !first.backlog.is_empty() {
                break;
            }
            let Some(Joining { slot, backlog }) = joining.pop_front() else { break };
            if slot.is_open() {
                observers.push(slot);
                continue;
            }
            self.dismiss(slot);
            if !backlog.is_empty() {
                return backlog;
            }
        }
        VecDeque::new()
    }

    /// Delivers its backlog to an observer, for as long as `may_go_on`.
    fn play_backlog(&self, Joining { slot, backlog }: &mut Joining<T, E>, may_go_on: impl Fn() -> bool) {
        while slot.is_open()
            && !backlog.is_empty()
            && may_go_on()
            && let Some(item) = backlog.pop_front()
        {
            self.next(slot, || item);
        }
    }
}

impl<T, E> Core<T, E> {
    pub(crate) fn dismiss_joining(&self, Joining { slot, backlog }: Joining<T, E>) {
        self.dismiss(slot);
        discard(backlog);
    }
}

impl<T: Clone, E: Clone> State<T, E> {
    /// Takes the items of a backlog that an observer has left unheard: the next observer hears them, or the main subject
    /// keeps them. Only inside a callback.
    pub(crate) fn hand_on(&mut self, mut left: VecDeque<T>, nobody: bool) -> HandedOn<T> {
        let mut handed = HandedOn { dropped: VecDeque::new(), unkept: None };
        match (&self.replay, self.joining.front_mut()) {
            (Replay::Elsewhere(_), Some(next)) => {
                left.append(&mut next.backlog);
                next.backlog = left;
            }
            (Replay::Elsewhere(elsewhere), None) if nobody => {
                let mut unkept = Vec::new();
                for noted in left.into_iter().map(|item| elsewhere.keep(item)) {
                    unkept.extend(noted.item);
                    handed.dropped.extend(noted.dropped);
                }
                handed.unkept = Some((elsewhere.clone(), unkept));
            }
            _ => handed.dropped = left,
        }
        handed
    }
}

/// The fate of the items that an observer has left unheard.
#[must_use]
pub(crate) struct HandedOn<T> {
    dropped: VecDeque<T>,
    /// The items that the main subject no longer keeps, since somebody has subscribed there meanwhile.
    unkept: Option<(Arc<dyn Elsewhere<T>>, Vec<T>)>,
}

impl<T> HandedOn<T> {
    /// Drops and emits them, outside the lock.
    pub(crate) fn finish(self) {
        discard(self.dropped);
        if let Some((elsewhere, items)) = self.unkept {
            items.into_iter().for_each(|item| elsewhere.emit(item));
        }
    }
}
