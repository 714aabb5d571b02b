//! [`RxWsClient`]: a client as a subject.
//!
//! ```text
//! handles    RxWsClient -> core -> the outbox, which outlives every link
//! task       retry -> dialing, request -> handshake -> serving, and again
//! serving    greetings, the outbox -> link -> Incoming -> the client's subject, or a branch of its group's
//! ```
//!
//! The task runs on the client's I/O thread, or on the threads of the runtime that it was given. A push runs on the caller's
//! thread, as far as the outbox.

mod builder;
mod calling;
mod core;
pub(crate) mod dialing;
mod multiplex;
pub(crate) mod options;
pub(crate) mod request;
pub(crate) mod retry;
#[cfg(feature = "config")]
mod retry_fields;
mod serving;
mod session;
mod suspicion;
mod task;

pub use builder::ClientBuilder;
pub use multiplex::{TopicSource, TopicSubscription};
pub use request::ConnRequest;
pub use retry::{OnClose, OnRejected, RetryPolicy};

use std::{sync::Arc, time::Duration};

use rxrust::context::Context;

use crate::{
    Calls, ConnConfig, Delivery, HttpResponse, Io, IoRuntime, IoScheduler, ObservableExt, SendError, WsDatatype,
    WsError,
    client::{core::ClientCore, dialing::Dialing, multiplex::Topic},
    endpoint::{
        Feed,
        drop_guard::DropGuard,
        event::{ClientEvent, ConnectionState},
        inbound::Inbound,
        options::Options,
        subject::endpoint,
        subscribe::subscribe,
        trace,
    },
    operators::Share,
    runtime::{UserValue, in_span::InSpan},
    sending::backpressure,
    stats::Stats,
};

/// A WebSocket client as a subject of `D::Item`: it sends the pushed items, and emits the items that arrive. It connects in
/// the background, and again whenever the connection is lost. *Hot*.
///
/// ```no_run
/// use rxplus::prelude::*;
///
/// let client = RxWsClient::connect("ws://127.0.0.1:8765/chat", WsStr)?;
/// client.clone().subscribe(|text| println!("{text}"));
/// client.next("hello"); // queued until connected
/// client.clone().complete(); // sends the queued messages, closes, then completes the subscribers
/// client.wait_closed(Duration::from_secs(10))?; // at the end of `main`, which would cut that short
/// # Ok::<(), WsError>(())
/// ```
///
/// # Emission
///
/// On the client's I/O thread, in the order of arrival. Until the first subscriber comes, 1,024 messages or 1 MiB are kept
/// for it. Callbacks may push, even into the client itself.
///
/// # End
///
/// The subject completes after `complete`, or when its last handle and its last subscriber are gone; it errors after
/// `error`, and when its [`RetryPolicy`](crate::RetryPolicy) allows no further attempt. A handle inside a subscriber or a
/// pipeline counts, so a client that feeds itself ends by `complete` only. The end of a single connection is not the end of
/// the subject: see [`events`](Self::events) and [`state`](Self::state).
pub struct RxWsClient<D: WsDatatype> {
    inner: ClientSource<D>,
    scheduler: IoScheduler,
}

/// The observable inside an [`RxWsClient`], as RxRust's operators see it.
pub struct ClientSource<D: WsDatatype> {
    core: Arc<ClientCore<D>>,
    guard: Arc<DropGuard>,
}

impl<D: WsDatatype> RxWsClient<D> {
    /// Makes a client with the default options, which connects in the background.
    ///
    /// # Errors
    ///
    /// When `address` is invalid, or the I/O thread cannot be started. It is not an error if nobody listens at the address:
    /// the client keeps trying, and says so in its [`events`](Self::events).
    pub fn connect<A>(address: A, datatype: D) -> Result<Self, WsError>
    where
        A: TryInto<ConnConfig>,
        A::Error: Into<WsError>,
    {
        Self::builder(address, datatype).connect()
    }

