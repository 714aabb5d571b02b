//! Turns: after one, a thread looks at its sockets, or its loop at the clock, before it goes on.

use std::{
    cell::RefCell,
    future::poll_fn,
    mem::take,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::{self, Handle},
    task,
};

use super::{
    IoScheduler,
    callback::{self, Drain, Rest},
    debts::{Debts, Standing},
    run_queue::Work,
};
use crate::IoRuntime;

/// A source of deliveries that a task is to make.
pub(crate) trait Deliver: Drain {
    /// Whether the task that was asked at `place` is done, since little is left; until then no other one is asked there.
    fn is_done_at(&self, place: Place) -> bool;

    /// Whether the end comes within a turn, or the next delivery is a mark that a task waits for: those do not wait until
    /// debts are paid.
    fn is_at_end(&self) -> bool;
}

/// The place at which a task is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the scheduler of a component: on this lane, by number, if the scheduler has lanes, and 0 otherwise.
    Home(u64),
    /// On a [`RunLoop`](crate::RunLoop) while it is run, by number.
    Loop(u64),
    Runtime(runtime::Id),
    /// On the global runtime.
    Global,
}

thread_local! {
    /// The continuations after a turn of the [`RunLoop`](crate::RunLoop) that runs on this thread. tokio has such a list of
    /// its own.
    static AFTER_TURN: RefCell<Option<AfterTurn>> = const { RefCell::new(None) };
}

#[cfg(feature = "test")]
thread_local! {
    /// The runtime that the test of this thread drives.
    static OF_TEST: std::cell::Cell<Option<runtime::Id>> = const { std::cell::Cell::new(None) };
}

struct AfterTurn {
    number: u64,
    next: Vec<Next>,
}

/// A continuation after a turn of a loop.
enum Next {
    Task(Waker),
    Deliveries(Handed),
}

/// Wakes the task of `cx` once this thread has looked at its sockets and timers, and at once where it has none.
///
/// A task that wakes itself instead is polled up to 61 times before tokio looks.
pub(crate) fn yield_now(cx: &mut Context<'_>) {
    if let Err(Next::Task(_)) = go_on_in_loop(Next::Task(cx.waker().clone())) {
        // Never ready the first time.
        let _ = pin!(task::yield_now()).poll(cx);
    }
}

/// Where the deliveries that this thread leaves are continued: on `home`, or on its loop or runtime.
///
/// On the global runtime where this thread has none, or is in the middle of `block_on`, after which nobody may run its
/// tasks.
pub(crate) fn place(home: Option<&IoScheduler>) -> Place {
    if let Some(home) = home {
        return Place::Home(home.lane());
    }
    if let Some(number) = loop_number() {
        return Place::Loop(number);
    }
    match Handle::try_current() {
        Ok(runtime) if runs_tasks(&runtime) => Place::Runtime(runtime.id()),
        _ => Place::Global,
    }
}

/// Whether `runtime`, in which this thread is, goes on to run tasks.
fn runs_tasks(runtime: &Handle) -> bool {
    task::try_id().is_some() || is_of_test(runtime)
}

/// Whether the test of this thread drives `runtime`: that goes on as soon as the test waits.
#[cfg(feature = "test")]
fn is_of_test(runtime: &Handle) -> bool {
    OF_TEST.get() == Some(runtime.id())
}

#[cfg(not(feature = "test"))]
fn is_of_test(_: &Handle) -> bool {
    false
}

/// Continues on `runtime`, from now on, what the test of this thread leaves: in its order, and on its clock.
#[cfg(feature = "test")]
pub(crate) fn go_on_in_test(runtime: &Handle) {
    OF_TEST.set(Some(runtime.id()));
    callback::begin_turn();
}

/// Continues `deliveries` at `place` after this turn. `home` is the [`Place::Home`].
pub(crate) fn hand_over(deliveries: Arc<dyn Deliver>, place: Place, home: Option<&IoScheduler>) {
    let handed = Handed::new(deliveries, place);
    match (place, home) {
        (Place::Home(_), Some(home)) => home.spawn(handed.deliver_next_turns()),
        (Place::Loop(_), _) => go_on_in_loop(Next::Deliveries(handed)).unwrap_or_else(drop),
        (Place::Runtime(_), _) => {
            let turns: Work = Box::pin(handed.deliver_next_turns());
            task::spawn(turns);
        }
        _ => IoRuntime::global().spawn(handed.deliver_next_turns()),
    }
}

/// Makes `deliveries` in a task on `home`, which is at `place`.
pub(crate) fn deliver_on(home: &IoScheduler, deliveries: Arc<dyn Deliver>, place: Place) {
    home.spawn(Handed::new(deliveries, place).deliver());
}

