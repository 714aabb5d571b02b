//! [`Topics`]: the topics of a client that are wanted, and what the server has been told of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::take,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Context,
};

use super::{
    Gate, Topic,
    notice::{Notice, Say},
    panicked,
    signal::{Signal, Watch},
};
use crate::{
    ClientEvent, DatatypeError, Frame, SendError, WsDatatype, WsError,
    client::core::ClientCore,
    endpoint::EndpointCore,
    error::Chain,
    fate::Fate,
    outbox::{Refusal, may_greet},
    runtime::callback,
    stats::Tally,
};

/// Why a topic ends that a new link does not tell the server of.
const NO_ROOM: &str = "a connection begins with at most 65,536 messages, or 64 MiB of them";

/// The topics of a client that are wanted, and what the server has been told of them.
pub(crate) struct Topics<D: WsDatatype> {
    signal: Arc<Signal>,
    /// There once the program has made a topic. A trait, so that a program without topics does not compile them.
    teller: OnceLock<Arc<dyn Teller<D>>>,
}

/// Tells the server of topics, in the client's task.
trait Teller<D: WsDatatype>: Send + Sync {
    fn greet(&self, client: &ClientCore<D>, greetings: &mut Vec<Frame>);

    /// Tells the server what has changed, while there is a link.
    fn keep_told(self: Arc<Self>, client: &ClientCore<D>);

    fn lost(&self, client: &ClientCore<D>);

    fn shared(self: Arc<Self>) -> Arc<Shared<D>>;
}

pub(super) struct Shared<D: WsDatatype> {
    book: Mutex<Book<D>>,
    signal: Arc<Signal>,
    last_number: AtomicU64,
}

struct Book<D: WsDatatype> {
    /// In the order in which they were made.
    entries: Entries<D>,
    /// Those that the task has to look at.
    changed: BTreeSet<u64>,
}

type Entries<D> = BTreeMap<u64, Entry<D>>;

type Gates<D> = BTreeMap<u64, Gate<<D as WsDatatype>::Item>>;

struct Entry<D: WsDatatype> {
    topic: Arc<Topic<D>>,
    /// Those who want it: one, or two for a moment in which the last observer leaves and another one comes.
    gates: Gates<D>,
    /// The server has been told of it on this link, or in this session, or is told by what is in the outbox.
    is_told: bool,
    /// The messages about it that may still be in the outbox.
    notices: Vec<Arc<Notice<D>>>,
}

/// What the task has to do about a topic.
enum Due<D: WsDatatype> {
    Tell(Arc<Topic<D>>, Arc<Notice<D>>),
    /// The outbox has dropped the message.
    Fail,
}

impl<D: WsDatatype> Default for Topics<D> {
    fn default() -> Self {
        Self { signal: Arc::default(), teller: OnceLock::new() }
    }
}

impl<D: WsDatatype> Topics<D> {
    pub(super) fn shared(&self) -> Arc<Shared<D>> {
        let new = || -> Arc<dyn Teller<D>> { Arc::new(Shared::new(self.signal.clone())) };
        self.teller.get_or_init(new).clone().shared()
    }

    /// Adds the messages about all topics that are wanted to those with which a link begins, or a session. Topics that find no
    /// room there end.
    pub(crate) fn greet(&self, client: &ClientCore<D>, greetings: &mut Vec<Frame>) {
        if let Some(teller) = self.teller.get() {
            teller.greet(client, greetings);
        }
    }

    /// Tells the server what has changed, while there is a link.
    pub(crate) fn keep_told(&self, client: &ClientCore<D>, watch: &mut Watch, cx: &Context<'_>) {
        if self.signal.look(watch, cx)
            && let Some(teller) = self.teller.get()
        {
            teller.clone().keep_told(client);
        }
    }

    /// Forgets what the server was told on a link, or in a session, that is lost. What was not sent of it is not sent any more.
    pub(crate) fn lost(&self, client: &ClientCore<D>) {
        if let Some(teller) = self.teller.get() {
            teller.lost(client);
        }
    }
}

