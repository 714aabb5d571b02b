//! Somebody who writes down what is heard.

use std::sync::mpsc::{self, Receiver};

use rxplus::prelude::*;

use super::PATIENCE;

/// What a subject emitted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard<T> {
    Item(T),
    Error(String),
    Complete,
}

impl<T> Heard<T> {
    /// The terminal event: the error if there is one.
    pub(crate) fn end(error: Option<&str>) -> Self {
        error.map_or(Self::Complete, |error| Self::Error(error.to_owned()))
    }

    pub(crate) fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }
}

/// Writes down what it hears, for the test's own thread.
pub(crate) struct Recorder<T>(Receiver<Heard<T>>);

/// An observer that sends on what it hears. Its end of the channel says when it is dropped.
#[derive(Clone)]
pub(crate) struct Pen<T>(pub(crate) mpsc::Sender<Heard<T>>);

impl<T, E: std::fmt::Display> Observer<T, E> for Pen<T> {
    fn next(&mut self, item: T) {
        // The test may be over.
        let _ = self.0.send(Heard::Item(item));
    }

    fn error(self, error: E) {
        let _ = self.0.send(Heard::Error(error.to_string()));
    }

    fn complete(self) {
        let _ = self.0.send(Heard::Complete);
    }

    fn is_closed(&self) -> bool {
        false
    }
}

impl<T: Send + 'static> Recorder<T> {
    /// Subscribes to any observable of rxplus's; the subscription lasts as long as its source.
    pub(crate) fn on<C>(source: C) -> Self
    where
        C: Observable,
        C::Inner: CoreObservable<C::With<Pen<T>>>,
    {
        let (pen, heard) = mpsc::channel();
        source.subscribe_with(Pen(pen));
        Self(heard)
    }

    /// Waits for whatever comes next.
    pub(crate) fn hear(&self) -> Heard<T> {
        self.0.recv_timeout(PATIENCE).expect("something is heard in time")
    }

    /// Waits for the next item.
    pub(crate) fn item(&self) -> T {
        match self.hear() {
            Heard::Item(item) => item,
            Heard::Error(error) => panic!("an error instead of an item: {error}"),
            Heard::Complete => panic!("completion instead of an item"),
        }
    }

    /// Waits for the first item that `wanted` finds something in, and returns that.
    pub(crate) fn find<R>(&self, mut wanted: impl FnMut(T) -> Option<R>) -> R {
        loop {
            if let Some(found) = wanted(self.item()) {
                return found;
            }
        }
    }

    /// The next `count` items.
    pub(crate) fn items(&self, count: usize) -> Vec<T> {
        (0..count).map(|_| self.item()).collect()
    }

    /// The items up to the one that is `last`.
    pub(crate) fn items_until(&self, last: &str) -> Vec<T>
    where
        T: PartialEq<str>,
    {
        let mut items = Vec::new();
        self.note_until(&mut items, |item| item == last);
        items
    }

    /// Notes the items up to the first that is `wanted`.
    pub(crate) fn note_until(&self, noted: &mut Vec<T>, wanted: impl Fn(&T) -> bool) {
        loop {
            noted.push(self.item());
            if noted.last().is_some_and(&wanted) {
                return;
            }
        }
    }

    /// Everything up to the terminal event, and that.
    pub(crate) fn to_the_end(&self) -> (Vec<T>, Heard<T>) {
        let mut items = Vec::new();
        loop {
            match self.hear() {
                Heard::Item(item) => items.push(item),
                end => return (items, end),
            }
        }
    }

    /// What has come and was not waited for.
    pub(crate) fn rest(&self) -> Vec<Heard<T>> {
        self.0.try_iter().collect()
    }
}

/// Calls back with each item, and leaves the answers to the test.
pub(crate) fn answers<T, R: Send + 'static>(answer: impl Fn(T) -> R) -> (impl Fn(T), Receiver<R>) {
    let (send, answers) = mpsc::channel();
    // The test may be over.
    (move |item| drop(send.send(answer(item))), answers)
}

/// The first event on `path` that `wanted` finds something in.
pub(crate) fn event_on<R>(
    events: &Recorder<TaggedData<ClientEvent>>,
    path: &str,
    wanted: impl Fn(ClientEvent) -> Option<R>,
) -> R {
    events.find(|TaggedData { tag, data, .. }| if tag == path { wanted(data) } else { None })
}
