//! [`LocalBroker`]: joins buses of one process.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::{
    WsError,
    bus::broker::{Broker, Connect, Envelope, Event},
};

/// How many messages may wait for a link. One more is lost, and its number tells.
const ROOM: usize = 1 << 20;

/// Joins the buses of one process as a broker joins those of many: for tests, and for programs that get a broker later. Cheap to
/// clone.
///
/// A million messages (2^20) may wait for a bus that does not take them; those beyond are lost to it, and told as
/// [`BusEvent::Gap`](crate::BusEvent::Gap). [`stop`](Self::stop) and [`start`](Self::start) are an outage.
///
/// ```
/// use rxplus::prelude::*;
///
/// let broker = LocalBroker::new();
/// let bus = |name: &str| RxBus::builder(&broker, WsStr).name(name).connect();
/// let (one, other) = (bus("one")?, bus("other")?);
/// let servers = [&one, &other].map(|bus| RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(bus).bind());
/// # Ok::<(), WsError>(())
/// ```
#[derive(Clone, Default)]
pub struct LocalBroker {
    links: Arc<Mutex<Links>>,
}

#[derive(Default)]
struct Links {
    is_stopped: bool,
    numbers: u64,
    open: HashMap<u64, Peer>,
}

/// A link, as the others see it.
struct Peer {
    /// The patterns by interest.
    patterns: HashMap<u64, String>,
    events: Sender<Event>,
}

impl LocalBroker {
    /// Makes a broker.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all links and refuses new ones until it is [started](Self::start), as a broker that is killed: for tests of what a
    /// program does meanwhile.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let broker = LocalBroker::new();
    /// let bus = RxBus::connect(&broker, WsStr)?;
    /// bus.wait_connected(Duration::from_secs(10))?;
    /// broker.stop();
    /// bus.next(TaggedData::new("/chat", "kept"));
    /// broker.start();
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn stop(&self) {
        self.lock().is_stopped = true;
        self.cut();
    }

    /// Lets buses connect again. A new broker is started.
    pub fn start(&self) {
        self.lock().is_stopped = false;
    }

    /// Ends all links.
    pub(crate) fn cut(&self) {
        let links = std::mem::take(&mut self.lock().open);
        drop(links);
    }
}

impl fmt::Debug for LocalBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBroker").finish_non_exhaustive()
    }
}

impl Connect for LocalBroker {
    type Link = LocalLink;

    async fn connect(&self) -> Result<LocalLink, WsError> {
        let (sender, events) = channel(ROOM);
        let mut links = self.lock();
        if links.is_stopped {
            return Err(broken(io::Error::new(io::ErrorKind::ConnectionRefused, "the broker is stopped")));
        }
        links.numbers += 1;
        let number = links.numbers;
        links.open.insert(number, Peer { patterns: HashMap::new(), events: sender });
        drop(links);
        Ok(LocalLink { broker: self.clone(), number, events, asked: None })
    }
}

/// A bus's link to a [`LocalBroker`].
pub(crate) struct LocalLink {
    broker: LocalBroker,
    number: u64,
    events: Receiver<Event>,
    /// The question that waits for its answer.
    asked: Option<u64>,
}

impl LocalLink {
    fn change(&self, change: impl FnOnce(&mut Peer)) -> Result<(), WsError> {
        self.broker.lock().open.get_mut(&self.number).map(change).ok_or_else(lost)
    }
}

impl Drop for LocalLink {
    fn drop(&mut self) {
        let peer = self.broker.lock().open.remove(&self.number);
        drop(peer);
    }
}

impl Broker for LocalLink {
    async fn publish(&mut self, envelope: Envelope) -> Result<(), WsError> {
        let links = self.broker.lock();
        let Some(_) = links.open.get(&self.number) else { return Err(lost()) };
        for (_, peer) in links.open.iter().filter(|(number, _)| **number != self.number) {
            let wanted = peer.patterns.iter().filter(|(_, pattern)| matches(pattern, &envelope.subject));
            for (interest, _) in wanted {
                // What finds no room is lost, as behind any broker.
                let _ = peer.events.try_send(Event::Arrived { interest: *interest, envelope: envelope.clone() });
            }
        }
        Ok(())
    }