/// Deliveries that a task is to make. If it is dropped with a runtime that is shut down, the global one makes them.
struct Handed {
    /// `None` when all are made.
    deliveries: Option<Arc<dyn Deliver>>,
    place: Place,
    debts: Debts,
}

impl Handed {
    fn new(deliveries: Arc<dyn Deliver>, place: Place) -> Self {
        Self { deliveries: Some(deliveries), place, debts: Debts::default() }
    }

    /// Delivers in turns, the first of which begins at once.
    async fn deliver(mut self) {
        while poll_fn(|cx| Poll::Ready(self.turn(cx))).await == Rest::Much {
            self.end_turn().await;
        }
    }

    async fn deliver_next_turns(self) {
        task::yield_now().await;
        self.deliver().await;
    }

    /// Delivers for a turn.
    fn turn(&mut self, cx: &mut Context<'_>) -> Rest {
        callback::begin_turn();
        let Some(deliveries) = self.deliveries.clone() else { return Rest::Little };
        if deliveries.is_at_end() {
            self.drain(&deliveries);
        }
        if self.debts.pay(cx) == Standing::Clear {
            self.drain(&deliveries);
        }
        // Not while it owes: what comes meanwhile would find another task, which owes nothing.
        if !self.debts.are_owed() && deliveries.is_done_at(self.place) {
            self.deliveries = None;
        }
        if self.deliveries.is_some() { Rest::Much } else { Rest::Little }
    }

    fn drain(&mut self, deliveries: &Arc<dyn Deliver>) {
        self.debts.incur(|| callback::run(|| deliveries.clone().drain()));
    }

    /// Whether it waits for the threads that make the owed deliveries. Then the task of `cx` is woken in time.
    fn waits(&mut self, cx: &Context<'_>) -> bool {
        let waits = self.debts.until().is_some();
        if waits {
            self.debts.wake_in_time(cx);
        }
        waits
    }

    /// Lets the thread look at its sockets, and waits for the threads that make the owed deliveries.
    async fn end_turn(&mut self) {
        if self.debts.until().is_none() {
            return task::yield_now().await;
        }
        self.debts.woken().await;
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(deliveries) = self.deliveries.take() {
            IoRuntime::global().spawn(Self::new(deliveries, self.place).deliver_next_turns());
        }
    }
}

/// The number of the loop that this thread runs.
fn loop_number() -> Option<u64> {
    // A thread that is ending has lost its list and runs no loop.
    AFTER_TURN.try_with(|list| list.borrow().as_ref().map(|list| list.number)).ok().flatten()
}

pub(super) fn has_loop() -> bool {
    loop_number().is_some()
}

/// Notes a continuation after the turn of a loop; gives it back where no loop runs.
fn go_on_in_loop(next: Next) -> Result<(), Next> {
    let mut next = Some(next);
    let _ = AFTER_TURN.try_with(|list| {
        if let Some(list) = &mut *list.borrow_mut() {
            list.next.extend(next.take());
        }
    });
    next.map_or(Ok(()), Err)
}

/// Makes this thread one that runs a loop, for as long as it lives.
pub(super) struct LoopTurns {
    /// The list of the loop that this one is run in.
    outer: Option<AfterTurn>,
}

impl LoopTurns {
    pub(super) fn begin() -> Self {
        Self { outer: AFTER_TURN.replace(Some(AfterTurn { number: super::next_id(), next: Vec::new() })) }
    }

    /// Runs the continuations that wait for the end of a turn. Returns whether another turn is due at once; those that wait for
    /// another thread wake the loop, which is the task of `cx`.
    pub(super) fn end_turn(&self, cx: &mut Context<'_>) -> bool {
        let next =
            AFTER_TURN.with_borrow_mut(|list| list.as_mut().map(|list| take(&mut list.next)).unwrap_or_default());
        let goes_on = next.into_iter().map(|next| next.go_on(cx));
        goes_on.fold(false, |any, goes_on| any | goes_on)
    }
}

impl Drop for LoopTurns {
    fn drop(&mut self) {
        let rest = AFTER_TURN.replace(self.outer.take());
        for next in rest.into_iter().flat_map(|list| list.next) {
            match next {
                Next::Task(task) => callback::wake(task),
                Next::Deliveries(handed) => drop(handed),
            }
        }
    }
}

impl Next {
    /// Returns whether the loop is to go on at once.
    fn go_on(self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Task(task) => callback::wake(task),
            Self::Deliveries(mut handed) => {
                if handed.turn(cx) == Rest::Much {
                    let waits = handed.waits(cx);
                    go_on_in_loop(Self::Deliveries(handed)).unwrap_or_else(drop);
                    return !waits;
                }
            }
        }
        true
    }
}
