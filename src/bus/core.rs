//! What the handles, the subscribers, the servers and the task of a bus share.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    DatatypeError, DropReason, Frame, IoScheduler, SendError, SerializedSubject, Stats, Tag, TaggedData, Tally,
    WsDatatype, WsError, WsText,
    bus::{
        broker::{Envelope, Kind},
        event::BusEvent,
        interests::{Interests, Scope},
        numbers::{Hearing, Receiving},
        outbox::{BusOutbox, Pushed},
        presence::Tracker,
        servers::Servers,
        subject_name,
    },
    endpoint::{
        CloseReport, Component, ConnectionState, EndpointCore, Received, codec::Codec, incoming::IncomingCounts,
    },
    fate::Fate,
    outbox::OutboxBound,
    random,
    runtime::{UserValue, guard::Death},
    subject::replay::Replay,
};

/// How long a bus that was completed may take to send what is queued.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

const NO_SUBJECT: &str = "the path has no subject: it must begin with / and have at most 512 bytes as a subject";

/// What a bus is made with, beside its broker.
pub(crate) struct Options {
    pub(crate) name: Arc<str>,
    pub(crate) prefix: String,
    pub(crate) outbox: OutboxBound,
}

/// What the broker knows of this bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    /// The interests up to this number.
    UpTo(u64),
    /// The last link has ended, since the bus is to end.
    Ending,
    /// The bus has been completed.
    Completed,
    /// The bus has ended with an error.
    Failed,
}

impl Told {
    /// Whether somebody who counts on the bus has to do without it. A bus that is completed is wanted no more.
    pub(crate) fn is_lost(self) -> bool {
        matches!(self, Self::Nothing | Self::Failed)
    }
}

/// A bus, as its handles and its task share it.
pub(crate) struct BusCore<D: WsDatatype> {
    pub(crate) component: Component<TaggedData<Received<D::Item>>, BusEvent>,
    pub(crate) outbox: BusOutbox,
    pub(crate) interests: Arc<Interests>,
    pub(crate) servers: Servers<D::Item>,
    pub(crate) presence: Arc<Tracker>,
    /// The states that `state()` emits.
    pub(crate) states: SerializedSubject<ConnectionState>,
    /// How many bytes the broker takes. No limit is known before the first link.
    pub(crate) max_len: AtomicUsize,
    /// How many links there have been.
    pub(crate) links: AtomicU64,
    /// Which interests the broker knows of.
    pub(crate) told: watch::Sender<Told>,
    codec: Codec<D>,
    prefix: String,
    /// The name under which it publishes.
    publisher: Arc<str>,
    heard: Mutex<Receiving>,
    counts: IncomingCounts,
    /// A pushed item as subscribers receive it. The two types are the same: whoever makes a bus knows, and nobody else must.
    echoed: fn(&D::Outgoing) -> D::Item,
}

impl<D: WsDatatype> EndpointCore for BusCore<D> {
    type Item = TaggedData<D::Outgoing>;
    type Arrived = TaggedData<Received<D::Item>>;
    type Event = BusEvent;

    fn component(&self) -> &Component<Self::Arrived, BusEvent> {
        &self.component
    }

    fn offer(
        self: &Arc<Self>,
        tagged: &TaggedData<D::Outgoing>,
        _fate: Option<&Arc<dyn Fate>>,
    ) -> Result<(), SendError<()>> {
        if self.is_closing() {
            return Err(SendError::Closed(()));
        }
        let frame = self.codec.encode(&tagged.tag, &tagged.data, || self.is_closing())?;
        self.push(tagged, &frame, None)
    }

    fn unencodable(&self, tagged: TaggedData<D::Outgoing>, error: DatatypeError) -> BusEvent {
        match subject_name::subject(&self.prefix, &tagged.tag) {
            Some(_) => BusEvent::Unencodable { path: tagged.tag, error, count: 1 },
            None => BusEvent::Unroutable { path: tagged.tag, why: error.to_string().into(), count: 1 },
        }
    }

    fn finish(&self, how: Result<(), WsError>) {
        if self.component.ask_to_end(how) {
            if let Some(farewell) = self.presence.farewell() {
                self.outbox.note(farewell);
            }
            self.outbox.close(CLOSE_TIMEOUT);
        }
    }

    fn is_closing(&self) -> bool {
        self.outbox.is_closing()
    }
}

impl<D: WsDatatype> BusCore<D> {
    pub(crate) fn new(datatype: D, options: Options, home: IoScheduler, echoed: fn(&D::Outgoing) -> D::Item) -> Self {
        let component = Component::keeping_events(options.name, home.clone());
        let on_panic = Some(component.events.on_panic());
        let disconnected = Replay::latest(ConnectionState::Disconnected);
        let states = SerializedSubject::at_home(home.clone(), disconnected, on_panic.clone());
        let publisher: Arc<str> = publisher().into();
        Self {
            component,
            outbox: BusOutbox::new(options.outbox, &options.prefix, &publisher),
            interests: Arc::default(),
            servers: Servers::default(),
            presence: Tracker::new(publisher.clone(), home, on_panic),
            states,
            max_len: AtomicUsize::new(usize::MAX),
            links: AtomicU64::new(0),
            told: watch::Sender::new(Told::Nothing),
            codec: Codec::new(UserValue::new(Arc::new(datatype)), None),
            prefix: options.prefix,
            publisher,
            heard: Mutex::default(),
            counts: IncomingCounts::default(),
            echoed,
        }
    }

