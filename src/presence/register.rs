//! [`Register`]: who is there on a server without a bus.

use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{
    Held, Keeping, Registry, Unwatch,
    roster::{Place, Roster, presence},
    watchers::{Emission, Present, Watchers},
};
use crate::{
    IoScheduler, Presence, SerializedSubject, Tag, TaggedData,
    runtime::debts,
    subject::{Backlog, PanicHook, replay::Replay},
};

/// The number of the server among those whose observers hear of all tags: there is no other.
const ONLY: u64 = 0;

/// The connections of one server.
pub(crate) struct Register {
    server: Arc<str>,
    /// Where observers are called, and what happens when one panics.
    home: IoScheduler,
    on_panic: Option<PanicHook>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    roster: Roster,
    watchers: Watchers,
    is_over: bool,
}

/// The subject that observers of all tags share.
pub(crate) fn subject_of_all(
    home: &IoScheduler,
    on_panic: Option<&PanicHook>,
) -> SerializedSubject<TaggedData<Presence>> {
    SerializedSubject::at_home(home.clone(), Replay::Keyed(Box::<Present>::default()), on_panic.cloned())
}

/// Resolves at `time`, or never; in any case after a look at the sockets.
pub(crate) async fn until(time: Option<Instant>) {
    match time {
        Some(time) if time <= Instant::now() => yield_now().await,
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

impl Register {
    pub(crate) fn new(server: Arc<str>, home: IoScheduler, on_panic: Option<PanicHook>) -> Self {
        let state = State { roster: Roster::default(), watchers: Watchers::default(), is_over: false };
        Self { server, home, on_panic, state: Mutex::new(state), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, tag: &Tag, change: impl FnOnce(&mut Roster, &Place)) -> bool {
        let place = Place { path: tag.clone(), server: self.server.clone() };
        let mut state = self.lock();
        change(&mut state.roster, &place);
        state.watchers.note(tag)
    }

    async fn keep(&self) -> Infallible {
        loop {
            debts::paid().await;
            let (due, next) = self.lock().turn(Instant::now());
            due.into_iter().for_each(Emission::emit);
            tokio::select! {
                () = self.changed.notified() => {}
                () = until(next) => {}
            }
        }
    }
}

impl State {
    fn turn(&mut self, now: Instant) -> (Vec<Emission>, Option<Instant>) {
        let roster = &self.roster;
        let due = self.watchers.take_due(now, |tag| presence([roster].into_iter(), tag));
        (due, self.watchers.next())
    }
}

impl Registry for Register {
    fn count_in(&self, tag: &Tag, id: u64, name: Option<&Arc<str>>) -> bool {
        self.change(tag, |roster, place| roster.join(place, id, name.cloned()))
    }

    fn count_out(&self, tag: &Tag, id: u64, _: Option<&Arc<str>>) -> bool {
        self.change(tag, |roster, place| roster.leave(place, id))
    }

    fn wake(&self) {
        self.changed.notify_one();
    }

    fn watch(self: Arc<Self>) -> (SerializedSubject<TaggedData<Presence>>, Held) {
        let subject = || subject_of_all(&self.home, self.on_panic.as_ref());
        let mut state = self.lock();
        let State { roster, watchers, is_over } = &mut *state;
        let (subject, is_over) =
            (watchers.watch(ONLY, Instant::now(), || roster.tags().cloned().collect(), subject), *is_over);
        drop(state);
        self.wake();
        if is_over {
            subject.clone().complete();
        }
        let same = self.clone();
        let watching = Unwatch(move || {
            let unwatched = same.lock().watchers.unwatch(ONLY);
            drop(unwatched);
        });
        (subject, Box::new(watching))
    }

    fn end(&self) -> Vec<Arc<dyn Backlog>> {
        let mut state = self.lock();
        let State { roster, watchers, is_over } = &mut *state;
        *is_over = true;
        let due = watchers.end(ONLY, |tag| presence([&*roster].into_iter(), tag));
        drop(state);
        Emission::emit_all(due)
    }

    fn is_here(&self, server: &str) -> bool {
        *self.server == *server
    }

    fn keep(&self) -> Keeping<'_> {
        Box::pin(self.keep())
    }
}
