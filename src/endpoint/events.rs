//! [`Events`]: the events of an endpoint, each of which is traced as well.

use std::sync::{Arc, OnceLock, Weak};

use crate::{
    IoScheduler, SerializedSubject,
    endpoint::event::EndpointEvent,
    subject::{OnPanic, PanicHook, replay::Replay},
};

/// The events of an endpoint. What is pushed is a `tracing` event, too: once each, on the thread that pushes, and so inside
/// the span of the connection or client that it is about.
///
/// Told of it, as a [`PanicHook`], when a subscriber has panicked: that is an event.
pub(crate) struct Events<V> {
    core: Arc<Core<V>>,
}

struct Core<V> {
    /// The name of the endpoint.
    name: Arc<str>,
    home: IoScheduler,
    /// Made for the first subscriber where no events are kept for that one: nobody asks most connections for theirs. `None` once
    /// they have ended before anybody did.
    subject: OnceLock<Option<SerializedSubject<V>>>,
}

impl<V: EndpointEvent> Events<V> {
    /// None is kept for later subscribers.
    pub(crate) fn new(name: Arc<str>, home: IoScheduler) -> Self {
        Self { core: Arc::new(Core { name, home, subject: OnceLock::new() }) }
    }

    /// The first `count` are kept for the first subscriber.
    pub(crate) fn keeping(count: usize, name: Arc<str>, home: IoScheduler) -> Self {
        let events = Self::new(name, home);
        events.core.subject.get_or_init(|| Some(events.new_subject(Replay::first(count))));
        events
    }

    /// The name of the endpoint.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.core.name
    }

    /// The subject itself, to subscribe to it, and for events that are traced elsewhere.
    pub(crate) fn subject(&self) -> SerializedSubject<V> {
        let new = || self.new_subject(Replay::Nothing);
        let made = self.core.subject.get_or_init(|| Some(new()));
        made.clone().unwrap_or_else(|| {
            let ended = new();
            // Not as user code would: a subscriber inside a callback hears the end at once, too.
            ended.relay_end(None);
            ended
        })
    }

    fn new_subject(&self, replay: Replay<V>) -> SerializedSubject<V> {
        SerializedSubject::merging(self.core.home.clone(), replay, Some(self.on_panic()))
    }

    /// As [`SerializedSubject::next`].
    pub(crate) fn next(&self, event: V) {
        self.trace(&event);
        if let Some(subject) = self.made() {
            subject.next(event);
        }
    }

    /// As [`SerializedSubject::post`].
    pub(crate) fn post(&self, event: V) {
        self.core.post(event);
    }

    /// As [`next`](Self::next), for an event that is traced elsewhere: by the server of a connection.
    pub(crate) fn copy(&self, event: &V) {
        if let Some(subject) = self.made() {
            subject.next(event.clone());
        }
    }

    /// As [`copy`](Self::copy), under a lock: the caller is to [wake](Self::wake_home) those who deliver it.
    pub(crate) fn enqueue_copy(&self, event: &V) {
        if let Some(subject) = self.made() {
            subject.enqueue(event.clone());
        }
    }

    /// As [`SerializedSubject::wake_home`].
    pub(crate) fn wake_home(&self) {
        if let Some(subject) = self.made() {
            subject.wake_home();
        }
    }

    /// Traces an event that is pushed as a copy, since a lock is held then.
    pub(crate) fn trace(&self, event: &V) {
        event.trace(&self.core.name);
    }

    /// As [`trace`](Self::trace), and returns the event.
    pub(crate) fn traced(&self, event: V) -> V {
        self.trace(&event);
        event
    }

    /// Emits the last event, which is traced already.
    pub(crate) fn end(&self, last: V) {
        if let Some(subject) = self.core.subject.get_or_init(|| None) {
            // Both at once: an event behind the last one, such as that of a subscriber that panics on it, comes too late.
            subject.clone().complete_with(last);
        }
    }

    /// As [`SerializedSubject::delivered`].
    pub(crate) async fn delivered(&self) {
        if let Some(subject) = self.made() {
            subject.delivered().await;
        }
    }

    /// To be told of subscribers that panic. The endpoint stays no longer for it.
    pub(crate) fn on_panic(&self) -> PanicHook {
        let told: Weak<Core<V>> = Arc::downgrade(&self.core);
        told
    }

    /// Notes that user code has panicked on behalf of a subscriber.
    pub(crate) fn report_panic(&self) {
        self.core.note_panic();
    }

    fn made(&self) -> Option<&SerializedSubject<V>> {
        self.core.made()
    }
}

