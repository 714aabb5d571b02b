//! The bounded outbound queue of one connection, the only queue between a push and the socket.
//!
//! A message stays at the head of the queue until the operating system has taken its last byte, so a link that breaks
//! loses none: the next connection's driver finds it where it was.

use std::{
    cell::Cell,
    collections::VecDeque,
    hint::black_box,
    mem::{swap, take},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    Frame, SendError,
    runtime::callback,
    stats::{DropReason, Dropped, SendStats, Tally},
    time::after,
};

/// What a full outbox does with one more message.
///
/// An outbox is full for a connection whose socket takes nothing: whoever pushes into a full one first writes what the socket
/// takes at that moment, and only then is this applied. A client without a connection has no socket to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Ends the connection: an accepted one with close code 1013, a client with [`WsError::OutboxFull`](crate::WsError).
    Disconnect,
    /// Drops the oldest messages of which nothing was written yet. What is being written keeps its place: where that takes
    /// all there are, the new message is refused. So give an outbox for the latest value alone two places or more, not one.
    DropOldest,
    /// Refuses the new message.
    DropLatest,
}

/// RFC 6455, section 7.4, as registered with IANA: the server is overloaded; come back later.
const TRY_AGAIN_LATER: u16 = 1013;

/// How long a peer that reads too slowly may take for what is on its way to it.
const OVERFLOW_GRACE: Duration = Duration::from_secs(1);

/// The longest head of a frame (RFC 6455, section 5.2), which a short message needs as well.
const FRAME_HEAD_LEN: usize = 14;

/// For how many outboxes what is needed is [fetched](Outbox::fetch) before the first has its turn: more than can be fetched
/// side by side gain nothing, and of many more, what came first is gone again.
pub(crate) const FETCHED_AT_ONCE: usize = 64;

/// How many greetings a link has at most: as much as a client's outbox holds by default.
const GREETINGS: Tally = Tally { messages: 65_536, len: 64 * 1024 * 1024 };

/// From which length on a message is not copied under the lock: pushers would wait for as long.
const LONG_LEN: usize = 32 * 1024;

/// How often one push has the link write, while others fill what that empties.
const RELIEFS: usize = 256;

/// How long a socket that takes nothing is not asked again for a full outbox, where a full one is no end: asking costs three
/// times as much as such a push does without.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How many places an empty queue keeps.
const KEPT_PLACES: usize = 64;

/// How much an outbox holds, and what it does when it is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxBound {
    pub(crate) messages: usize,
    /// In bytes of payload.
    pub(crate) len: usize,
    pub(crate) overflow: Overflow,
}

/// A closing handshake to be made once the queue is written.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub(crate) code: u16,
    pub(crate) reason: Arc<str>,
    /// When waiting for the peer ends.
    pub(crate) deadline: Instant,
}

/// The message at the head of the queue, behind the greetings of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Grows whenever another message becomes the head.
    pub(crate) number: u64,
    pub(crate) len: usize,
    /// The link that ended last has written a part of it.
    pub(crate) was_begun: bool,
}

/// Why a message got no place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

impl Refusal {
    /// The error that hands `item` back.
    pub(crate) fn of<I>(self, item: I) -> SendError<I> {
        match self {
            Self::Full => SendError::Full(item),
            Self::Closed => SendError::Closed(item),
        }
    }
}

/// Messages that are done with. To be dropped outside of any lock: a payload can be a `Bytes::from_owner`, whose destructor
/// is the user's and may push, or panic.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Spent(Vec<Frame>);

thread_local! {
    /// The memory for them, which would be allocated anew for each write.
    static SPARE: Cell<Vec<Frame>> = const { Cell::new(Vec::new()) };
}

/// The largest such memory that is kept.
const KEPT_SPENT: usize = 1024;

impl Spent {
    fn push(&mut self, frame: Frame) {
        self.extend([frame]);
    }

    fn extend(&mut self, frames: impl IntoIterator<Item = Frame>) {
        if self.0.capacity() == 0 {
            // In vain while the thread ends.
            self.0 = SPARE.try_with(Cell::take).unwrap_or_default();
        }
        self.0.extend(frames);
    }

    pub(crate) fn append(&mut self, mut more: Self) {
        if self.0.is_empty() {
            swap(self, &mut more);
        } else {
            self.0.append(&mut more.0);
        }
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        self.0.drain(..).for_each(discard);
        if (1..=KEPT_SPENT).contains(&self.0.capacity()) {
            let _ = SPARE.try_with(|spare| spare.set(take(&mut self.0)));
        }
    }
}

/// Drops a message that may be the last one to have its payload.
pub(crate) fn discard(frame: Frame) {
    callback::isolate("the destructor of a payload", || drop(frame));
}

/// The link that empties an outbox.
pub(crate) trait Outflow: Send + Sync {
    /// There is something to do that the link does not know of.
    fn wake(self: Arc<Self>);

    /// Writes what the socket takes at this moment, on the thread of the one who pushes. Runs no code of the user's, and waits
    /// for nothing but other such writes.
    fn relieve(&self) -> Relief;

    /// Drops what was taken and not begun to be written, and what was not taken, but for the link's greetings.
    fn clear(&self);
}

/// What came of a write for one who pushes.
pub(crate) struct Relief {
    /// The socket took all that was written; it may take more.
    pub(crate) takes: bool,
    pub(crate) spent: Spent,
}

/// What is left to do once the lock is given back.
#[derive(Default)]
#[must_use]
pub(crate) struct Aftermath {
    wakes: Option<Arc<dyn Outflow>>,
    alarm: bool,
    /// Drops have begun to wait for being reported.
    tells: bool,
    spent: Spent,
}

impl Aftermath {
    pub(crate) fn drop_too(&mut self, spent: Spent) {
        self.spent.append(spent);
    }
}

/// A handle of one connection's outbound queue.
#[derive(Clone)]
pub(crate) struct Outbox {
    core: Arc<Core>,
}

