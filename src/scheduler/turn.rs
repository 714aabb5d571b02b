//! Turns: after one, a thread looks at its sockets, or its loop at the clock, before it goes on.

use std::{
    cell::RefCell,
    mem::take,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use tokio::{runtime::Handle, task};

use super::IoScheduler;
use crate::{
    IoRuntime,
    callback::{self, Drain},
};

thread_local! {
    /// What goes on after the turn of the [`RunLoop`](crate::RunLoop) that runs on this thread. tokio has such a list of its
    /// own.
    static AFTER_TURN: RefCell<Option<Vec<Next>>> = const { RefCell::new(None) };
}

/// What goes on after a turn of a loop.
enum Next {
    Task(Waker),
    Deliveries(Arc<dyn Drain>),
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

/// Has `deliveries` go on after the turn of this thread: on `home`, or on this thread's loop or runtime.
///
/// On the global runtime where this thread has none, or is in the middle of `block_on`, after which nobody may run its tasks.
pub(crate) fn hand_over(deliveries: Arc<dyn Drain>, home: Option<&IoScheduler>) {
    if let Some(home) = home {
        return home.spawn(deliver_next_turn(deliveries));
    }
    let Err(Next::Deliveries(deliveries)) = go_on_in_loop(Next::Deliveries(deliveries)) else { return };
    let deliver = deliver_next_turn(deliveries);
    match Handle::try_current() {
        Ok(runtime) if task::try_id().is_some() => drop(runtime.spawn(deliver)),
        _ => IoRuntime::global().spawn(deliver),
    }
}

/// Has `deliveries` made by a task on `home`.
pub(crate) fn deliver_on(home: &IoScheduler, deliveries: Arc<dyn Drain>) {
    let mut handed = Handed(Some(deliveries));
    home.spawn(async move { handed.deliver() });
}

/// Not an `async fn`, which would hold the bare deliveries until it is polled for the first time, and lose them with a runtime
/// that is shut down before.
fn deliver_next_turn(deliveries: Arc<dyn Drain>) -> impl Future<Output = ()> + Send {
    let mut handed = Handed(Some(deliveries));
    async move {
        task::yield_now().await;
        handed.deliver();
    }
}

/// Deliveries that a task is to make. If it is dropped with a runtime that is shut down, the global one makes them.
struct Handed(Option<Arc<dyn Drain>>);

impl Handed {
    fn deliver(&mut self) {
        if let Some(deliveries) = self.0.take() {
            deliver(deliveries);
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(deliveries) = self.0.take() {
            IoRuntime::global().spawn(deliver_next_turn(deliveries));
        }
    }
}

fn deliver(deliveries: Arc<dyn Drain>) {
    callback::begin_turn();
    callback::run(|| deliveries.drain());
}

/// Notes what goes on after the turn of a loop; gives it back where no loop runs.
fn go_on_in_loop(next: Next) -> Result<(), Next> {
    let mut next = Some(next);
    // Without its list, while it ends, a thread runs no loop.
    let _ = AFTER_TURN.try_with(|list| {
        if let Some(list) = &mut *list.borrow_mut() {
            list.extend(next.take());
        }
    });
    next.map_or(Ok(()), Err)
}

/// Makes this thread one that runs a loop, for as long as it lives.
pub(super) struct LoopTurns {
    /// The list of the loop that this one is run in.
    outer: Option<Vec<Next>>,
}

impl LoopTurns {
    pub(super) fn begin() -> Self {
        Self { outer: AFTER_TURN.replace(Some(Vec::new())) }
    }

    /// Goes on with what waits for the end of a turn. True when there was any.
    pub(super) fn end_turn(&self) -> bool {
        let next = AFTER_TURN.with_borrow_mut(|list| list.as_mut().map(take).unwrap_or_default());
        let any = !next.is_empty();
        next.into_iter().for_each(Next::go_on);
        any
    }
}

impl Drop for LoopTurns {
    fn drop(&mut self) {
        let rest = AFTER_TURN.replace(self.outer.take());
        for next in rest.into_iter().flatten() {
            match next {
                Next::Task(task) => task.wake(),
                Next::Deliveries(deliveries) => hand_over(deliveries, None),
            }
        }
    }
}

impl Next {
    fn go_on(self) {
        match self {
            Self::Task(task) => task.wake(),
            Self::Deliveries(deliveries) => deliver(deliveries),
        }
    }
}
