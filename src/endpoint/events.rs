//! [`Events`]: the events of an endpoint, each of which is traced as well.

use std::{ops::Deref, sync::Arc};

use crate::{IoScheduler, SerializedSubject, endpoint::event::EndpointEvent, subject::replay::Replay};

/// The subject of an endpoint's events. What is pushed through it is a `tracing` event, too: once each, on the thread that
/// pushes, and so inside the span of the connection or client that it is about.
pub(crate) struct Events<V> {
    subject: SerializedSubject<V>,
    /// The name of the endpoint.
    name: Arc<str>,
}

impl<V: EndpointEvent> Events<V> {
    pub(crate) fn new(name: Arc<str>, home: IoScheduler, replay: Replay<V>) -> Self {
        let of = name.clone();
        let panicked = move || {
            let event = V::subscriber_panicked();
            event.trace(&of);
            event
        };
        Self { subject: SerializedSubject::reporting(home, replay, panicked), name }
    }

    /// The name of the endpoint.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// As [`SerializedSubject::next`].
    pub(crate) fn next(&self, event: V) {
        event.trace(&self.name);
        self.subject.next(event);
    }

    /// As [`SerializedSubject::post`].
    pub(crate) fn post(&self, event: V) {
        event.trace(&self.name);
        self.subject.post(event);
    }

    /// Traces an event that is pushed by way of [`copies`](Self::copies), since a lock is held then.
    pub(crate) fn trace(&self, event: &V) {
        event.trace(&self.name);
    }

    /// As [`trace`](Self::trace), and returns the event.
    pub(crate) fn traced(&self, event: V) -> V {
        event.trace(&self.name);
        event
    }

    /// The subject itself, for events that are traced elsewhere: by the server of a connection, by the client of a group.
    pub(crate) fn copies(&self) -> &SerializedSubject<V> {
        &self.subject
    }
}

/// For all that pushes nothing.
impl<V> Deref for Events<V> {
    type Target = SerializedSubject<V>;

    fn deref(&self) -> &SerializedSubject<V> {
        &self.subject
    }
}

impl<V> Clone for Events<V> {
    fn clone(&self) -> Self {
        Self { subject: self.subject.clone(), name: self.name.clone() }
    }
}