/// Where many outboxes get a message each, most of the time goes into fetching their cache lines: what a push needs is in
/// two.
#[repr(C, align(64))]
struct Core {
    state: Mutex<State>,
    /// Closing was asked for. Set under the lock, and read without it by what feeds the outbox, after each message.
    refuses: AtomicBool,
    /// As `refuses`: it was closed for being full.
    overflown: AtomicBool,
    /// The driver found nothing to take and wants to be woken by the next message. Set under the lock.
    asleep: AtomicBool,
    overflow: Overflow,
    /// Tells of the closing to the one who waits for it while there is no driver.
    closing: Notify,
    /// Called, outside of the lock, when drops have begun to wait for being reported.
    on_drop: Box<dyn Fn(&Outbox) + Send + Sync>,
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(std::mem::offset_of!(Core, overflow) < 2 * 64);

#[repr(C)]
struct State {
    queue: VecDeque<Frame>,
    queued: Tally,
    /// How many at the head of the queue a driver is writing.
    taken: usize,
    /// How much the queue may hold.
    room: Tally,
    link: Option<Arc<dyn Outflow>>,
    written: Tally,
    rare: Option<Box<Rare>>,
}

/// What most outboxes never come to, and all but once.
#[derive(Default)]
struct Rare {
    /// The messages at the head of the queue that belong to this link alone.
    greetings: Tally,
    /// How many of those there have been were written.
    greeted: u64,
    /// How many messages were dropped at the head of the queue.
    skipped: u64,
    /// The link that ended last has written a part of the message at the head.
    head_was_begun: bool,
    closing: Option<Closing>,
    /// When the socket has last taken nothing, if it has taken nothing since. Only where a full outbox is no end.
    refused_at: Option<std::time::Instant>,
    /// The driver has to know at once, whatever it is doing.
    alarm: bool,
    overflown: bool,
    dropped: Dropped,
    /// Drops that no event has told of yet.
    unreported: VecDeque<(DropReason, Tally)>,
    /// Messages that left the queue under the lock that is held.
    spent: Spent,
}

impl Outbox {
    pub(crate) fn new(bound: OutboxBound, on_drop: impl Fn(&Outbox) + Send + Sync + 'static) -> Self {
        let state = State {
            queue: VecDeque::new(),
            queued: Tally::default(),
            taken: 0,
            room: Tally { messages: bound.messages as u64, len: bound.len as u64 },
            link: None,
            written: Tally::default(),
            rare: None,
        };
        let core = Core {
            state: Mutex::new(state),
            refuses: AtomicBool::new(false),
            overflown: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            overflow: bound.overflow,
            closing: Notify::new(),
            on_drop: Box::new(on_drop),
        };
        Self { core: Arc::new(core) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.core.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and drops what left the queue.
    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.exchange(f).0
    }

    /// Changes the state, then wakes the link and tells of drops, both outside of the lock. Returns what left the queue.
    fn exchange<R>(&self, f: impl FnOnce(&mut State) -> R) -> (R, Spent) {
        let (result, aftermath) = self.alter(f);
        (result, self.settle(aftermath))
    }

    /// Changes the state.
    fn alter<R>(&self, f: impl FnOnce(&mut State) -> R) -> (R, Aftermath) {
        let mut state = self.lock();
        let was_reported = state.is_reported();
        let result = f(&mut state);
        let (mut alarm, mut spent) = (false, Spent::default());
        if let Some(rare) = &mut state.rare {
            self.core.refuses.store(rare.closing.is_some(), Release);
            self.core.overflown.store(rare.overflown, Release);
            (alarm, spent) = (take(&mut rare.alarm), take(&mut rare.spent));
        }
        let wakes = if self.awaken() || alarm { state.link.clone() } else { None };
        let tells = was_reported && !state.is_reported();
        (result, Aftermath { wakes, alarm, tells, spent })
    }

    /// Does what is to be done outside of the lock, and of the link's. Returns what left the queue.
    pub(crate) fn settle(&self, Aftermath { wakes, alarm, tells, spent }: Aftermath) -> Spent {
        if let Some(link) = wakes {
            link.wake();
        }
        if alarm {
            self.core.closing.notify_one();
        }
        if tells {
            (self.core.on_drop)(self);
        }
        spent
    }

    /// Queues a message, or says why not.
    pub(crate) fn push(&self, frame: Frame) -> Result<(), Refusal> {
        self.offer(frame).0
    }

    /// As [`push`](Self::push), for one who holds a lock: with what is to be dropped outside of it.
    pub(crate) fn offer(&self, frame: Frame) -> (Result<(), Refusal>, Spent) {
        let mut state = self.lock();
        if self.is_closing() || !state.has_room(&frame) {
            drop(state);
            return self.offer_to_full(frame);
        }
        // As nearly all of them go: it has a place, and changes nothing else.
        state.queued += Tally::of(&frame);
        state.queue.push_back(frame);
        let wakes = if self.awaken() { state.link.clone() } else { None };
        drop(state);
        if let Some(link) = wakes {
            link.wake();
        }
        (Ok(()), Spent::default())
    }

    /// Writes what the socket takes, and applies the overflow policy only if the outbox is still full.
    fn offer_to_full(&self, frame: Frame) -> (Result<(), Refusal>, Spent) {
        let mut spent = Spent::default();
        for _ in 0..RELIEFS {
            let Some(link) = self.link_to_relieve(&frame) else { break };
            // Its lock comes before the one of this.
            let relief = link.relieve();
            spent.append(relief.spent);
            if !relief.takes {
                break;
            }
        }
        let (answer, dropped) = self.exchange(|state| state.push(frame, self.core.overflow));
        spent.append(dropped);
        (answer, spent)
    }

    /// The link that has to make room for `frame`, unless it is known to take nothing.
    fn link_to_relieve(&self, frame: &Frame) -> Option<Arc<dyn Outflow>> {
        let state = self.lock();
        if self.is_closing() || state.has_room(frame) {
            return None;
        }
        // What ends the connection happens once: it is asked in any case.
        let asked = state.rare.as_ref().and_then(|rare| rare.refused_at);
        let is_known = self.is_lossy() && asked.is_some_and(|asked| asked.elapsed() < LOOK_EVERY);
        if is_known { None } else { state.link.clone() }
    }

    /// The socket has taken nothing of what it was offered.
    pub(crate) fn refused(&self) {
        if self.is_lossy() {
            self.lock().rare().refused_at = Some(std::time::Instant::now());
        }
    }

    fn is_lossy(&self) -> bool {
        self.core.overflow != Overflow::Disconnect
    }

    /// Queues messages ahead of all others, for the link that begins now and for no other. What is beyond [`GREETINGS`] is
    /// dropped.
    pub(crate) fn greet(&self, frames: Vec<Frame>) {
        if !frames.is_empty() {
            self.change(|state| state.greet(frames));
        }
    }

    /// Refuses everything from now on and has the closing handshake made after what is queued. The first call counts.
    pub(crate) fn close(&self, code: u16, reason: &str, within: Duration) {
        self.change(|state| state.close(code, reason, within));
    }

    /// Drops what has not begun to be written, but for the link's greetings.
    pub(crate) fn clear(&self) {
        let link = self.lock().link.clone();
        match link {
            Some(link) => link.clear(),
            None => self.change(|state| state.drop_untaken(DropReason::Cleared)),
        }
    }

    /// Ends the queue for good: what was not written is dropped and returned as a count.
    pub(crate) fn end(&self) -> Tally {
        self.change(|state| {
            state.close(1006, "", Duration::ZERO);
            (state.taken, state.rare().greetings) = (0, Tally::default());
            let unsent = state.queued;
            state.drop_untaken(DropReason::Closed);
            unsent
        })
    }

    /// Has `link` be woken by the next message when there was nothing to take, and at once when closing was asked for.
    pub(crate) fn attach(&self, link: Arc<dyn Outflow>) {
        let mut state = self.lock();
        state.note_room();
        let before = state.link.replace(link);
        drop(state);
        drop(before);
    }

    /// Takes messages for a driver until `budget` bytes are reached; with nothing to take, has it woken by the next change.
    /// Returns the closing handshake that was asked for, once nothing is left that was not taken.
    ///
    /// Each is shown to `f` where it lies, under the lock: a copy of a handle and its drop cost more than the copying of a
    /// short message. A long one is shown without the lock. For one at a time, who holds the link's lock.
    pub(crate) fn take_each(&self, budget: usize, mut f: impl FnMut(&Frame)) -> Option<Closing> {
        let mut state = self.lock();
        let (mut len, before) = (0, state.taken);
        while len < budget
            && let Some(frame) = state.queue.get(state.taken)
        {
            len += FRAME_HEAD_LEN + frame.len();
            if frame.len() < LONG_LEN {
                f(frame);
                state.taken += 1;
            } else {
                let long = frame.clone();
                state.taken += 1;
                drop(state);
                f(&long);
                state = self.lock();
            }
        }
        let drained = state.taken == state.queue.len();
        // A driver that takes nothing because its socket is blocked is woken by the socket.
        self.core.asleep.store(state.taken == before && budget > 0, Relaxed);
        if drained { state.closing() } else { None }
    }

    #[cfg(test)]
    pub(crate) fn take(&self, cx: &std::task::Context<'_>, budget: usize, batch: &mut Vec<Frame>) -> Option<Closing> {
        self.attach(Arc::new(tests::Sleeper { task: cx.waker().clone(), outbox: self.clone() }));
        self.take_each(budget, |frame| batch.push(frame.clone()))
    }

    /// The driver is at work and looks here before it sleeps: nobody has to wake it. True when the connection is to be
    /// dropped because this was full.
    ///
    /// Without the lock, which each poll of a driver would otherwise take once more.
    pub(crate) fn attend(&self) -> bool {
        self.awaken();
        self.has_overflown()
    }

    /// Notes that the driver need not be woken; true when it had to.
    fn awaken(&self) -> bool {
        self.core.asleep.load(Relaxed) && self.core.asleep.swap(false, Relaxed)
    }

    /// Whether the oldest message has to go when this is full.
    pub(crate) fn drops_oldest(&self) -> bool {
        self.core.overflow == Overflow::DropOldest
    }

    /// The link has not begun to write the last `count` messages that it took. They wait again, or are dropped, with all that
    /// wait, for the reason that is given. The link holds its lock, so the rest is for later.
    pub(crate) fn give_back(&self, count: usize, dropped: Option<DropReason>) -> Aftermath {
        let give_back = |state: &mut State| {
            state.taken = state.taken.saturating_sub(count);
            let has_overflown = state.rare.as_ref().is_some_and(|rare| rare.overflown);
            if let Some(reason) = has_overflown.then_some(DropReason::Overflow).or(dropped) {
                state.drop_untaken(reason);
            }
        };
        self.alter(give_back).1
    }

    /// The operating system has taken the last byte of the first `count` messages. With nothing left in the queue, a driver
    /// that `rests` is woken by the next change; true if that is so.
    pub(crate) fn written(&self, count: usize, rests: bool) -> (Spent, bool) {
        let mut spent = Spent::default();
        let mut state = self.lock();
        state.note_room();
        let State { queue, taken, queued, written, rare, .. } = &mut *state;
        let count = count.min(queue.len());
        let mut done = Tally::default();
        for frame in queue.range(..count) {
            done += Tally::of(frame);
            if let Some(rare) = rare {
                rare.count_written(frame);
            }
        }
        *taken = taken.saturating_sub(count);
        *queued -= done;
        *written += done;
        spent.extend(queue.drain(..count));
        if state.queue.is_empty() {
            // From the first place on again: of a long ring each turn would use places that are in no cache.
            state.queue.clear();
            state.queue.shrink_to(KEPT_PLACES);
        }
        let is_idle = rests && state.queue.is_empty() && !state.is_closing();
        if is_idle {
            self.core.asleep.store(true, Relaxed);
        }
        (spent, is_idle)
    }

    /// The link broke: what it did not write whole waits for the next one, but for its greetings. `has_begun` says whether
    /// it has written a part of the first message that waits.
    pub(crate) fn link_lost(&self, has_begun: bool) {
        self.change(|state| {
            state.taken = 0;
            let greetings = state.rare.as_mut().map_or_else(Tally::default, |rare| take(&mut rare.greetings));
            if has_begun || state.rare.is_some() {
                state.rare().head_was_begun = has_begun && greetings.messages == 0;
            }
            for _ in 0..greetings.messages {
                if let Some(frame) = state.queue.pop_front() {
                    state.drop_later(frame, DropReason::Greeting);
                }
            }
            state.link = None;
        });
    }

    /// The message at the head, for one who wonders between two links whether it is what ends them.
    pub(crate) fn head(&self) -> Option<Head> {
        self.lock().head()
    }

    /// Drops the message at the head if it still is `head`, and no driver has taken it. True when it was dropped.
    pub(crate) fn drop_head(&self, head: Head) -> bool {
        self.change(|state| {
            let is_there = state.head().is_some_and(|there| there.number == head.number) && state.is_head_untaken();
            if is_there {
                state.drop_first_untaken(DropReason::Undeliverable);
            }
            is_there
        })
    }

    /// Tells of the drops that nobody has told of yet.
    ///
    /// `tell` must not call observers: it runs under the lock, so that no report comes behind the one of the end.
    pub(crate) fn report_drops(&self, tell: impl Fn(DropReason, Tally)) {
        let mut state = self.lock();
        let Some(rare) = &mut state.rare else { return };
        take(&mut rare.unreported).into_iter().for_each(|(reason, dropped)| tell(reason, dropped));
    }

    pub(crate) fn stats(&self) -> SendStats {
        self.lock().stats()
    }

    /// How many messages are written, or on their way.
    pub(crate) fn begun(&self) -> u64 {
        let state = self.lock();
        state.written.messages + state.taken as u64
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        self.lock().closing()
    }

    /// Waits until it is closed. For one who waits at a time.
    pub(crate) async fn until_closing(&self) -> Closing {
        loop {
            match self.closing() {
                Some(closing) => return closing,
                None => self.core.closing.notified().await,
            }
        }
    }

    /// Whether it refuses everything; without the lock.
    pub(crate) fn is_closing(&self) -> bool {
        self.core.refuses.load(Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Whether it was closed for being full, under [`Overflow::Disconnect`]; without the lock.
    pub(crate) fn has_overflown(&self) -> bool {
        self.core.overflown.load(Acquire)
    }

    /// Brings what a push and a write need near. Many that are called one after another fetch side by side, which locks do
    /// not.
    pub(crate) fn fetch(&self) {
        black_box((self.core.state.is_poisoned(), self.core.asleep.load(Relaxed)));
    }
}

impl Rare {
    /// Counts a message that has left the head of the queue as one that was written.
    fn count_written(&mut self, frame: &Frame) {
        self.head_was_begun = false;
        if self.greetings.messages > 0 {
            self.greetings -= Tally::of(frame);
            self.greeted += 1;
        }
    }
}

impl State {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The socket has taken something, or there is another one.
    fn note_room(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.refused_at = None;
        }
    }

    fn greetings(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.greetings.messages as usize)
    }

    fn head(&self) -> Option<Head> {
        let len = self.queue.get(self.greetings())?.len();
        let rare = self.rare.as_ref();
        let (skipped, greeted) = rare.map_or((0, 0), |rare| (rare.skipped, rare.greeted));
        let number = self.written.messages - greeted + skipped;
        Some(Head { number, len, was_begun: rare.is_some_and(|rare| rare.head_was_begun) })
    }

    /// Whether what can be dropped begins with the message at the head.
    fn is_head_untaken(&self) -> bool {
        self.droppable() == self.greetings()
    }

    fn closing(&self) -> Option<Closing> {
        self.rare.as_ref()?.closing.clone()
    }

    fn is_closing(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.closing.is_some())
    }