    /// As [`offer`](EndpointCore::offer) for a server: encodes the item only where the server's own frame does not do, and
    /// reports by an event what is not sent.
    pub(crate) fn offer_from(
        &self,
        tagged: &TaggedData<D::Outgoing>,
        frame: Option<&Frame>,
        from: u64,
    ) -> Result<(), SendError<()>> {
        if self.is_closing() {
            return Err(SendError::Closed(()));
        }
        let encoded = match frame {
            Some(frame) => Ok(frame.clone()),
            None => self.codec.encode(&tagged.tag, &tagged.data, || self.is_closing()),
        };
        let sent = encoded.and_then(|frame| self.push(tagged, &frame, Some(from)));
        if let Err(SendError::Encode((), error)) = &sent {
            self.component.events.post(self.unencodable(tagged.clone(), error.clone()));
        }
        sent
    }

    /// Passes a message to all in this process at once, but for the server that it comes from, and queues it for the others.
    fn push(&self, tagged: &TaggedData<D::Outgoing>, frame: &Frame, from: Option<u64>) -> Result<(), SendError<()>> {
        let sent = self.send_out(&tagged.tag, frame);
        self.echo(tagged, frame, from);
        sent
    }

    fn send_out(&self, path: &Tag, frame: &Frame) -> Result<(), SendError<()>> {
        let max_len = self.max_len.load(Relaxed);
        if frame.len() > max_len {
            self.codec.count_unencodable();
            return Err(SendError::Encode((), too_long(frame.len(), max_len)));
        }
        let (events, mut told) = (&self.component.events, None);
        let pushed = self.outbox.push(path, frame, |dropped| {
            let event = BusEvent::Dropped { reason: DropReason::Overflow, dropped };
            events.enqueue_copy(&event);
            told = Some(event);
        });
        if let Some(event) = told {
            events.trace(&event);
            events.wake_home();
        }
        match pushed {
            Pushed::Queued { .. } => Ok(()),
            Pushed::Refused { why, .. } => Err(why.of(())),
            Pushed::Unroutable => Err(SendError::Encode((), DatatypeError::new(NO_SUBJECT))),
        }
    }

    fn echo(&self, tagged: &TaggedData<D::Outgoing>, frame: &Frame, from: Option<u64>) {
        let (subscribed, has_servers) =
            (self.interests.subscribed(&tagged.tag), self.interests.has_servers(&tagged.tag));
        if subscribed.is_empty() && !has_servers {
            return;
        }
        let echoed = TaggedData::with_key(tagged.tag.clone(), (self.echoed)(&tagged.data));
        if has_servers {
            self.servers.deliver(&echoed, frame, from);
        }
        for interest in subscribed {
            self.emit(echoed.clone(), frame.len(), interest);
        }
    }

    fn emit(&self, tagged: TaggedData<D::Item>, len: usize, interest: u64) {
        self.component.inbound.next(tagged.map(|item| Received { item, len, from: interest }));
    }

    /// Takes a message that has come for an interest.
    pub(crate) fn receive(&self, interest: u64, envelope: Envelope) {
        let Some(hearers) = self.interests.hearers(interest) else { return };
        let path = match hearers.scope {
            Scope::Path(path) => path,
            Scope::Presence(_) => return self.presence.receive(&envelope),
            // Another program may use a subject that is no path.
            Scope::All | Scope::Under(_) => match subject_name::path(&self.prefix, &envelope.subject) {
                Some(path) => path.into(),
                None => return,
            },
        };
        if !self.is_new(interest, &path, &envelope) {
            return;
        }
        let len = envelope.payload.len();
        match self.decode(&path, &envelope) {
            Ok((item, frame)) => {
                self.counts.count_received(len);
                let tagged = TaggedData::with_key(path, item);
                if hearers.has_servers {
                    self.servers.deliver(&tagged, &frame, None);
                }
                if hearers.has_subscribers {
                    self.emit(tagged, len, interest);
                }
            }
            Err(error) => {
                self.counts.count_undecodable();
                let from = envelope.mark.map(|mark| mark.stamp.publisher);
                self.component.events.next(BusEvent::Undecodable { path, from, error, len, count: 1 });
            }
        }
    }