/// What observers want, on any thread.
impl<D: WsDatatype> Shared<D> {
    fn new(signal: Arc<Signal>) -> Self {
        let book = Mutex::new(Book { entries: BTreeMap::new(), changed: BTreeSet::new() });
        Self { book, signal, last_number: AtomicU64::new(0) }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn want(&self, number: u64, topic: &Arc<Topic<D>>, place: u64, gate: Gate<D::Item>) {
        let mut book = self.lock();
        let new = || Entry { topic: topic.clone(), gates: BTreeMap::new(), is_told: false, notices: Vec::new() };
        book.entries.entry(number).or_insert_with(new).gates.insert(place, gate);
        self.note_changed(book, number);
    }

    pub(super) fn leave(&self, number: u64, place: u64) {
        let mut book = self.lock();
        let Some(entry) = book.entries.get_mut(&number) else { return };
        let gate = entry.gates.remove(&place);
        let gone = book.take_idle(number);
        match gone {
            Some(_) => drop(book),
            None => self.note_changed(book, number),
        }
        // What they hold is the program's: not under the lock.
        drop((gate, gone));
    }
}

impl<D: WsDatatype> Teller<D> for Shared<D> {
    fn greet(&self, client: &ClientCore<D>, greetings: &mut Vec<Frame>) {
        let wanted = self.lock().tell_all();
        let mut held = Tally::default();
        greetings.iter().for_each(|frame| held += Tally::of(frame));
        for (number, topic) in wanted {
            match frame(client, &topic, Say::Subscribe) {
                Ok(frame) if may_greet(held, &frame) => {
                    held += Tally::of(&frame);
                    greetings.push(frame);
                }
                Ok(_) => self.fail(number, &not_sent(client, NO_ROOM.into())),
                Err(error) => self.fail(number, &error),
            }
        }
    }

    fn keep_told(self: Arc<Self>, client: &ClientCore<D>) {
        let kept = client.outbox.keeps_written();
        let due = self.lock().due(&self, kept);
        for (number, due) in due {
            let done = match due {
                Due::Tell(topic, notice) => tell(client, &topic, notice),
                Due::Fail => Err(not_sent(client, "the outbox has dropped it".into())),
            };
            if let Err(error) = done
                && !client.is_closing()
            {
                self.fail(number, &error);
            }
        }
    }

    fn lost(&self, client: &ClientCore<D>) {
        let (notices, gone) = self.lock().untell_all();
        for notice in notices {
            let fate: Arc<dyn Fate> = notice;
            client.outbox.withdraw(&fate);
        }
        drop(gone);
    }

    fn shared(self: Arc<Self>) -> Arc<Shared<D>> {
        self
    }
}

impl<D: WsDatatype> Shared<D> {
    /// Ends a topic for its observers, who may subscribe again.
    fn fail(&self, number: u64, error: &WsError) {
        let (gates, gone) = self.lock().fail(number);
        drop(gone);
        for gate in gates.into_values() {
            gate.error(error.clone());
        }
    }

    /// The outbox has dropped a message about this topic.
    pub(super) fn dropped(&self, number: u64) {
        self.settled(number);
        self.note_changed(self.lock(), number);
    }

    /// A message about this topic has left the outbox, or has not come into it.
    pub(super) fn settled(&self, number: u64) {
        let mut book = self.lock();
        let Some(entry) = book.entries.get_mut(&number) else { return };
        entry.forget_settled();
        let gone = book.take_idle(number);
        // Its functions are the program's: not under the lock.
        drop(book);
        drop(gone);
    }

    fn note_changed(&self, mut book: MutexGuard<'_, Book<D>>, number: u64) {
        book.changed.insert(number);
        drop(book);
        self.signal.set();
    }

    /// Ignores poisoning: nothing can panic while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Book<D>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: WsDatatype> Book<D> {
    fn tell_all(&mut self) -> Vec<(u64, Arc<Topic<D>>)> {
        let tell = |(number, entry): (&u64, &mut Entry<D>)| {
            entry.is_told = true;
            (*number, entry.topic.clone())
        };
        self.entries.iter_mut().filter(|(_, entry)| entry.is_wanted()).map(tell).collect()
    }

    fn untell_all(&mut self) -> (Vec<Arc<Notice<D>>>, Entries<D>) {
        let untell = |entry: &mut Entry<D>| {
            entry.is_told = false;
            take(&mut entry.notices)
        };
        let notices = self.entries.values_mut().flat_map(untell).collect();
        let (gone, kept) = take(&mut self.entries).into_iter().partition(|(_, entry)| entry.is_idle());
        self.entries = kept;
        (notices, gone)
    }

