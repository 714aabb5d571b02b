//! [`Debts`]: deliveries that the callbacks of a task have caused and that nobody has made yet.
//!
//! A thread outside tokio waits when it pushes faster than observers take. A task of rxplus cannot wait in the middle of a
//! callback; so it owes, and makes as many deliveries as it has caused before it takes up anything new. Only a subject that
//! another thread delivers makes it wait, and not for long, since that thread may wait for this task in turn.

use std::{
    cell::RefCell,
    future::poll_fn,
    mem::{swap, take},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    IoRuntime,
    callback::{self, Delivered, Drain, Rest},
    yield_now,
};

/// How many items may wait in a subject that another thread delivers before a task whose callbacks push more is in debt.
pub(crate) const CREDIT: usize = 1_024;

/// How many deliveries of other threads pay for one. As many tasks may push into one subject side by side, and each of them
/// has seen the same deliveries.
const OTHERS: u64 = 16;

/// How long a task waits for the deliveries of another thread.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many generations of deliveries a task pays for. The pushes of the task itself are the first generation, the pushes
/// made while those are delivered the next, and so on. Chains of subjects are shorter, except those that never end.
const GENERATIONS: u8 = 16;

thread_local! {
    /// The debts of the task that is being polled, if it pays them.
    static OWED: RefCell<Option<Owed>> = const { RefCell::new(None) };
}

/// The debts of a task while it incurs them.
struct Owed {
    debts: Debts,
    generation: u8,
}

/// The debts of one task. One word, since it changes hands whenever the task is polled, and most tasks never owe.
#[derive(Default)]
pub(crate) struct Debts(Option<Box<Account>>);

/// The debts of a task that has owed before.
#[derive(Default)]
struct Account {
    owed: Vec<Debt>,
    /// When the task stops waiting for the deliveries of other threads.
    until: Option<Instant>,
    /// When the timer that is set wakes the task.
    timer: Option<Instant>,
}

struct Debt {
    subject: Arc<dyn Drain>,
    deliveries: usize,
    generation: u8,
    /// How many deliveries the subject had made when the task began to wait for those of another thread.
    seen: Option<u64>,
    /// The task, while the subject is to wake it.
    watching: Option<Waker>,
}

impl Debt {
    fn watch(&mut self, cx: &mut Context<'_>) -> Option<u64> {
        self.unwatch();
        let delivered = self.subject.watch(cx)?;
        self.watching = Some(cx.waker().clone());
        Some(delivered)
    }

    fn unwatch(&mut self) {
        if let Some(task) = self.watching.take() {
            self.subject.unwatch(&task);
        }
    }
}

/// A subject must not keep a task that is gone.
impl Drop for Debt {
    fn drop(&mut self) {
        self.unwatch();
    }
}

/// Gives the debts back to their task, even when its code panics.
struct Incurring<'a> {
    debts: &'a mut Debts,
    outer: Option<Owed>,
    was_in_debt: bool,
}

impl Drop for Incurring<'_> {
    fn drop(&mut self) {
        *self.debts = replace_owed(self.outer.take()).map_or_else(Debts::default, |owed| owed.debts);
        callback::set_in_debt(self.was_in_debt);
    }
}

/// A thread that is ending has lost its list and owes nothing.
fn replace_owed(owed: Option<Owed>) -> Option<Owed> {
    OWED.try_with(|list| list.replace(owed)).ok().flatten()
}

/// The standing of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It owes nothing.
    Clear,
    /// It has paid as much as this turn allows, and goes on in the next one.
    InDebt,
    /// Another thread is making the deliveries, and wakes it.
    Waiting,
}

impl Debts {
    fn account(&mut self) -> &mut Account {
        self.0.get_or_insert_default()
    }

