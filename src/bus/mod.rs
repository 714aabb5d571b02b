//! [`RxBus`]: many servers, one subject.
//!
//! ```text
//! next, send -> core -> outbox (numbers) -> task -> Broker: NATS, or this process -> the buses of others
//!                 `---> the subscribers and the servers of this process, at once
//! Broker -> task -> core (doubles, gaps, datatype) -> Servers: the routing tables; the bus's subject: subscribers
//! ```
//!
//! | file | contents |
//! |---|---|
//! | here, `builder` | the bus as its users see it |
//! | `core` | the ways of a message: out, to the others of this process, and in |
//! | `task`, `link` | connecting again and again; one link to the broker, from its beginning to its end |
//! | `outbox` | the queue between a push and the broker |
//! | `interests`, `topic` | the paths that somebody wants to hear |
//! | `servers` | the servers that share the bus |
//! | `numbers` | what is missing, and what comes twice |
//! | `presence/` | who is where |
//! | `subject_name` | paths as subjects |
//! | `broker/` | what joins the buses: NATS, or this process |

pub(crate) mod broker;
mod builder;
pub(crate) mod core;
pub(crate) mod event;
pub(crate) mod interests;
mod link;
mod numbers;
mod outbox;
pub(crate) mod presence;
pub(crate) mod servers;
mod subject_name;
mod task;
mod topic;

pub use broker::{address::BusAddress, local::LocalBroker};
pub use builder::BusBuilder;
pub use event::BusEvent;
pub use presence::feed::PresenceFeed;

use std::{sync::Arc, time::Duration};

use rxrust::context::Context;

use crate::{
    ConnectionState, Io, IoRuntime, IoScheduler, SendError, Stats, Tag, TaggedData, WsDatatype, WsError,
    bus::{
        broker::Connect,
        core::{BusCore, Options},
        interests::Scope,
        topic::Topic,
    },
    endpoint::{Feed, drop_guard::DropGuard, subject::endpoint, subscribe::subscribe},
};

/// A subject of [`TaggedData`] that many processes share, over a NATS broker: what is pushed into one handle reaches the
/// subscribers of every handle in every process, once. *Hot*.
///
/// A bus echoes: its own subscribers hear what is pushed into it, at once, as with any subject. A server does not.
///
/// ```
/// use rxplus::prelude::*;
///
/// let broker = LocalBroker::new(); // in a program: "nats://10.0.0.5:4222"
/// let [here, there] = [RxBus::connect(&broker, WsStr)?, RxBus::connect(&broker, WsStr)?];
///
/// let (sender, received) = std::sync::mpsc::channel();
/// there.path("/chat").log_errors().subscribe(move |td| _ = sender.send(td.data));
/// # there.wait_connected(Duration::from_secs(10))?;
/// here.next(TaggedData::new("/chat", "hello"));
/// assert_eq!(received.recv().unwrap(), "hello");
/// # Ok::<(), WsError>(())
/// ```
///
/// Given to a server by [`ServerBuilder::bus`](crate::ServerBuilder::bus), it joins that server to all others on the bus. The
/// guide has [more](crate::guide::bus).
///
/// # Emission
///
/// What is pushed here: on the thread that pushes. What comes from the broker: on the bus's I/O thread, in the order in which
/// each bus has published the messages of a path. The broker sends the messages of the paths that somebody here subscribes to;
/// nothing is kept for later subscribers. Callbacks may push, even into the bus itself.
///
/// # Loss
///
/// Messages are numbered. A bus gives the broker again, after a break, what the broker has not confirmed, and receivers drop
/// what they have; so nothing is lost or doubled on that way. It does so when the other buses have had time to come back as well:
/// see [`BusBuilder::retry`]. A message that the broker has taken and not passed on is gone, and each receiver says how many by
/// [`BusEvent::Gap`].
///
/// # End
///
/// As that of a client: after `complete`, or when its last handle and its last subscriber are gone; a server that has it holds a
/// handle. The loss of the broker is not the end: see [`events`](Self::events) and [`state`](Self::state).
pub struct RxBus<D: WsDatatype> {
    pub(crate) inner: BusSource<D>,
    scheduler: IoScheduler,
}

/// The observable inside an [`RxBus`], as RxRust's operators see it: of all paths, of one, or of those below one.
pub struct BusSource<D: WsDatatype> {
    pub(crate) core: Arc<BusCore<D>>,
    guard: Arc<DropGuard>,
    scope: Scope,
}

