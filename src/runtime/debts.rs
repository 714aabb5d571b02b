//! [`Debts`]: what a task's callbacks have pushed and nobody has delivered yet.
//!
//! A thread outside of tokio waits when it pushes faster than observers take. A task of ours cannot, in the middle of a
//! callback; so it owes, and takes up nothing new before the debt is paid.

use std::{
    cell::{Cell, RefCell},
    mem::take,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use crate::runtime::callback;

/// How many items may wait in a subject before a task whose callback pushes one more is in debt.
pub(crate) const CREDIT: usize = 1_024;

thread_local! {
    /// Beside `OWED` because it needs no destructor: reading it is a plain load.
    static IS_IN_DEBT: Cell<bool> = const { Cell::new(false) };
    /// The debts of the task that is being polled, if that is one that can wait.
    static OWED: RefCell<Option<Vec<Debt>>> = const { RefCell::new(None) };
}

/// Resolves when all is delivered that waited when it was made, and when nobody is left to deliver it.
type Debt = oneshot::Receiver<()>;

/// The debts of one task.
#[derive(Default)]
pub(crate) struct Debts(Vec<Debt>);

impl Debts {
    /// Ready when nothing is owed.
    pub(crate) fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.retain_mut(|debt| Pin::new(debt).poll(cx).is_pending());
        if self.0.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Runs `f`, which must not panic, and in which this task calls observers.
    pub(crate) fn incur<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let was_in_debt = IS_IN_DEBT.replace(!self.0.is_empty());
        let outer = OWED.replace(Some(take(&mut self.0)));
        let result = f();
        self.0 = OWED.replace(outer).unwrap_or_default();
        IS_IN_DEBT.set(was_in_debt);
        result
    }
}

/// Whether the task that is being polled may take up something new in this turn.
pub(crate) fn may_take_up_more() -> bool {
    !IS_IN_DEBT.get() && !callback::is_turn_over()
}

/// Has the task that is being polled wait for a queue of so many items, if that is too many and the task can wait. What is
/// returned is to be dropped once they are delivered.
pub(crate) fn owe(waiting: usize) -> Option<oneshot::Sender<()>> {
    if waiting <= CREDIT {
        return None;
    }
    OWED.with_borrow_mut(|owed| {
        let (paid, debt) = oneshot::channel();
        owed.as_mut()?.push(debt);
        IS_IN_DEBT.set(true);
        Some(paid)
    })
}
