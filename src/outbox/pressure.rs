//! [`Pressure`]: how full an outbox is, for a program that wants to slow down before anything is lost.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{
        AtomicBool,
        Ordering::{AcqRel, Acquire, Release},
    },
};

use super::{Outbox, queue::State};
use crate::{
    IoScheduler, SerializedSubject,
    outbox::effects::News,
    stats::Tally,
    subject::{PanicHook, replay::Replay},
};

/// How full an outbox is, as [`pressure()`](crate::RxWsClient::pressure) emits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pressure {
    /// It has drained to a quarter of its bounds, or was never high: push on.
    Low,
    /// It has filled to three quarters of one of its bounds, of messages or of bytes: slow down.
    High,
}

/// What tells a change of the pressure, on the home thread of the endpoint.
pub(super) struct Gauge {
    subject: SerializedSubject<Pressure>,
    home: IoScheduler,
    is_high: AtomicBool,
    /// The outbox has ended.
    is_over: AtomicBool,
    /// A task is on its way that tells the present pressure, so that no second one is needed.
    is_due: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Level(Pressure),
    End,
}

impl Gauge {
    fn new(home: IoScheduler, level: Pressure, on_panic: Option<PanicHook>) -> Self {
        Self {
            subject: SerializedSubject::at_home(home.clone(), Replay::latest(level), on_panic),
            home,
            is_high: AtomicBool::new(level == Pressure::High),
            is_over: AtomicBool::new(false),
            is_due: AtomicBool::new(false),
            told: Mutex::new(Told::Level(level)),
        }
    }

    fn level(&self) -> Pressure {
        if self.is_high.load(Acquire) { Pressure::High } else { Pressure::Low }
    }

    /// Notes how full the outbox is. Returns whether that has to be told. Called under the lock of the outbox.
    fn note(&self, is_high: bool) -> bool {
        self.is_high.swap(is_high, AcqRel) != is_high
    }

    /// Lets the home thread tell the change. However often the pressure changes meanwhile, one task is on its way.
    pub(super) fn tell(self: Arc<Self>) {
        if self.is_over.load(Acquire) {
            // At once: the runtime may have been shut down.
            self.tell_end();
        } else if !self.is_due.swap(true, AcqRel) {
            let home = self.home.clone();
            home.spawn(async move { self.tell_here() });
        }
    }

    fn tell_here(&self) {
        // Before the look: what changes behind it brings another task.
        self.is_due.swap(false, AcqRel);
        // Tasks of a runtime of several threads come one after the other.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.enqueue(&mut told);
        drop(told);
        self.subject.wake_home();
    }

    fn enqueue(&self, told: &mut Told) {
        let level = self.level();
        if *told != Told::End && *told != Told::Level(level) {
            self.subject.enqueue(level);
            *told = Told::Level(level);
        }
    }

    fn tell_end(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.enqueue(&mut told);
        *told = Told::End;
        drop(told);
        self.subject.clone().complete();
    }
}

impl State {
    /// Whether changes of the pressure are told.
    #[inline]
    pub(super) fn has_gauge(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.gauge.is_some())
    }

    /// Notes that the queue has become longer or shorter.
    #[cold]
    pub(super) fn note_fill(&mut self) {
        if !self.has_gauge() {
            return;
        }
        let (held, room) = (self.bounded(), self.room());
        let Some(rare) = &mut self.rare else { return };
        let Some(gauge) = &rare.gauge else { return };
        let is_high = match gauge.level() {
            Pressure::Low => is_high(held, room),
            Pressure::High => !is_low(held, room),
        };
        if gauge.note(is_high) {
            rare.spent.tell(News::Pressure(gauge.clone()));
        }
    }

    fn gauge(&mut self, home: &IoScheduler, on_panic: Option<PanicHook>) -> Arc<Gauge> {
        let (level, is_over) = match is_high(self.bounded(), self.room()) {
            true => (Pressure::High, self.rare().is_over),
            false => (Pressure::Low, self.rare().is_over),
        };
        let new = || {
            let gauge = Gauge::new(home.clone(), level, on_panic);
            gauge.is_over.store(is_over, Release);
            Arc::new(gauge)
        };
        self.rare().gauge.get_or_insert_with(new).clone()
    }

    /// Notes that the queue is empty and stays so.
    pub(super) fn end_gauge(&mut self) {
        let rare = self.rare();
        rare.is_over = true;
        if let Some(gauge) = &rare.gauge {
            gauge.is_over.store(true, Release);
            rare.spent.tell(News::Pressure(gauge.clone()));
        }
    }
}

/// Whether three quarters of a bound are reached.
fn is_high(held: Tally, room: Tally) -> bool {
    let mark = |bound: u64| bound - bound / 4;
    held.messages > 0 && (held.messages >= mark(room.messages) || held.len >= mark(room.len))
}

/// Whether at most a quarter of each bound is used.
fn is_low(held: Tally, room: Tally) -> bool {
    held.messages <= room.messages / 4 && held.len <= room.len / 4
}

impl Outbox {
    /// The pressure, the present one first, and then each change. Emits on `home`, and completes with the outbox.
    pub(crate) fn pressure(&self, home: &IoScheduler, on_panic: Option<PanicHook>) -> SerializedSubject<Pressure> {
        let gauge = self.change(|state| state.gauge(home, on_panic));
        if gauge.is_over.load(Acquire) {
            gauge.clone().tell();
        }
        gauge.subject.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_lie_at_three_quarters_and_a_quarter_of_either_bound() {
        let tally = |messages, len| Tally { messages, len };
        let room = tally(8, 100);
        for (held, high, low) in [
            (tally(0, 0), false, true),
            (tally(2, 25), false, true),
            (tally(3, 25), false, false),
            (tally(2, 26), false, false),
            (tally(5, 74), false, false),
            (tally(6, 0), true, false),
            (tally(1, 75), true, false),
        ] {
            assert_eq!((is_high(held, room), is_low(held, room)), (high, low), "{held:?}");
        }
        // The one place of the smallest outbox.
        assert!(is_high(tally(1, 0), tally(1, 9)) && is_low(tally(0, 0), tally(1, 9)));
        assert!(!is_high(tally(0, 0), tally(1, 0)));
    }
}