impl<T: Clone + Send + 'static, D: WsDatatype<Item = T, Outgoing = T>> RxBus<D> {
    /// Makes a bus with the default options, which connects in the background: to `nats://host:port`, with `tls://` over TLS,
    /// or to a [`LocalBroker`]. Several addresses of one cluster are separated by commas.
    ///
    /// # Errors
    ///
    /// When `address` is invalid, or the I/O thread cannot be started. It is not an error if there is no broker: the bus keeps
    /// trying, and says so in its [`events`](Self::events).
    pub fn connect<A>(address: A, datatype: D) -> Result<Self, WsError>
    where
        A: TryInto<BusAddress>,
        A::Error: Into<WsError>,
    {
        Self::builder(address, datatype).connect()
    }

    /// Makes a bus that no other process shares: a subject for programs that may get a broker later, and for tests. Buses that
    /// are to hear each other without a broker are [connected](Self::connect) to one [`LocalBroker`].
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let bus = RxBus::local(WsStr)?;
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(&bus).bind()?;
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the I/O thread cannot be started.
    pub fn local(datatype: D) -> Result<Self, WsError> {
        Self::connect(&LocalBroker::new(), datatype)
    }

    /// Starts making a bus with options.
    ///
    /// ```no_run
    /// use rxplus::prelude::*;
    ///
    /// let bus = RxBus::builder("tls://nats.example.org", WsStr)
    ///     .name("dashboards")
    ///     .prefix("prod.ws") // subjects prod.ws.<path>
    ///     .token(std::env::var("NATS_TOKEN").unwrap())
    ///     .retry(RetryPolicy::exponential().max_delay(Duration::from_secs(4)))
    ///     .connect()?;
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn builder<A>(address: A, datatype: D) -> BusBuilder<D>
    where
        A: TryInto<BusAddress>,
        A::Error: Into<WsError>,
    {
        BusBuilder::new(address.try_into().map_err(Into::into), datatype)
    }

    fn start(datatype: D, options: Options, runtime: &IoRuntime, task: task::Settings<impl Connect>) -> Self {
        let home = IoScheduler::on(runtime);
        let core = Arc::new(BusCore::new(datatype, options, home.clone(), T::clone));
        let (guard, dead) = (DropGuard::of(&core), core.clone());
        runtime.serve(task::run(core.clone(), task), move |death| dead.died(&death));
        Self { inner: BusSource { core, guard, scope: Scope::All }, scheduler: home }
    }
}

impl<D: WsDatatype> RxBus<D> {
    /// The messages of one path; the broker sends no others for it. *Hot*.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let bus = RxBus::local(WsStr)?;
    /// let (sender, received) = std::sync::mpsc::channel();
    /// bus.path("/alarms").log_errors().subscribe(move |td| _ = sender.send(td.data));
    /// bus.next(TaggedData::new("/alarms", "fire"));
    /// assert_eq!(received.recv().unwrap(), "fire");
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn path(&self, path: impl Into<Tag>) -> Io<BusSource<D>> {
        self.scoped(Scope::Path(path.into()))
    }

    /// The messages of all paths below `path`, which is not among them: of `/chat/a` and `/chat/a/b` for `/chat`. *Hot*.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let bus = RxBus::local(WsStr)?;
    /// bus.under("/chat").log_errors().subscribe(|td| println!("{}: {}", td.tag, td.data));
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn under(&self, path: impl AsRef<str>) -> Io<BusSource<D>> {
        self.scoped(Scope::under(path.as_ref()))
    }

    fn scoped(&self, scope: Scope) -> Io<BusSource<D>> {
        let BusSource { core, guard, .. } = self.inner.clone();
        Io::from_parts(BusSource { core, guard, scope }, self.scheduler.clone())
    }

    /// The state of the link to the broker: the current one first, then each change, until `Closed`.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let bus = RxBus::local(WsStr)?;
    /// bus.state().subscribe(|state| println!("{state:?}"));
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn state(&self) -> Io<Feed<ConnectionState>> {
        Feed::of(&self.inner.core.states, &self.scheduler)
    }

