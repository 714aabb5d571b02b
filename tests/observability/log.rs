//! The subscriber of `tracing` of this process. Tests find their own entries by the names of their endpoints.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::support::PATIENCE;

/// The fields of an event or a span, as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(BTreeMap<&'static str, String>);

/// What was logged, and inside which span.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) target: &'static str,
    pub(crate) level: Level,
    pub(crate) fields: Fields,
    pub(crate) span: Option<Span>,
}

#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: &'static str,
    pub(crate) level: Level,
    pub(crate) fields: Fields,
}

/// All that the process has logged.
#[derive(Default)]
pub(crate) struct Log {
    entries: Mutex<Vec<Entry>>,
    more: Condvar,
    spans: Mutex<BTreeMap<u64, Span>>,
    numbers: AtomicU64,
}

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The log, which begins with the first call.
pub(crate) fn log() -> &'static Log {
    static LOG: OnceLock<&'static Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log: &Log = Box::leak(Box::default());
        tracing::subscriber::set_global_default(Writer(log)).expect("nobody else listens");
        log
    })
}

impl Fields {
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(crate) fn message(&self) -> &str {
        self.get("message")
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Log {
    /// The entries about the endpoint with this name, up to the first that says `last`.
    pub(crate) fn of(&self, kind: &str, name: &str, last: &str) -> Vec<Entry> {
        let is_about = |entry: &Entry| entry.fields.get(kind) == name;
        let is_last = |entry: &Entry| is_about(entry) && entry.fields.message() == last;
        let mut entries = self.wait_for(is_last).clone();
        let end = entries.iter().position(is_last).expect("it was waited for");
        entries.truncate(end + 1);
        entries.retain(is_about);
        entries
    }

    /// The first entry that is `wanted`.
    pub(crate) fn find(&self, wanted: impl Fn(&Entry) -> bool) -> Entry {
        self.wait_for(&wanted).iter().find(|entry| wanted(entry)).expect("it was waited for").clone()
    }

    fn wait_for(&self, wanted: impl Fn(&Entry) -> bool) -> MutexGuard<'_, Vec<Entry>> {
        let entries = self.entries.lock().unwrap();
        let missing = |entries: &mut Vec<Entry>| !entries.iter().any(&wanted);
        let (entries, waited) = self.more.wait_timeout_while(entries, PATIENCE, missing).unwrap();
        assert!(!waited.timed_out(), "not logged in time: {entries:#?}");
        entries
    }
}

/// The levels and the messages of entries.
pub(crate) fn course(entries: &[Entry]) -> Vec<(Level, &str)> {
    entries.iter().map(|entry| (entry.level, entry.fields.message())).collect()
}

struct Writer(&'static Log);

impl Subscriber for Writer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("rxplus::") || metadata.target().starts_with("observability")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let metadata = attributes.metadata();
        let span = Span { name: metadata.name(), level: *metadata.level(), fields };
        self.0.spans.lock().unwrap().insert(number, span);
        Id::from_u64(number)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let number = ENTERED.with_borrow(|entered| entered.last().copied());
        let span = number.and_then(|number| self.0.spans.lock().unwrap().get(&number).cloned());
        let metadata = event.metadata();
        let entry = Entry { target: metadata.target(), level: *metadata.level(), fields, span };
        self.0.entries.lock().unwrap().push(entry);
        self.0.more.notify_all();
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        let left = ENTERED.with_borrow_mut(Vec::pop);
        assert_eq!(left, Some(span.into_u64()), "spans are left in turn");
    }
}