    fn due(&mut self, shared: &Arc<Shared<D>>, kept: bool) -> Vec<(u64, Due<D>)> {
        let changed = take(&mut self.changed);
        let due = |number: u64| Some((number, self.entries.get_mut(&number)?.due(number, shared, kept)?));
        changed.into_iter().filter_map(due).collect()
    }

    /// Takes out those who want a topic of which the server could not be told; and the topic, unless older messages about it are
    /// still on their way.
    fn fail(&mut self, number: u64) -> (Gates<D>, Option<Entry<D>>) {
        let Some(entry) = self.entries.get_mut(&number) else { return (Gates::<D>::new(), None) };
        let gates = take(&mut entry.gates);
        entry.is_told = false;
        entry.forget_settled();
        (gates, self.take_idle(number))
    }

    fn take_idle(&mut self, number: u64) -> Option<Entry<D>> {
        let is_idle = self.entries.get(&number).is_some_and(Entry::is_idle);
        if is_idle { self.take(number) } else { None }
    }

    fn take(&mut self, number: u64) -> Option<Entry<D>> {
        self.changed.remove(&number);
        self.entries.remove(&number)
    }
}

impl<D: WsDatatype> Entry<D> {
    fn is_wanted(&self) -> bool {
        !self.gates.is_empty()
    }

    /// Whether nobody has to know of it any more.
    fn is_idle(&self) -> bool {
        !self.is_wanted() && !self.is_told && self.notices.is_empty()
    }

    /// Whether the server was to be told of it, and is not. Only the last message says so: those before it are out of date.
    fn has_failed(&self) -> bool {
        self.is_told && self.notices.last().is_some_and(|notice| notice.is_dropped(Say::Subscribe))
    }

    fn forget_settled(&mut self) {
        if !self.has_failed() {
            self.notices.retain(|notice| notice.may_wait());
        }
    }

    fn due(&mut self, number: u64, shared: &Arc<Shared<D>>, kept: bool) -> Option<Due<D>> {
        if self.has_failed() {
            return Some(Due::Fail);
        }
        self.forget_settled();
        if self.is_told == self.is_wanted() {
            return None;
        }
        self.is_told = !self.is_told;
        let say = if self.is_told { Say::Subscribe } else { Say::Unsubscribe };
        let notice = Arc::new(Notice::new(number, say, kept, Arc::downgrade(shared)));
        self.notices.push(notice.clone());
        Some(Due::Tell(self.topic.clone(), notice))
    }
}

/// Queues the message about a topic. `Err` if its observers have to know.
fn tell<D: WsDatatype>(client: &ClientCore<D>, topic: &Topic<D>, notice: Arc<Notice<D>>) -> Result<(), WsError> {
    let (say, fate): (_, Arc<dyn Fate>) = (notice.say, notice.clone());
    let told = frame(client, topic, say).and_then(|frame| {
        let refused = |refusal: Refusal| not_sent(client, refusal.of(()).to_string());
        client.outbox.push_tracked(frame, Some(&fate)).map_err(refused)
    });
    if told.is_err() {
        notice.give_up();
    }
    // Of what nobody observes any more the event is enough.
    if say == Say::Unsubscribe { Ok(()) } else { told }
}

/// The message about a topic, or why there is none, which is an event as well.
fn frame<D: WsDatatype>(client: &ClientCore<D>, topic: &Topic<D>, say: Say) -> Result<Frame, WsError> {
    let (codec, path) = (&client.incoming.codec, &client.path);
    let leave_out = |error| client.component.events.post(ClientEvent::Unencodable { error, count: 1 });
    let encode = || codec.encode(path, &topic.message(say), || client.is_closing());
    match callback::run(|| callback::attempt("a function given to multiplex", encode)) {
        Ok(Ok(frame)) => Ok(frame),
        Ok(Err(SendError::Encode((), error))) => {
            let reason = Chain(&error).to_string();
            leave_out(error);
            Err(not_sent(client, reason))
        }
        Ok(Err(_)) => Err(WsError::Closed(client.component.name().to_string())),
        Err(panic) => {
            codec.count_unencodable();
            leave_out(DatatypeError::new(format!("a function given to multiplex panicked: {panic}")));
            Err(panicked(&panic))
        }
    }
}

fn not_sent<D: WsDatatype>(client: &ClientCore<D>, reason: String) -> WsError {
    WsError::NotSent { name: client.component.name().to_string(), reason }
}

/// As a message about a topic holds them.
pub(super) type WeakTopics<D> = Weak<Shared<D>>;