    fn stats(&self) -> SendStats {
        let dropped = self.rare.as_ref().map_or_else(Dropped::default, |rare| rare.dropped);
        let mut accepted = dropped.total();
        accepted += self.written;
        accepted += self.queued;
        SendStats { accepted, written: self.written, queued: self.queued, dropped }
    }

    /// Whether events have told of all drops.
    fn is_reported(&self) -> bool {
        self.rare.as_ref().is_none_or(|rare| rare.unreported.is_empty())
    }

    fn push(&mut self, frame: Frame, overflow: Overflow) -> Result<(), Refusal> {
        if self.is_closing() {
            self.rare().spent.push(frame);
            return Err(Refusal::Closed);
        }
        let has_room = self.has_room(&frame);
        self.queued += Tally::of(&frame);
        if has_room {
            self.queue.push_back(frame);
            return Ok(());
        }
        match overflow {
            Overflow::DropLatest => {
                self.drop_later(frame, DropReason::Overflow);
                Err(Refusal::Full)
            }
            Overflow::DropOldest => {
                self.queue.push_back(frame);
                self.make_room()
            }
            Overflow::Disconnect => {
                self.queue.push_back(frame);
                self.drop_untaken(DropReason::Overflow);
                self.rare().overflown = true;
                self.close(TRY_AGAIN_LATER, "too slow", OVERFLOW_GRACE);
                Err(Refusal::Full)
            }
        }
    }