    /// Starts making a client with options.
    ///
    /// ```no_run
    /// use rxplus::prelude::*;
    ///
    /// let client = RxWsClient::builder("ws://127.0.0.1:8765/chat", WsStr)
    ///     .name("chat")
    ///     .conn_retry_timeout(Duration::from_millis(500))
    ///     .greeting(|_path| ["subscribe prices"])
    ///     .connect()?;
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn builder<A>(address: A, datatype: D) -> ClientBuilder<D>
    where
        A: TryInto<ConnConfig>,
        A::Error: Into<WsError>,
    {
        ClientBuilder::new(address, datatype)
    }

    /// Makes a client that does nothing before it is [started](Self::start).
    pub(crate) fn new(
        endpoint: ConnConfig,
        datatype: UserValue<Arc<D>>,
        options: Options,
        dialing: Dialing<D>,
        home: IoScheduler,
    ) -> Result<Self, WsError> {
        let core = Arc::new(ClientCore::new(endpoint, datatype, options, dialing, home.clone())?);
        let guard = DropGuard::of(&core);
        Ok(Self { inner: ClientSource { core, guard }, scheduler: home })
    }

    /// Runs the client as a task of `runtime`.
    pub(crate) fn start(&self, runtime: &IoRuntime) {
        let (core, dead) = (self.inner.core.clone(), self.inner.core.clone());
        let span = trace::client_span(core.component.name(), &core.ask.endpoint);
        runtime.serve(InSpan::new(span, task::run(core)), move |death| dead.died(&death));
    }