    /// Who is on a tag, a path or a [room](crate::Connection::join), on all servers of this bus: the present state first, then each
    /// change. *Hot*.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let bus = RxBus::local(WsStr)?;
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
    ///     .bus(&bus)
    ///     // ws://host/chat?name=Ali
    ///     .member(|connection| connection.query_pairs().find(|(key, _)| key == "name").map(|(_, name)| name.into_owned()))
    ///     .bind()?;
    /// bus.presence("/chat").subscribe(|here| {
    ///     println!("{} connections on {} servers: {:?}", here.connections, here.servers.len(), here.names());
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// The first one to ask waits a quarter of a second for the answers of the others; what comes later is a change. Each bus tells the
    /// others what changes on its servers, five times a second at most, and everything to those who missed something. What a process
    /// that was killed had told is gone within 15 s, and so is that of one that cannot be reached; what comes back is heard again.
    ///
    /// A tag begins with `/`, as the path of a connection; on one that does not, nobody is, and
    /// [`Unroutable`](BusEvent::Unroutable) says so.
    #[must_use]
    pub fn presence(&self, path: impl Into<Tag>) -> Io<PresenceFeed> {
        let (BusSource { core, guard, .. }, path) = (&self.inner, path.into());
        if !path.starts_with('/') {
            core.report_without_subject(Scope::Path(path.clone()));
        }
        Io::from_parts(PresenceFeed::of(core, guard.clone(), path), self.scheduler.clone())
    }

    /// How many messages were published and received so far. `written` are those that the broker has confirmed; `queued` those
    /// that wait or are on the way. A message that is received for two overlapping subscriptions counts twice.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let bus = RxBus::local(WsStr)?;
    /// bus.next(TaggedData::new("/chat", "hello"));
    /// assert_eq!(bus.stats().sent.accepted.messages, 1);
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }

    /// Its name, as set by the builder.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.core.component.name()
    }

    /// Blocks until there is a link to the broker, and the broker knows of the subscriptions made until then.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the bus's own I/O thread, or the only one of its tokio runtime, at once.
    /// - The error that ended the bus, or [`WsError::Closed`].
    pub fn wait_connected(&self, timeout: Duration) -> Result<(), WsError> {
        let core = &self.inner.core;
        core.component.wait("connecting", core.connected(), timeout)?
    }
}

endpoint! {
    RxBus, BusSource { core, guard, scope },
    emits TaggedData<D::Item>, takes T => TaggedData<T> => TaggedData<D::Outgoing>, |tagged: TaggedData<T>| tagged.map(Into::into);

    /// Passes a message to the subscribers and the servers of this process, and queues it for those of all others. Never
    /// blocks; a refused message becomes an event.
    ///
    /// By default 65,536 messages or 64 MiB may wait, even while there is no broker.
    fn next(tagged);

    /// As [`next`](Self::next), and says why when the message is not on its way to the other processes. Never blocks.
    ///
    /// `Ok` is a place in the outbox, not delivery. The subscribers and the servers of this process hear the message also when
    /// it is refused as `Full`, is too long for the broker, or has a path without a subject.
    ///
    /// # Errors
    ///
    /// - [`SendError::Full`] when the outbox is at its bound; the message is dropped and counted.
    /// - [`SendError::Closed`] from the moment that `complete` or `error` was called.
    /// - [`SendError::Encode`] when the datatype cannot encode the item, when the broker does not take a message of this length,
    ///   or when the path has no subject.
    fn send(_) -> SendError;

    /// Publishes the queued messages, ends the link, and then completes the subscribers. Returns at once.
    ///
    /// This takes at most 5 s; [`closed`](Self::closed) reports the messages that the broker has not confirmed. The end of `main`
    /// ends the threads that do this work: wait for them there, with [`wait_closed`](Self::wait_closed) on a clone. Servers on the
    /// bus go on without it.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let bus = RxBus::local(WsStr)?;
    /// bus.next(TaggedData::new("/chat", "goodbye"));
    /// bus.clone().complete();
    /// assert_eq!(bus.wait_closed(Duration::from_secs(10))?.unsent, 0);
    /// # Ok::<(), WsError>(())
    /// ```
    fn complete();

    /// The events outside the data stream. The first 256 are kept for the first subscriber.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let bus = RxBus::local(WsStr)?;
    /// bus.events().subscribe(|event| println!("{event:?}"));
    /// # Ok::<(), WsError>(())
    /// ```
    fn events() -> BusEvent;

    /// Resolves once the bus has closed, with a report of the unsent messages.
    fn closed();

    /// Blocks until the bus has closed, and returns a report of the unsent messages. `Duration::MAX` means no limit.
    ///
    /// Give it more than 5 s, or it gives up just before the report is there.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the bus's own I/O thread, or the only one of its tokio runtime, at once.
    fn wait_closed();
}

subscribe!(RxBus emits TaggedData<D::Item>, errors at error);

impl<D: WsDatatype> BusSource<D> {
    fn arriving(&self) -> Topic<D::Item> {
        let (inbound, interests) = (self.core.component.inbound.clone(), self.core.interests.clone());
        Topic { inbound, interests, scope: self.scope.clone() }
    }

    fn held(&self) -> Arc<DropGuard> {
        self.guard.clone()
    }
}