    async fn subscribe(&mut self, interest: u64, pattern: &str) -> Result<(), WsError> {
        self.change(|peer| _ = peer.patterns.insert(interest, pattern.to_owned()))
    }

    async fn unsubscribe(&mut self, interest: u64) -> Result<(), WsError> {
        self.change(|peer| _ = peer.patterns.remove(&interest))
    }

    async fn flush(&mut self, question: u64) -> Result<(), WsError> {
        self.asked = Some(question);
        Ok(())
    }

    async fn next_event(&mut self) -> Event {
        if let Some(question) = self.asked.take() {
            return Event::Flushed(question);
        }
        self.events.recv().await.unwrap_or_else(|| Event::Lost(lost()))
    }

    fn name(&self) -> &str {
        "local"
    }

    fn max_len(&self) -> usize {
        usize::MAX
    }

    fn waiting(&self) -> u64 {
        self.events.len() as u64
    }
}

/// Whether a subject is one of a pattern, which may end with a wildcard.
fn matches(pattern: &str, subject: &str) -> bool {
    match pattern.strip_suffix('>') {
        Some(begin) => subject.len() > begin.len() && subject.starts_with(begin),
        None => pattern == subject,
    }
}

fn lost() -> WsError {
    broken(io::Error::other("the link was cut"))
}

fn broken(error: io::Error) -> WsError {
    WsError::Broker { server: "local".into(), source: Arc::new(error) }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use rxrust::observable::Observable;

    use super::*;
    use crate::{BusEvent, ObservableExt, RetryPolicy, RxBus, TaggedData, WsStr};

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn patterns_match_as_those_of_nats() {
        assert!(matches("rx.a", "rx.a") && matches("rx.>", "rx.a.b"));
        assert!(
            !matches("rx.a", "rx.a.b")
                && !matches("rx.a.>", "rx.a")
                && !matches("rx.a.>", "rx.ab")
                && !matches("rx.>", "rx.")
        );
    }

    /// What the receiver of `/a` has come to: the numbers that it heard, and a 0 for each that it missed.
    fn accounts(bus: &RxBus<WsStr>) -> mpsc::Receiver<u64> {
        let (sender, accounts) = mpsc::channel();
        let missing = sender.clone();
        bus.path("/a").log_errors().subscribe(move |td| _ = sender.send(td.data.parse().unwrap()));
        bus.events().subscribe(move |event| {
            if let BusEvent::Gap { missed, .. } = event {
                (0..missed).for_each(|_| _ = missing.send(0));
            }
        });
        accounts
    }

    /// Waits until `count` more are accounted for.
    fn settle(accounts: &mpsc::Receiver<u64>, count: u64) {
        let mut heard = 0;
        for _ in 0..count {
            // The last one may be missing, which a beat tells.
            match accounts.recv_timeout(PATIENCE).unwrap() {
                0 => {}
                number => {
                    assert!(number > heard, "{number} after {heard}");
                    heard = number;
                }
            }
        }
        assert_eq!(accounts.try_recv(), Err(mpsc::TryRecvError::Empty));
    }

    #[test]
    fn everything_pushed_over_links_that_are_cut_is_heard_once_or_announced() {
        let broker = LocalBroker::new();
        let retry = RetryPolicy::fixed(Duration::from_millis(1));
        let [here, there] = [0, 1].map(|_| RxBus::builder(&broker, WsStr).retry(retry.clone()).connect().unwrap());
        let accounts = accounts(&there);
        there.wait_connected(PATIENCE).unwrap();
        let push = |numbers: std::ops::Range<u64>| {
            numbers.for_each(|number| here.send(TaggedData::new("/a", number.to_string())).unwrap());
        };
        push(1..2);
        settle(&accounts, 1);
        for round in 0..20 {
            // Before anything is published on the new link in each second round, and in the middle of that in the others.
            let confirmed = here.stats().sent.written.messages;
            while round % 2 == 1 && here.stats().sent.written.messages == confirmed {
                std::thread::yield_now();
            }
            push(2 + round * 100..52 + round * 100);
            broker.cut();
            push(52 + round * 100..102 + round * 100);
            [&here, &there].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
        }
        settle(&accounts, 2_000);
        assert_eq!(here.stats().sent.dropped.total().messages, 0);
    }
}