    /// Whether messages may be compressed on the present connection, or on the last one (`false` before the first): the server knows permessage-deflate
    /// (RFC 7692), and the client was built with `compression`.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.inner.core.outbox.is_compressed()
    }

    /// The state of the connection: the current one first, then each change, until `Closed`.
    #[must_use]
    pub fn state(&self) -> Io<Feed<ConnectionState>> {
        Feed::of(&self.inner.core.states, &self.scheduler)
    }

    /// How many messages were sent and received so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }

    /// The round trip of the last ping that the peer has answered, to the microsecond; `None` before the first answer, and as
    /// long as the heartbeat is off. It may be one of a connection that is gone.
    ///
    /// It includes the time in which either side was busy. The ping is counted from the moment at which the operating system
    /// has taken it, with all that was written before it.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.inner.core.outbox.latency()
    }

    /// Its name, as set by the builder.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.core.component.name()
    }

    /// The server's answer that opened the connection, with its headers; `None` while there is no connection.
    #[must_use]
    pub fn response(&self) -> Option<HttpResponse> {
        self.inner.core.response()
    }

    /// Blocks until the client is connected; after [`reconnect`](Self::reconnect), until the new connection is there. The server
    /// has answered by then, but its program may hear of the connection a moment later.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the client's own I/O thread, or the only one of its tokio runtime, at once.
    /// - The error that ended the client, or [`WsError::Closed`].
    pub fn wait_connected(&self, timeout: Duration) -> Result<(), WsError> {
        let core = &self.inner.core;
        core.component.wait("connecting", core.connected(), timeout)?
    }

    /// Connects anew: at once if the client is waiting to do so, and by dropping the connection if there is one. An attempt
    /// that is under way goes on. Before a connection is dropped, the messages that have arrived on it are emitted, for up
    /// to 1 s.
    ///
    /// May be called in any callback. In a callback that reports the loss of a connection, or a failed attempt, it makes the
    /// client skip the wait before the next attempt.
    pub fn reconnect(&self) {
        self.inner.core.reconnect();
    }

    /// As [`send`](Self::send), and returns a handle by which the fate of the item can be followed: see [`Delivery`]. An item
    /// that is not tracked costs nothing for that; a tracked one about 200 bytes until its end, and on a plain link a ping
    /// behind it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_tracked<T: Into<D::Outgoing>>(&self, item: T) -> Result<Delivery, SendError<D::Outgoing>> {
        let delivery = Delivery::new(self.scheduler.clone());
        crate::endpoint::EndpointCore::send(&self.inner.core, item.into(), Some(&delivery.fate()))?;
        Ok(delivery)
    }

    /// Requests that are answered. `number_of` reads in a reply the number of its request, or returns `None` for what is no reply: see
    /// [`Calls`].
    pub fn calls<R: Into<Option<u64>>>(&self, number_of: impl FnMut(&D::Item) -> R + Send + 'static) -> Calls<D> {
        Calls::new(self.clone(), number_of)
    }

    /// One of several topics on this link, as RxJS's `multiplex` has it: its first observer makes the client send what `subscribe` makes,
    /// the leaving of the last one what `unsubscribe` makes, and it emits the items for which `belongs` holds.
    ///
    /// ```no_run
    /// use rxplus::prelude::*;
    ///
    /// let quotes = RxWsClient::connect("ws://10.0.0.9:9000/quotes", WsStr)?;
    /// let euro = quotes.multiplex(
    ///     || "subscribe EURUSD",
    ///     || "unsubscribe EURUSD",
    ///     |quote| quote.starts_with("EURUSD "),
    /// );
    /// let seen = euro.clone().log_errors().subscribe(|quote| println!("{quote}")); // subscribes, once connected
    /// euro.take(1).log_errors().subscribe(|quote| println!("the first: {quote}")); // shares that
    /// seen.unsubscribe(); // unsubscribes, if the other one has its quote
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// Of a name that the program owns each function has a copy. What `multiplex` returns has a long type; to keep a topic in a struct,
    /// and subscribe to it as often as you like, keep a function that makes a [boxed](crate::IoBoxedObservable) one:
    ///
    /// ```no_run
    /// use rxplus::prelude::*;
    ///
    /// struct Row {
    ///     quotes: Box<dyn Fn() -> IoBoxedObservable<'static, WsText, WsError> + Send>,
    /// }
    ///
    /// fn row(exchange: &RxWsClient<WsStr>, symbol: String) -> Row {
    ///     let (wanted, unwanted) = (symbol.clone(), symbol.clone());
    ///     let topic = exchange.multiplex(
    ///         move || format!("subscribe {wanted}"),
    ///         move || format!("unsubscribe {unwanted}"),
    ///         move |quote| quote.split_once(' ').is_some_and(|(of, _)| of == symbol),
    ///     );
    ///     Row { quotes: Box::new(move || topic.clone().box_it()) }
    /// }
    ///
    /// # fn program(exchange: RxWsClient<WsStr>) {
    /// let euro = row(&exchange, "EURUSD".to_owned());
    /// (euro.quotes)().log_errors().subscribe(|quote| println!("{quote}"));
    /// # }
    /// ```
    ///
    /// Nothing is sent twice, and nothing in vain. On each new connection the topics that are wanted are subscribed to again, behind the
    /// [greetings](ClientBuilder::greeting) and before all that waits. A topic that comes while there is no connection is sent with the next
    /// one, and one that comes and goes meanwhile is not sent at all. In the [resumable mode](crate::Resume) the server knows its topics as
    /// long as the session lasts: only a new session is told of them again. Clones are the same topic; another call of `multiplex` makes another
    /// one.
    ///
    /// # End
    ///
    /// It ends as the client does. It ends with an error when `subscribe` panics or makes what cannot be encoded, and when the outbox
    /// refuses or drops the message, or a connection begins with more than 65,536 messages or 64 MiB ([`WsError::NotSent`]); or when
    /// `belongs` panics. Who subscribes after that, as `retry` does, makes the
    /// client try again. Its observers count as subscribers of the client.
    ///
    /// # Emission
    ///
    /// As the client, with one call of `belongs` for each item and topic: of many topics on one link,
    /// [`route_by_tag`](crate::ObservableExt::route_by_tag) tells items apart at the cost of one. `subscribe` and `unsubscribe` are called on the I/O thread soon
    /// after the observer has come or gone; what the thread that subscribes pushes next may be sent before that.
    #[expect(clippy::type_complexity, reason = "an alias would hide what comes out")]
    pub fn multiplex<S: Into<D::Outgoing>, U: Into<D::Outgoing>>(
        &self,
        subscribe: impl Fn() -> S + Send + Sync + 'static,
        unsubscribe: impl Fn() -> U + Send + Sync + 'static,
        belongs: impl Fn(&D::Item) -> bool + Send + Sync + 'static,
    ) -> Io<Share<TopicSource<D>, D::Item, WsError, <Io<()> as Context>::BoxedSubscription>> {
        let topic = Topic {
            subscribe: UserValue::new(Box::new(move || subscribe().into())),
            unsubscribe: UserValue::new(Box::new(move || unsubscribe().into())),
            belongs: UserValue::new(Box::new(belongs)),
        };
        Io::from_parts(TopicSource::new(self.inner.clone(), topic), self.scheduler.clone()).share()
    }

    /// Drops the messages that wait to be sent.
    pub fn clear_outbox(&self) {
        self.inner.core.outbox.clear();
    }

    pub(crate) fn core(&self) -> &ClientCore<D> {
        &self.inner.core
    }
}