    /// Runs `f`, in which this task calls observers. The turn ends when they cause a debt.
    pub(crate) fn incur<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.incur_of(0, f)
    }

    /// As `work`, a part of this task, in which all callbacks [incur](Self::incur) debts. It pays them by [`paid`] and the
    /// like, before it takes up anything new.
    pub(crate) fn owing<F: Future + Unpin>(&mut self, mut work: F) -> impl Future<Output = F::Output> {
        poll_fn(move |cx| self.incur(|| Pin::new(&mut work).poll(cx)))
    }

    fn incur_of<R>(&mut self, generation: u8, f: impl FnOnce() -> R) -> R {
        let was_in_debt = callback::set_in_debt(false);
        let outer = replace_owed(Some(Owed { debts: take(self), generation }));
        let _incurring = Incurring { debts: self, outer, was_in_debt };
        f()
    }

    /// Wakes a task that is [`Waiting`](Standing::Waiting) when its patience ends. For a task without timers of its own.
    pub(crate) fn wake_in_time(&mut self, cx: &Context<'_>) {
        let Some(until) = self.until() else { return };
        // One timer at a time: if it wakes the task too early for a later wait, that wait sets the next one.
        let timer = &mut self.account().timer;
        if timer.is_some_and(|timer| timer > Instant::now()) {
            return;
        }
        *timer = Some(until);
        let task = cx.waker().clone();
        IoRuntime::global().spawn(async move {
            sleep_until(until).await;
            callback::wake(task);
        });
    }

    /// Resolves when the task that is [`Waiting`](Standing::Waiting) has been woken since it last paid.
    pub(crate) fn woken(&mut self) -> impl Future<Output = ()> {
        let mut is_first = true;
        poll_fn(move |cx| {
            self.wake_in_time(cx);
            if take(&mut is_first) { Poll::Pending } else { Poll::Ready(()) }
        })
    }

    /// The time at which a task that is [`Waiting`](Standing::Waiting) must be polled again at the latest.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.0.as_ref()?.until
    }

    pub(crate) fn are_owed(&self) -> bool {
        self.0.as_ref().is_some_and(|account| !account.owed.is_empty())
    }

    /// Makes the owed deliveries, and those that they cause, as far as this turn reaches.
    pub(crate) fn pay(&mut self, cx: &mut Context<'_>) -> Standing {
        if self.0.is_none() {
            return Standing::Clear;
        }
        let standing = self.pay_in_turn(cx);
        let account = self.account();
        if standing != Standing::Waiting {
            account.until = None;
            return standing;
        }
        let now = Instant::now();
        if now < *account.until.get_or_insert(now + PATIENCE) {
            return Standing::Waiting;
        }
        account.until = None;
        for debt in account.owed.drain(..) {
            if let Some(seen) = debt.seen {
                debt.subject.note_stuck(seen);
            }
        }
        Standing::Clear
    }

    fn pay_in_turn(&mut self, cx: &mut Context<'_>) -> Standing {
        let mut is_waiting = false;
        // This ends: a debt caused by a payment is put behind the others, and is of the next generation.
        while !is_waiting && self.are_owed() {
            if callback::is_turn_over() {
                return Standing::InDebt;
            }
            is_waiting = true;
            for debt in take(&mut self.account().owed) {
                // A payment may leave a new debt, for which nobody has promised to wake this task.
                is_waiting &= self.pay_one(debt, cx) == Standing::Waiting;
            }
        }
        if is_waiting { Standing::Waiting } else { Standing::Clear }
    }

    /// Keeps the debt unless it is paid.
    fn pay_one(&mut self, mut debt: Debt, cx: &mut Context<'_>) -> Standing {
        if callback::is_turn_over() {
            self.account().owed.push(debt);
            return Standing::InDebt;
        }
        let (most, generation) = (debt.deliveries, debt.generation + 1);
        let Delivered { result: rest, count: delivered } = self.incur_of(generation, || {
            callback::with_share(most, || {
                let rest = callback::run(|| debt.subject.clone().drain());
                callback::deliver_deferred();
                rest
            })
        });
        debt.deliveries -= delivered.min(most);
        if rest == Rest::Little || debt.deliveries == 0 {
            return Standing::Clear;
        }
        let by_others = if delivered == 0 { debt.watch(cx) } else { None };
        let Some(now) = by_others else {
            debt.seen = None;
            self.account().owed.push(debt);
            return Standing::InDebt;
        };
        if now - *debt.seen.get_or_insert(now) >= OTHERS * debt.deliveries as u64 {
            return Standing::Clear;
        }
        self.account().owed.push(debt);
        Standing::Waiting
    }
}

/// As [`Debts::pay`], for the polled task.
pub(crate) fn pay(cx: &mut Context<'_>) -> Standing {
    if are_owed() { with_own(|debts| debts.pay(cx)) } else { Standing::Clear }
}

/// As [`Debts::until`], for the polled task.
pub(crate) fn until() -> Option<Instant> {
    OWED.try_with(|owed| owed.borrow().as_ref()?.debts.until()).ok().flatten()
}

/// Whether the polled task owes anything.
pub(crate) fn are_owed() -> bool {
    OWED.try_with(|owed| owed.borrow().as_ref().is_some_and(|owed| owed.debts.are_owed())).unwrap_or(false)
}

/// Runs `f` with the debts of the polled task: none, if it does not incur any.
fn with_own<R>(f: impl FnOnce(&mut Debts) -> R) -> R {
    let mut debts = Debts::default();
    swap_own(&mut debts);
    let result = f(&mut debts);
    swap_own(&mut debts);
    result
}

fn swap_own(debts: &mut Debts) {
    let _ = OWED.try_with(|owed| owed.borrow_mut().as_mut().map(|owed| swap(&mut owed.debts, debts)));
}

/// Makes the deliveries that the polled task owes, in turns, and waits for those of other threads.
pub(crate) async fn paid() {
    poll_fn(|cx| match pay_for_a_turn(cx) {
        Standing::Clear => Poll::Ready(()),
        Standing::InDebt => Poll::Pending,
        Standing::Waiting => {
            with_own(|debts| debts.wake_in_time(cx));
            Poll::Pending
        }
    })
    .await;
}

/// As [`paid`], but does not wait for other threads.
pub(crate) async fn settled() {
    poll_fn(|cx| match pay_for_a_turn(cx) {
        Standing::InDebt => Poll::Pending,
        Standing::Clear | Standing::Waiting => Poll::Ready(()),
    })
    .await;
}

/// Pays in a turn of its own, and begins another one if that is not enough.
fn pay_for_a_turn(cx: &mut Context<'_>) -> Standing {
    callback::begin_turn();
    let standing = pay(cx);
    if standing == Standing::InDebt {
        yield_now(cx);
    }
    standing
}

/// Obliges the polled task, if it pays debts, to make so many deliveries before it takes up anything new.
pub(crate) fn owe(subject: &Arc<dyn Drain>, deliveries: usize) {
    let _ = OWED.try_with(|owed| {
        let mut owed = owed.borrow_mut();
        let Some(Owed { debts, generation }) = owed.as_mut().filter(|owed| owed.generation < GENERATIONS) else {
            return;
        };
        let debts = &mut debts.account().owed;
        callback::set_in_debt(true);
        match debts.iter_mut().find(|debt| Arc::ptr_eq(&debt.subject, subject)) {
            Some(debt) => {
                debt.deliveries += deliveries;
                debt.generation = debt.generation.max(*generation);
            }
            None => {
                let subject = subject.clone();
                debts.push(Debt { subject, deliveries, generation: *generation, seen: None, watching: None });
            }
        }
    });
}