    fn greet(&mut self, mut frames: Vec<Frame>) {
        let mut greetings = Tally::default();
        let kept = frames.iter().take_while(|frame| {
            let fits = fits(greetings, frame, GREETINGS);
            greetings += if fits { Tally::of(frame) } else { Tally::default() };
            fits
        });
        let kept = kept.count();
        for frame in frames.split_off(kept) {
            self.queued += Tally::of(&frame);
            self.drop_later(frame, DropReason::Overflow);
        }
        for frame in frames.into_iter().rev() {
            self.queued += Tally::of(&frame);
            self.queue.push_front(frame);
        }
        self.rare().greetings = greetings;
    }

    fn has_room(&self, frame: &Frame) -> bool {
        fits(self.bounded(), frame, self.room)
    }

    /// What the bound counts: all but the greetings, for which there must be room on a full outbox too.
    fn bounded(&self) -> Tally {
        let mut bounded = self.queued;
        bounded -= self.rare.as_ref().map_or_else(Tally::default, |rare| rare.greetings);
        bounded
    }

    /// Where the messages begin that can be dropped: behind those that a driver has taken, and the greetings.
    fn droppable(&self) -> usize {
        self.taken.max(self.greetings())
    }

    /// Drops the oldest messages that no driver has taken, the newest one too if nothing else helps.
    fn make_room(&mut self) -> Result<(), Refusal> {
        let is_over = |held: Tally, room: Tally| held.messages > room.messages || held.len > room.len;
        while self.bounded().messages > 1
            && is_over(self.bounded(), self.room)
            && self.drop_first_untaken(DropReason::Overflow)
        {}
        // The newest is the last one that can go.
        if self.droppable() < self.queue.len() { Ok(()) } else { Err(Refusal::Full) }
    }

