//! How an observer joins: it hears its backlog, then takes its place among the others.

use std::{mem::take, sync::Arc, vec};

use rxrust::observer::BoxedObserverSend;

use crate::{
    runtime::callback,
    subject::{
        core::Core,
        delivery::discard_all,
        replay::{Elsewhere, Noted, Replay},
        state::{Slot, State, Terminal},
    },
    sync::{AtomicBool, MutexGuard, Ordering},
};

/// An observer that has subscribed.
pub(crate) struct Joining<T, E> {
    pub(crate) slot: Slot<T, E>,
    /// The items that it hears first.
    pub(crate) backlog: vec::IntoIter<T>,
}

impl<T, E> Joining<T, E> {
    /// It has heard its backlog.
    fn is_done(&self) -> bool {
        self.backlog.len() == 0
    }

    pub(crate) fn may_go_on(&self) -> bool {
        self.is_done() || !callback::is_turn_over()
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Core<T, E> {
    /// Adds an observer, and returns its number.
    pub(crate) fn join(self: &Arc<Self>, open: Arc<AtomicBool>, observer: BoxedObserverSend<'static, T, E>) -> u64 {
        let mut state = self.lock();
        state.subscribed += 1;
        let number = state.subscribed;
        let backlog = state.replay.backlog().into_iter();
        let joining = Joining { slot: Slot { number, open, observer }, backlog };
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
            Some(mut observers) if joining.is_done() && state.joining.is_empty() => {
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
        while state.joining.front().is_some_and(Joining::may_go_on)
            && let Some(mut first) = state.joining.pop_front()
        {
            drop(state);
            self.play_backlog(&mut first, callback::may_deliver);
            if first.slot.is_open() {
                state = self.lock();
                match first.is_done() {
                    true => observers.push(first.slot),
                    false => state.joining.push_front(first),
                }
                continue;
            }
            let Joining { slot, backlog } = first;
            self.dismiss(slot);
            let handed = self.lock().hand_on(backlog, !observers.iter().any(Slot::is_open));
            handed.finish();
            state = self.lock();
        }
        state
    }
}

impl<T: Clone, E: Clone> Core<T, E> {
    /// Delivers its backlog to an observer, for as long as `may_go_on`.
    fn play_backlog(&self, Joining { slot, backlog }: &mut Joining<T, E>, may_go_on: impl Fn() -> bool) {
        while slot.is_open()
            && backlog.len() > 0
            && may_go_on()
            && let Some(item) = backlog.next()
        {
            self.give(slot, item);
        }
    }
}

impl<T, E> Core<T, E> {
    pub(crate) fn dismiss_joining(&self, Joining { slot, backlog }: Joining<T, E>) {
        self.dismiss(slot);
        discard_all(backlog);
    }
}

impl<T: Clone, E: Clone> State<T, E> {
    /// Takes the items of a backlog that an observer has left unheard: the next observer hears them, or the main subject
    /// keeps them. Only inside a callback.
    pub(crate) fn hand_on(&mut self, left: vec::IntoIter<T>, nobody: bool) -> HandedOn<T> {
        let mut handed = HandedOn { dropped: Vec::new(), unkept: None };
        match (&self.replay, self.joining.front_mut()) {
            (Replay::Elsewhere(_), Some(next)) => {
                let mut all = Vec::new();
                all.extend(left);
                all.extend(take(&mut next.backlog));
                next.backlog = all.into_iter();
            }
            (Replay::Elsewhere(elsewhere), None) if nobody => {
                let mut unkept = Vec::new();
                for item in left {
                    let Noted { item, mut dropped } = elsewhere.keep(item);
                    handed.dropped.append(&mut dropped);
                    if let Some(item) = item {
                        unkept.push(item);
                    }
                }
                handed.unkept = Some((elsewhere.clone(), unkept));
            }
            _ => handed.dropped.extend(left),
        }
        handed
    }
}

/// The fate of the items that an observer has left unheard.
#[must_use]
pub(crate) struct HandedOn<T> {
    dropped: Vec<T>,
    /// The items that the main subject no longer keeps, since somebody has subscribed there meanwhile.
    unkept: Option<(Arc<dyn Elsewhere<T>>, Vec<T>)>,
}

impl<T> HandedOn<T> {
    /// Drops and emits them, outside the lock.
    pub(crate) fn finish(self) {
        discard_all(self.dropped);
        if let Some((elsewhere, items)) = self.unkept {
            for item in items {
                elsewhere.emit(item);
            }
        }
    }
}