    /// Whether a message is one to emit. Reports those that are missing before it.
    fn is_new(&self, interest: u64, path: &Tag, envelope: &Envelope) -> bool {
        let Some(mark) = &envelope.mark else { return true };
        // A broker sends no link what that link has published. But what an earlier link has left on the way may reach the broker
        // behind the subscriptions of this one.
        if mark.stamp.is_of(&self.publisher) {
            return false;
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_new, missed) = match mark.kind {
            Kind::Beat => (false, heard.beat(interest, &mark.stamp, path)),
            // That of a bus whose prefix is like this one's.
            Kind::Presence => (false, 0),
            Kind::Text | Kind::Binary => match heard.hear(interest, &mark.stamp, path) {
                Hearing::Next => (true, 0),
                Hearing::Double => (false, 0),
                Hearing::Gap(missed) => (true, missed),
            },
        };
        drop(heard);
        if missed > 0 {
            let from = mark.stamp.publisher.clone();
            self.component.events.next(BusEvent::Gap { path: path.clone(), from, missed });
        }
        is_new
    }

    /// The item in a message, and the frame that it is.
    fn decode(&self, path: &Tag, envelope: &Envelope) -> Result<(D::Item, Frame), DatatypeError> {
        let as_text = || String::from_utf8(envelope.payload.to_vec()).map(|text| Frame::Text(WsText::from(text)));
        let binary = || Frame::Binary(envelope.payload.clone());
        let decode = |frame: Frame| Ok((self.codec.decode(path, frame.clone())?, frame));
        match envelope.mark.as_ref().map(|mark| mark.kind) {
            Some(Kind::Text) => {
                as_text().map_err(|error| DatatypeError::with_source("text that is no UTF-8", error)).and_then(decode)
            }
            Some(_) => decode(binary()),
            // Another program does not say what it sends.
            None => decode(binary()).or_else(|error| as_text().map_err(|_| error).and_then(decode)),
        }
    }

    /// Reports messages that are longer than the broker has come to allow.
    pub(crate) fn report_too_long(&self, path: Tag, len: usize) {
        self.codec.count_unencodable();
        let error = too_long(len, self.max_len.load(Relaxed));
        self.component.events.next(BusEvent::Unencodable { path, error, count: 1 });
        let dropped = Tally { messages: 1, len: len as u64 };
        self.component.events.next(BusEvent::Dropped { reason: DropReason::Undeliverable, dropped });
    }

    /// Reports that the broker does not let this bus use a subject.
    pub(crate) fn report_denied(&self, subject: &str, why: &str) {
        self.presence.note_denied(&self.prefix, subject);
        // A wildcard stands for itself.
        let path = subject_name::path(&self.prefix, subject).unwrap_or_else(|| subject.to_owned());
        self.component.events.next(BusEvent::Unroutable { path: path.into(), why: why.into(), count: 1 });
    }

    /// Reports that nothing can be heard of paths that have no subject.
    pub(crate) fn report_without_subject(&self, scope: Scope) {
        if let Scope::Path(path) | Scope::Under(path) = scope {
            self.component.events.post(BusEvent::Unroutable { path, why: NO_SUBJECT.into(), count: 1 });
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            sent: self.outbox.stats(),
            unencodable: self.codec.unencodable(),
            received: self.counts.received(),
            undecodable: self.counts.undecodable(),
            early_lost: Tally::default(),
            reconnects: self.links.load(Relaxed).saturating_sub(1),
        }
    }

    /// Waits until there is a link, and the broker knows of all present interests.
    pub(crate) async fn connected(&self) -> Result<(), WsError> {
        let latest = self.interests.latest();
        let is_told = |told: &Told| match told {
            Told::Nothing | Told::Ending => false,
            Told::UpTo(number) => *number >= latest,
            Told::Completed | Told::Failed => true,
        };
        let mut told = self.told.subscribe();
        // An error is impossible: `self` holds the sender.
        match told.wait_for(is_told).await.map(|told| *told) {
            Ok(Told::UpTo(_)) => Ok(()),
            _ => Err(self.component.terminal().unwrap_or_else(|| WsError::Closed(self.component.name().to_string()))),
        }
    }

    /// Ends the bus when its task has died.
    pub(crate) fn died(&self, death: &Death) {
        self.component.fail(death);
        let report = CloseReport::from(self.outbox.end());
        drop(self.presence.end());
        self.component.end_at_once(report, || self.last(report));
    }

    /// Ends everything but the presence, the events and the subscribers, and makes the last event.
    pub(crate) fn last(&self, report: CloseReport) -> BusEvent {
        self.states.next(ConnectionState::Closed);
        self.states.clone().complete();
        self.told.send_replace(if self.component.terminal().is_some() { Told::Failed } else { Told::Completed });
        if report.unsent > 0 {
            let dropped = Tally { messages: report.unsent, len: report.unsent_len };
            self.component.events.next(BusEvent::Dropped { reason: DropReason::Closed, dropped });
        }
        self.component.events.traced(BusEvent::Closed(report))
    }
}

fn too_long(len: usize, max_len: usize) -> DatatypeError {
    DatatypeError::new(format_args!(
        "it has {len} bytes, and the broker takes {max_len} (max_payload, less the header)"
    ))
}

/// A name that no other bus has.
fn publisher() -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // 62^8 names: among 10,000 buses two have the same once in four million times.
    random::secret().iter().take(8).map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()])).collect()
}