    fn drop_first_untaken(&mut self, reason: DropReason) -> bool {
        let at = self.droppable();
        if self.is_head_untaken() {
            self.skip(usize::from(at < self.queue.len()));
        }
        self.queue.remove(at).map(|frame| self.drop_later(frame, reason)).is_some()
    }

    fn drop_untaken(&mut self, reason: DropReason) {
        let untaken = self.queue.split_off(self.droppable());
        if self.is_head_untaken() {
            self.skip(untaken.len());
        }
        for frame in untaken {
            self.drop_later(frame, reason);
        }
    }

    /// Notes that messages at the head are dropped.
    fn skip(&mut self, count: usize) {
        if count > 0 {
            let rare = self.rare();
            rare.skipped += count as u64;
            rare.head_was_begun = false;
        }
    }

    /// Counts a message as dropped, which it is once the lock is given back.
    fn drop_later(&mut self, frame: Frame, reason: DropReason) {
        let tally = Tally::of(&frame);
        self.queued -= tally;
        let rare = self.rare();
        rare.spent.push(frame);
        rare.dropped.add(reason, tally);
        match rare.unreported.back_mut() {
            Some((last, count)) if *last == reason => *count += tally,
            _ => rare.unreported.push_back((reason, tally)),
        }
    }

    fn close(&mut self, code: u16, reason: &str, within: Duration) {
        let rare = self.rare();
        if rare.closing.is_none() {
            rare.alarm = true;
            let deadline = after(Instant::now(), within);
            rare.closing = Some(Closing { code, reason: reason.into(), deadline });
        }
    }
}

/// Whether there is room for one more message. An empty queue takes one of any length.
fn fits(held: Tally, frame: &Frame, room: Tally) -> bool {
    held.messages == 0 || (held.messages < room.messages && held.len + frame.len() as u64 <= room.len)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        future::poll_fn,
        sync::atomic::AtomicUsize,
        task::{Context, Poll, Wake, Waker},
        thread,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::time;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A link whose task does all the writing.
    pub(crate) struct Sleeper {
        pub(crate) task: Waker,
        pub(crate) outbox: Outbox,
    }

    impl Outflow for Sleeper {
        fn wake(self: Arc<Self>) {
            self.task.wake_by_ref();
        }

        fn relieve(&self) -> Relief {
            Relief { takes: false, spent: Spent::default() }
        }

        fn clear(&self) {
            let aftermath = self.outbox.give_back(0, Some(DropReason::Cleared));
            drop(self.outbox.settle(aftermath));
        }
    }

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn outbox(messages: usize, len: usize, overflow: Overflow) -> Outbox {
        Outbox::new(OutboxBound { messages, len, overflow }, |_| {})
    }

    /// A message that can be told from others, of at least four bytes.
    fn message(number: u32, len: usize) -> Frame {
        Frame::Binary([&number.to_be_bytes()[..], &vec![0; len]].concat().into())
    }

    fn take_some(outbox: &Outbox, budget: usize) -> Vec<Frame> {
        let mut batch = Vec::new();
        outbox.take(&Context::from_waker(Waker::noop()), budget, &mut batch);
        batch
    }

    fn dropped(outbox: &Outbox) -> Dropped {
        outbox.stats().dropped
    }

    #[test]
    fn sleeping_driver_is_woken_once_by_a_push_and_one_at_work_is_not() {
        let outbox = outbox(9, 100, Overflow::DropLatest);
        let count = Arc::new(WakeCount::default());
        let waker = count.clone().into();
        let cx = Context::from_waker(&waker);
        let wakes = || count.0.load(Relaxed);
        outbox.take(&cx, 100, &mut Vec::new());
        outbox.push(message(1, 0)).unwrap();
        outbox.push(message(2, 0)).unwrap();
        assert_eq!(wakes(), 1);
        outbox.take(&cx, 100, &mut Vec::new());
        outbox.push(message(3, 0)).unwrap();
        assert_eq!(wakes(), 1);
        outbox.take(&cx, 100, &mut Vec::new());
        outbox.take(&cx, 100, &mut Vec::new());
        outbox.attend();
        outbox.push(message(4, 0)).unwrap();
        assert_eq!(wakes(), 1);
    }

    #[test]
    fn driver_is_woken_by_a_close_whatever_it_is_doing() {
        let outbox = outbox(9, 100, Overflow::DropLatest);
        let count = Arc::new(WakeCount::default());
        let waker = count.clone().into();
        outbox.push(message(1, 0)).unwrap();
        outbox.take(&Context::from_waker(&waker), 100, &mut Vec::new());
        outbox.attend();
        outbox.close(1000, "", PATIENCE);
        outbox.close(1001, "", PATIENCE);
        assert_eq!(count.0.load(Relaxed), 1);
        assert_eq!(outbox.closing().map(|closing| closing.code), Some(1000));
    }

    #[test]
    fn no_wake_up_is_lost_between_pushes_of_several_threads_and_a_driver() {
        const EACH: usize = 20_000;
        let outbox = outbox(1 << 20, 1 << 30, Overflow::DropLatest);
        let drive = poll_fn(|cx| {
            outbox.attend();
            loop {
                let mut batch = Vec::new();
                let closing = outbox.take(cx, 1000, &mut batch);
                let (_, is_idle) = outbox.written(batch.len(), true);
                match closing {
                    Some(_) => return Poll::Ready(()),
                    None if is_idle || batch.is_empty() => return Poll::Pending,
                    None => {}
                }
            }
        });
        thread::scope(|scope| {
            let pushing = [1, 2].map(|thread| {
                let outbox = &outbox;
                scope.spawn(move || (0..EACH).for_each(|_| outbox.push(message(thread, 0)).unwrap()))
            });
            scope.spawn(|| {
                pushing.into_iter().for_each(|thread| thread.join().unwrap());
                outbox.close(1000, "", PATIENCE);
            });
            assert!(time::block_on(drive, PATIENCE).is_some());
        });
        assert_eq!(outbox.stats().written.messages, 2 * EACH as u64);
    }

    #[test]
    fn close_is_heard_by_the_one_who_waits_for_it_and_by_the_one_who_comes_late() {
        for _ in 0..200 {
            let outbox = outbox(1, 1, Overflow::Disconnect);
            let (pushed, second) = (outbox.clone(), message(2, 0));
            outbox.push(message(1, 0)).unwrap();
            let overflow = thread::spawn(move || pushed.push(second));
            let closing = time::block_on(outbox.until_closing(), PATIENCE).unwrap();
            assert_eq!(closing.code, TRY_AGAIN_LATER);
            assert_eq!(overflow.join().unwrap(), Err(Refusal::Full));
            assert!(time::block_on(outbox.until_closing(), PATIENCE).is_some());
        }
    }

    #[test]
    fn close_timeout_may_be_as_long_as_there_is() {
        let outbox = outbox(1, 1, Overflow::DropLatest);
        outbox.close(1000, "", Duration::MAX);
        assert!(outbox.closing().unwrap().deadline > Instant::now() + Duration::from_secs(1 << 29));
    }

    #[test]
    fn overflow_of_a_slow_reader_drops_what_is_not_under_way_and_closes_with_1013() {
        let outbox = outbox(3, 100, Overflow::Disconnect);
        (1..=3).for_each(|n| outbox.push(message(n, 0)).unwrap());
        assert_eq!(take_some(&outbox, 1), [message(1, 0)]);
        assert_eq!(outbox.push(message(4, 0)), Err(Refusal::Full));
        assert_eq!(outbox.push(message(5, 0)), Err(Refusal::Closed));
        assert_eq!((dropped(&outbox).overflow.messages, outbox.stats().accepted.messages), (3, 4));
        assert_eq!((outbox.closing().unwrap().code, outbox.has_overflown()), (1013, true));
        let mut batch = Vec::new();
        assert_eq!(outbox.take(&Context::from_waker(Waker::noop()), 100, &mut batch).unwrap().code, 1013);
        assert_eq!(batch, []);
    }

    #[test]
    fn newest_message_replaces_older_ones_even_if_it_is_longer_than_the_bound() {
        let outbox = outbox(9, 20, Overflow::DropOldest);
        (1..=3).for_each(|n| outbox.push(message(n, 1)).unwrap());
        assert_eq!(outbox.push(message(4, 100)), Ok(()));
        assert_eq!(take_some(&outbox, 1000), [message(4, 100)]);
        // It is under way now: what does not fit beside it has no place.
        assert_eq!(outbox.push(message(5, 1)), Err(Refusal::Full));
    }

    #[test]
    fn newest_message_is_refused_where_what_is_being_written_has_all_the_places() {
        for places in 1..4 {
            let outbox = outbox(places, 100, Overflow::DropOldest);
            (0..places as u32).for_each(|n| outbox.push(message(n, 0)).unwrap());
            let written = take_some(&outbox, 100);
            assert_eq!(outbox.push(message(9, 0)), Err(Refusal::Full));
            assert_eq!(dropped(&outbox).overflow.messages, 1);
            // Once one of them has proved not to be under way, it goes.
            drop(outbox.settle(outbox.give_back(1, None)));
            assert_eq!(outbox.push(message(10, 0)), Ok(()));
            assert_eq!(take_some(&outbox, 100), [message(10, 0)]);
            assert_eq!(dropped(&outbox).overflow.messages, 2);
            let _ = outbox.written(written.len(), false);
            assert_eq!(outbox.stats().queued, Tally::default());
        }
    }

    #[test]
    fn greetings_take_no_room_and_are_not_dropped_for_messages() {
        for overflow in [Overflow::Disconnect, Overflow::DropOldest, Overflow::DropLatest] {
            let outbox = outbox(2, 100, overflow);
            outbox.push(message(1, 0)).unwrap();
            outbox.greet(vec![message(100, 500), message(101, 500)]);
            assert_eq!(outbox.push(message(2, 0)), Ok(()));
            outbox.clear();
            assert_eq!(outbox.push(message(3, 0)), Ok(()));
            assert_eq!(take_some(&outbox, 9999), [message(100, 500), message(101, 500), message(3, 0)]);
        }
    }

    #[test]
    fn greetings_of_a_lost_link_are_dropped_and_its_messages_wait_for_the_next() {
        let outbox = outbox(9, 100, Overflow::DropLatest);
        outbox.push(message(1, 0)).unwrap();
        outbox.greet(vec![message(100, 0), message(101, 0)]);
        take_some(&outbox, 9999);
        let _ = outbox.written(1, false);
        outbox.link_lost(true);
        assert_eq!(dropped(&outbox).greeting.messages, 1);
        outbox.greet(vec![message(102, 0)]);
        assert_eq!(take_some(&outbox, 9999), [message(102, 0), message(1, 0)]);
    }

    #[test]
    fn greetings_beyond_their_bound_are_dropped_and_told_of() {
        let (outbox, told) = (outbox(2, 100, Overflow::DropLatest), Mutex::new(Dropped::default()));
        outbox.greet((0..65_538).map(|n| message(n, 0)).collect());
        outbox.report_drops(|reason, dropped| told.lock().unwrap().add(reason, dropped));
        let told = *told.lock().unwrap();
        assert_eq!((outbox.stats().queued.messages, told.overflow.messages, told.total()), (65_536, 2, told.overflow));
        assert_eq!(take_some(&outbox, 1 << 30).last(), Some(&message(65_535, 0)));
    }

    #[test]
    fn head_that_a_link_had_begun_is_known_and_can_be_dropped_once_that_link_is_gone() {
        let outbox = outbox(9, 100, Overflow::DropLatest);
        (1..=2).for_each(|n| outbox.push(message(n, 10)).unwrap());
        take_some(&outbox, 1);
        let first = outbox.head().unwrap();
        assert_eq!((first.len, first.was_begun, outbox.drop_head(first)), (14, false, false));
        outbox.link_lost(true);
        assert_eq!(outbox.head(), Some(Head { was_begun: true, ..first }));
        // The next link ended while it wrote its greeting.
        outbox.greet(vec![message(100, 0)]);
        take_some(&outbox, 1000);
        outbox.link_lost(true);
        assert_eq!(outbox.head(), Some(first));
        assert!(outbox.drop_head(first) && !outbox.drop_head(first));
        let second = outbox.head().unwrap();
        assert!(second.number > first.number && !second.was_begun);
        assert_eq!(dropped(&outbox).undeliverable, Tally { messages: 1, len: 14 });
        assert_eq!(take_some(&outbox, 1000), [message(2, 10)]);
    }

    #[test]
    fn nobody_who_pushes_waits_while_a_long_message_is_copied() {
        let outbox = outbox(9, 1 << 20, Overflow::DropLatest);
        (1..=3).for_each(|n| outbox.push(message(n, if n == 2 { LONG_LEN } else { 0 })).unwrap());
        let mut taken = Vec::new();
        outbox.take_each(1 << 20, |frame| {
            if frame.len() >= LONG_LEN {
                outbox.push(message(4, 0)).unwrap();
            }
            taken.push(frame.clone());
        });
        assert_eq!(taken, [message(1, 0), message(2, LONG_LEN), message(3, 0), message(4, 0)]);
        assert_eq!(outbox.lock().taken, 4);
    }

    #[test]
    fn queue_that_was_long_gives_its_memory_back() {
        let outbox = outbox(1 << 20, 1 << 30, Overflow::DropLatest);
        (0..100_000).for_each(|n| outbox.push(message(n, 0)).unwrap());
        let _ = outbox.written(take_some(&outbox, 1 << 30).len(), false);
        assert!(outbox.lock().queue.capacity() <= KEPT_PLACES);
    }

    /// What happens to an outbox.
    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Take(usize),
        Write(usize),
        GiveBack(usize),
        LoseLink,
        Greet(usize),
        DropHead,
        Clear,
        Close,
        End,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            20 => prop_oneof![5 => 0..10usize, 1 => 0..60usize].prop_map(Step::Push),
            8 => (0..100usize).prop_map(Step::Take),
            8 => (0..6usize).prop_map(Step::Write),
            3 => (0..6usize).prop_map(Step::GiveBack),
            2 => Just(Step::LoseLink),
            2 => (0..3usize).prop_map(Step::Greet),
            2 => Just(Step::DropHead),
            1 => Just(Step::Clear),
            1 => Just(Step::Close),
            1 => Just(Step::End),
        ]
    }

    fn overflow() -> impl Strategy<Value = Overflow> {
        prop_oneof![Just(Overflow::Disconnect), Just(Overflow::DropOldest), Just(Overflow::DropLatest)]
    }

    /// An outbox, and what a driver knows of it.
    struct Model {
        outbox: Outbox,
        bound: OutboxBound,
        taken: VecDeque<Frame>,
        numbers: std::ops::RangeFrom<u32>,
        /// What was offered while it was open.
        accepted: Tally,
        reported: Arc<Mutex<Dropped>>,
        /// Which message was at the head under which number.
        heads: HashMap<u64, Frame>,
    }

    impl Model {
        fn new(bound: OutboxBound) -> Self {
            let reported = Arc::new(Mutex::new(Dropped::default()));
            let sums = reported.clone();
            let outbox = Outbox::new(bound, move |outbox| {
                outbox.report_drops(|reason, dropped| sums.lock().unwrap().add(reason, dropped));
            });
            Self {
                outbox,
                bound,
                taken: VecDeque::new(),
                numbers: 0..,
                accepted: Tally::default(),
                reported,
                heads: HashMap::new(),
            }
        }

        fn queue(&self) -> Vec<Frame> {
            self.outbox.lock().queue.iter().cloned().collect()
        }

        fn next_message(&mut self, len: usize) -> Frame {
            message(self.numbers.next().unwrap(), len)
        }

        fn push(&mut self, len: usize) {
            let frame = self.next_message(len);
            let (before, was_closed) = (self.queue(), self.outbox.closing().is_some());
            let first_droppable = self.outbox.lock().droppable();
            let answer = self.outbox.push(frame.clone());
            let mut after = self.queue();
            assert_eq!(answer == Err(Refusal::Closed), was_closed);
            if !was_closed {
                self.accepted += Tally::of(&frame);
            }
            assert_eq!(answer.is_ok(), after.last() == Some(&frame));
            if answer.is_ok() {
                after.pop();
            }
            // What was there before is there still, but for what the policy drops.
            let gone = before.len() - after.len();
            let droppable = match self.bound.overflow {
                Overflow::DropLatest => 0,
                Overflow::DropOldest => gone,
                Overflow::Disconnect if answer == Err(Refusal::Full) => before.len() - first_droppable,
                Overflow::Disconnect => 0,
            };
            assert_eq!(gone, droppable);
            assert_eq!(
                after,
                [&before[..first_droppable.min(after.len())], &before[before.len().min(first_droppable + gone)..]]
                    .concat()
            );
        }

        fn take(&mut self, budget: usize) {
            let expected = self.queue();
            let batch = take_some(&self.outbox, budget);
            assert_eq!(batch[..], expected[self.taken.len()..][..batch.len()]);
            self.taken.extend(batch);
        }

        fn write(&mut self, count: usize) {
            let before = self.queue();
            // However things went meanwhile, what a driver has taken is what lies at the head.
            assert!(before.iter().zip(&self.taken).all(|(queued, taken)| queued == taken));
            let count = count.min(self.taken.len());
            let _ = self.outbox.written(count, false);
            self.taken.drain(..count);
            assert_eq!(self.queue(), before[count..]);
        }

        fn give_back(&mut self, count: usize) {
            let before = self.queue();
            self.taken.truncate(self.taken.len().saturating_sub(count));
            drop(self.outbox.settle(self.outbox.give_back(count, None)));
            // Once it has overflown, nothing is left for a later turn.
            let state = self.outbox.lock();
            let kept = if self.outbox.has_overflown() { state.droppable() } else { before.len() };
            assert!(state.taken == self.taken.len() && state.queue == &before[..kept]);
        }

        fn greet(&mut self, count: usize) {
            let greetings: Vec<_> = (0..count).map(|_| self.next_message(20)).collect();
            let before = self.queue();
            self.outbox.greet(greetings.clone());
            greetings.iter().for_each(|greeting| self.accepted += Tally::of(greeting));
            assert_eq!(self.queue(), [greetings, before].concat());
        }

        fn lose_link(&mut self) {
            let (before, greetings) = (self.queue(), self.outbox.lock().greetings());
            self.outbox.link_lost(!self.taken.is_empty());
            self.taken.clear();
            assert_eq!(self.queue(), before[greetings..]);
        }

        fn drop_head(&mut self) {
            let mut expected = self.queue();
            let Some(head) = self.outbox.head() else { return };
            let is_untaken = self.taken.len() <= self.outbox.lock().greetings();
            assert_eq!(self.outbox.drop_head(head), is_untaken);
            if is_untaken {
                expected.remove(self.outbox.lock().greetings());
                assert!(!self.outbox.drop_head(head));
            }
            assert_eq!(self.queue(), expected);
        }

        /// Each message at the head has one number, and each number belongs to one message.
        fn check_head(&mut self) {
            let Some(head) = self.outbox.head() else { return };
            let frame = self.queue()[self.outbox.lock().greetings()].clone();
            assert_eq!(head.len, frame.len());
            assert!(self.heads.iter().all(|(number, known)| (*number == head.number) == (*known == frame)));
            self.heads.insert(head.number, frame);
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Push(len) => self.push(len),
                Step::Take(budget) => self.take(budget),
                Step::Write(count) => self.write(count),
                Step::GiveBack(count) => self.give_back(count),
                Step::LoseLink => self.lose_link(),
                Step::Greet(count) => {
                    self.lose_link();
                    self.greet(count);
                }
                Step::DropHead => self.drop_head(),
                Step::Clear => {
                    let kept = self.queue()[..self.outbox.lock().droppable()].to_vec();
                    self.outbox.clear();
                    assert_eq!(self.queue(), kept);
                }
                Step::Close => self.outbox.close(1000, "", PATIENCE),
                Step::End => {
                    let queued = self.outbox.stats().queued;
                    assert_eq!(self.outbox.end(), queued);
                    self.taken.clear();
                }
            }
        }

        fn check(&self) {
            let state = self.outbox.lock();
            let stats = state.stats();
            let mut sum = stats.written;
            sum += stats.queued;
            sum += stats.dropped.total();
            assert_eq!((stats.accepted, self.accepted), (sum, sum));
            let in_queue = state.queue.iter().fold(Tally::default(), |mut sum, frame| {
                sum += Tally::of(frame);
                sum
            });
            assert_eq!(stats.queued, in_queue);
            let bounded = state.bounded();
            assert!(bounded.messages <= 1 || bounded.messages <= self.bound.messages as u64);
            assert!(bounded.messages <= 1 || bounded.len <= self.bound.len as u64);
            assert!(state.taken <= state.queue.len() && state.greetings() <= state.queue.len());
            let mut greetings = Tally::default();
            state.queue.iter().take(state.greetings()).for_each(|frame| greetings += Tally::of(frame));
            assert_eq!(state.bounded().len, stats.queued.len - greetings.len);
            assert_eq!(*self.reported.lock().unwrap(), stats.dropped);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn whatever_happens_the_sums_are_exact_the_bound_holds_and_the_order_is_kept(
            messages in 1..6usize,
            len in 0..60usize,
            overflow in overflow(),
            steps in prop::collection::vec(step(), 1..80),
        ) {
            let mut model = Model::new(OutboxBound { messages, len, overflow });
            for step in steps {
                model.step(step);
                model.check();
                model.check_head();
            }
        }
    }
}
