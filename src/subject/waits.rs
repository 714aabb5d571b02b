//! [`Waits`]: who waits for a subject's deliveries, whatever the subject's types.

use std::{mem::take, task::Waker};

use crate::runtime::Place;

/// Who waits for a subject's deliveries, and what did in vain. Boxed, since nobody ever does for most of the many subjects.
#[derive(Default)]
pub(crate) struct Waits(Option<Box<Waiting>>);

#[derive(Default)]
pub(crate) struct Waiting {
    /// How many items the full inbox has refused.
    pub(crate) lost: u64,
    /// How many pushes wait for room.
    pub(crate) pushes: usize,
    /// The tasks that wait until nothing is left to be delivered.
    tasks: Vec<Waker>,
    /// The tasks that wait for a [share](crate::runtime::callback::SHARE) of deliveries by the thread that emits.
    pub(crate) creditors: Vec<Waker>,
    /// The value of `delivered` at which a task has waited in vain for another delivery.
    pub(crate) stuck_at: Option<u64>,
    /// Where tasks were asked to deliver: at most one per place, since a callback there can hold it up.
    asked: Vec<Place>,
}

/// Whether a task has to be asked to deliver at a place.
#[derive(PartialEq, Eq)]
pub(crate) enum Asked {
    /// The caller asks it now.
    Now,
    /// One was asked before, and is not done.
    Already,
}

impl Waits {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// To note somebody who waits.
    pub(crate) fn noted(&mut self) -> &mut Waiting {
        self.0.get_or_insert_default()
    }

    /// How many items the full inbox has refused.
    pub(crate) fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |waiting| waiting.lost)
    }

    pub(crate) fn any(&self) -> bool {
        let any = |waiting: &Waiting| waiting.pushes > 0 || !waiting.tasks.is_empty() || !waiting.creditors.is_empty();
        self.0.as_deref().is_some_and(any)
    }

    pub(crate) fn any_push(&self) -> bool {
        self.0.as_ref().is_some_and(|waiting| waiting.pushes > 0)
    }

    /// Whether a task has waited in vain for another delivery than these.
    pub(crate) fn is_stuck_at(&self, delivered: u64) -> bool {
        self.0.as_ref().is_some_and(|waiting| waiting.stuck_at == Some(delivered))
    }

    /// Notes a task that waits until nothing is left to be delivered.
    pub(crate) fn note_task(&mut self, task: &Waker) {
        let tasks = &mut self.noted().tasks;
        if !tasks.iter().any(|noted| noted.will_wake(task)) {
            tasks.push(task.clone());
        }
    }

    /// The tasks that wait until nothing is left to be delivered.
    pub(crate) fn take_tasks(&mut self) -> Vec<Waker> {
        self.0.as_mut().map(|waiting| take(&mut waiting.tasks)).unwrap_or_default()
    }

    /// The tasks that wait for a share of deliveries.
    pub(crate) fn take_creditors(&mut self) -> Vec<Waker> {
        self.0.as_mut().map(|waiting| take(&mut waiting.creditors)).unwrap_or_default()
    }

    /// Takes out one of the tasks that wait for a share of deliveries.
    pub(crate) fn take_creditor(&mut self, task: &Waker) -> Option<Waker> {
        let creditors = &mut self.noted().creditors;
        let at = creditors.iter().position(|creditor| creditor.will_wake(task))?;
        Some(creditors.swap_remove(at))
    }

    /// Notes that a task at `place` is to be asked to deliver.
    pub(crate) fn note_asked(&mut self, place: Place) -> Asked {
        let asked = &mut self.noted().asked;
        if asked.contains(&place) {
            return Asked::Already;
        }
        asked.push(place);
        Asked::Now
    }

    /// Notes that the task that was asked to deliver at `place` is done.
    pub(crate) fn note_done(&mut self, place: Place) {
        if let Some(waiting) = &mut self.0 {
            waiting.asked.retain(|asked| *asked != place);
        }
    }
}
