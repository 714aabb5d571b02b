//! [`Recording`]: what an observable has emitted, and when.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rxrust::observer::Observer;
use tokio::time::Instant;

/// An event of an observable.
#[derive(Clone, Debug, PartialEq)]
pub enum Noted<T> {
    /// An item.
    Next(T),
    /// The error that ended it, as text.
    Error(String),
    /// Its completion.
    Complete,
}

/// Events, and the times since the network was made.
type Shared<T> = Arc<Mutex<Vec<(Duration, Noted<T>)>>>;

/// What an observable has emitted since [`TestNetwork::record`](super::TestNetwork::record).
#[derive(Debug)]
pub struct Recording<T> {
    noted: Shared<T>,
}

/// The observer that writes.
#[derive(Debug)]
pub struct Pen<T> {
    noted: Shared<T>,
    begun: Instant,
}

impl<T> Recording<T> {
    pub(super) fn new() -> Self {
        Self { noted: Arc::default() }
    }

    pub(super) fn pen(&self, begun: Instant) -> Pen<T> {
        Pen { noted: self.noted.clone(), begun }
    }

    /// Takes what has come so far, with the times since the network was made. The recording is empty then.
    #[must_use]
    pub fn take(&self) -> Vec<(Duration, Noted<T>)> {
        std::mem::take(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what has come so far, as [`take`](Self::take), and returns the items alone.
    #[must_use]
    pub fn items(&self) -> Vec<T> {
        self.take()
            .into_iter()
            .filter_map(|(_, noted)| if let Noted::Next(item) = noted { Some(item) } else { None })
            .collect()
    }

    /// Takes what has come so far, as [`take`](Self::take), a line each: `120s next "hello"`, `1.5s error ...`, `3600s complete`.
    #[must_use]
    pub fn log(&self) -> Vec<String>
    where
        T: fmt::Debug,
    {
        let line = |(time, noted): (Duration, Noted<T>)| match noted {
            Noted::Next(item) => format!("{time:?} next {item:?}"),
            Noted::Error(error) => format!("{time:?} error {error}"),
            Noted::Complete => format!("{time:?} complete"),
        };
        self.take().into_iter().map(line).collect()
    }
}

impl<T> Pen<T> {
    fn note(&self, noted: Noted<T>) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).push((self.begun.elapsed(), noted));
    }
}

impl<T, E: fmt::Display> Observer<T, E> for Pen<T> {
    fn next(&mut self, item: T) {
        self.note(Noted::Next(item));
    }

    fn error(self, error: E) {
        self.note(Noted::Error(error.to_string()));
    }

    fn complete(self) {
        self.note(Noted::Complete);
    }

    fn is_closed(&self) -> bool {
        false
    }
}