endpoint! {
    RxWsClient, ClientSource { core, guard },
    emits D::Item, takes T => T => D::Outgoing, Into::into;

    /// Queues `item` for sending. Never blocks; a refused item becomes an event.
    ///
    /// By default 65,536 messages or 64 MiB may wait, even while there is no connection.
    fn next(item);

    /// Queues `item` for sending, and says why when it is refused. Never blocks.
    ///
    /// `Ok` is a place in the outbox, not delivery.
    ///
    /// # Errors
    ///
    /// - [`SendError::Full`] when the outbox is at its bound; the item is dropped and counted.
    /// - [`SendError::Closed`] from the moment that `complete` or `error` was called.
    /// - [`SendError::Encode`] when the datatype cannot encode the item.
    fn send(_) -> SendError;

    /// Sends the queued messages, closes with code 1000, and then completes the subscribers. Returns at once.
    ///
    /// This takes at most `Limits::close_timeout`, 5 s by default; [`closed`](Self::closed) reports the unsent messages.
    /// Without a connection it keeps trying to make one for that long, if anything is queued.
    ///
    /// The client does not wait for answers to its messages: let the peer say when it is done, and complete then.
    ///
    /// The end of `main` ends the threads that do this work: wait for them there, or the queued messages are lost with the
    /// process.
    ///
    /// ```no_run
    /// # use rxplus::prelude::*;
    /// # let client = RxWsClient::connect("ws://127.0.0.1:8765", WsStr)?;
    /// client.next("goodbye");
    /// client.clone().complete();
    /// let unsent = client.wait_closed(Duration::from_secs(10))?.unsent; // 0 unless the server was away or too slow
    /// # Ok::<(), WsError>(())
    /// ```
    fn complete();

    /// The events outside the data stream. The first 256 are kept for the first subscriber.
    fn events() -> ClientEvent;

    /// Resolves once the client has closed, with a report of the unsent messages.
    fn closed();

    /// Blocks until the client has closed, and returns a report of the unsent messages. `Duration::MAX` means no limit.
    ///
    /// Give it more than `Limits::close_timeout`, 5 s by default, or it gives up just before the report is there.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the client's own I/O thread, or the only one of its tokio runtime, at once.
    fn wait_closed();
}

backpressure!(RxWsClient, on "client's");

subscribe!(RxWsClient emits D::Item, errors at error);

impl<D: WsDatatype> ClientSource<D> {
    fn arriving(&self) -> Inbound<D::Item> {
        self.core.inbound.clone()
    }

    fn held(&self) -> Arc<DropGuard> {
        self.guard.clone()
    }
}