impl<V: EndpointEvent> Core<V> {
    fn made(&self) -> Option<&SerializedSubject<V>> {
        self.subject.get()?.as_ref()
    }

    fn post(&self, event: V) {
        event.trace(&self.name);
        if let Some(subject) = self.made() {
            subject.post(event);
        }
    }
}

impl<V: EndpointEvent> OnPanic for Core<V> {
    fn note_panic(&self) {
        self.post(V::subscriber_panicked());
    }
}

impl<V> Clone for Events<V> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, mpsc},
        thread,
        time::Duration,
    };

    use rxrust::prelude::*;

    use super::*;
    use crate::{Addr, Io, ServerEvent, endpoint::Feed, runtime::callback};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn refused(count: u64) -> ServerEvent {
        ServerEvent::Rejected { addr: Addr::Unix, status: None, reason: "".into(), count }
    }

    /// Subscribes, and tells of each event by its count and of the end by 0.
    fn listen(events: &Events<ServerEvent>) -> mpsc::Receiver<u64> {
        let (tell, told) = mpsc::channel();
        let (next, end) = (tell.clone(), tell);
        let feed: Io<Feed<ServerEvent>> = Feed::of(&events.subject(), &events.core.home);
        feed.on_complete(move || _ = end.send(0)).subscribe(move |event| {
            if let ServerEvent::Rejected { count, .. } = event {
                next.send(count).unwrap();
            }
        });
        told
    }

    fn heard(told: &mpsc::Receiver<u64>) -> Vec<u64> {
        let mut all = Vec::new();
        while all.last() != Some(&0) {
            all.push(told.recv_timeout(PATIENCE).unwrap());
        }
        all
    }

    #[test]
    fn events_without_a_subscriber_need_no_subject_and_the_first_subscriber_hears_all_later_ones() {
        let events = Events::new("endpoint".into(), IoScheduler::default());
        events.next(refused(1));
        events.copy(&refused(2));
        assert!(events.made().is_none());
        let told = listen(&events);
        events.next(refused(3));
        events.copy(&refused(4));
        events.end(refused(5));
        events.next(refused(6));
        assert_eq!(heard(&told), [3, 4, 5, 0]);
    }

    #[test]
    fn whoever_subscribes_to_ended_events_hears_the_end_alone() {
        let events = Events::new("endpoint".into(), IoScheduler::default());
        events.end(refused(1));
        assert_eq!(heard(&listen(&events)), [0]);
    }

    #[test]
    fn whoever_subscribes_while_the_events_end_hears_the_end() {
        for _ in 0..1_000 {
            let events = Events::new("endpoint".into(), IoScheduler::default());
            let start = Barrier::new(2);
            let told = thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    events.end(refused(1));
                });
                start.wait();
                listen(&events)
            });
            let all = heard(&told);
            assert!([&[1, 0][..], &[0]].contains(&&all[..]), "{all:?}");
        }
    }

    #[test]
    fn whoever_has_subscribed_hears_the_last_event_although_another_asks_for_the_events_at_once() {
        for number in 0..2_000 {
            let events = Events::new("endpoint".into(), IoScheduler::default());
            let start = Barrier::new(2);
            let told = thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    _ = events.subject();
                });
                start.wait();
                let told = listen(&events);
                events.end(refused(1));
                told
            });
            assert_eq!(heard(&told), [1, 0], "{number}");
        }
    }

    #[test]
    fn whoever_subscribes_to_ended_events_in_a_callback_hears_the_end_there() {
        let events = Events::new("endpoint".into(), IoScheduler::default());
        events.end(refused(1));
        let at_once = callback::run(|| listen(&events).try_recv());
        assert_eq!(at_once, Ok(0));
    }

    #[test]
    fn subscriber_that_panics_on_the_last_event_adds_none_behind_it_though_another_thread_delivers_it() {
        for _ in 0..500 {
            let events = Events::new("endpoint".into(), IoScheduler::default());
            let (tell, told) = mpsc::channel();
            let feed: Io<Feed<ServerEvent>> = Feed::of(&events.subject(), &events.core.home);
            feed.clone().subscribe(|event| assert!(!matches!(event, ServerEvent::EarlyLost)));
            feed.subscribe(move |event| tell.send(event).unwrap());
            thread::scope(|scope| {
                scope.spawn(|| (1..100).for_each(|number| events.next(refused(number))));
                events.end(ServerEvent::EarlyLost);
            });
            let last = told.iter().last();
            assert!(matches!(last, Some(ServerEvent::EarlyLost)), "{last:?}");
        }
    }
}
