//! [`RxWsClientGroup`]: one client per path, as one subject.
//!
//! ```text
//! handles    RxWsClientGroup -> core -> children: the client for the path, opened if need be -> its outbox
//! task       closes the clients that are idle, and at the end all of them
//! clients    each with a task of its own -> its branch -> the group's subject; its events -> the group's events
//! ```
//!
//! All these tasks run on the group's I/O thread, or on the threads of the runtime that it was given. A push runs on the
//! caller's thread, as far as a client's outbox, and makes the client if there is none.

mod builder;
mod children;
mod core;
mod task;

pub use builder::GroupBuilder;

use std::sync::Arc;

use crate::{
    ConnConfig, Delivery, IoScheduler, RxWsClient, SendError, SerializedSubject, Tag, TaggedData, WsDatatype, WsError,
    endpoint::{
        Received, drop_guard::DropGuard, event::ClientEvent, subject::endpoint, subscribe::subscribe,
        tag_filter::tag_filter,
    },
    group::core::GroupCore,
    stats::GroupStats,
};

/// Clients of one server, one per path, as one subject of [`TaggedData`]: the client for the tag's path sends a pushed
/// message, and is made when first needed; the messages that the clients receive are emitted, tagged with their path. *Hot*.
///
/// ```no_run
/// use rxplus::prelude::*;
///
/// let group = RxWsClientGroup::new("ws://127.0.0.1:8765", WsStr)?;
/// group.next(TaggedData::new("/audio", "...")); // opens /audio
/// group.clone().subscribe(|td| println!("[{}] {}", td.tag, td.data));
/// # Ok::<(), WsError>(())
/// ```
///
/// Its clients share one I/O thread and all of the group's options; each is named `{name}:{path}`.
///
/// # Emission
///
/// On the group's I/O thread; the messages of each path in the order of their arrival. Until the first subscriber comes,
/// 1,024 messages or 1 MiB are kept for it. Callbacks may push, even into the group itself.
///
/// # End
///
/// The subject completes after `complete`, or when its last handle and its last subscriber are gone, and errors after
/// `error`. The end of a client is not the end of the group: it is an [event](Self::events), and the next message for its
/// path opens a new one.
pub struct RxWsClientGroup<D: WsDatatype> {
    inner: GroupSource<D>,
    scheduler: IoScheduler,
}

/// The observable inside an [`RxWsClientGroup`], as RxRust's operators see it.
pub struct GroupSource<D: WsDatatype> {
    core: Arc<GroupCore<D>>,
    guard: Arc<DropGuard>,
    /// The tag that its subscribers hear, if they hear just one.
    only: Option<Tag>,
}

impl<D: WsDatatype> RxWsClientGroup<D> {
    /// Makes a group with the default options. It connects to nothing yet; the path of `address` means nothing.
    ///
    /// # Errors
    ///
    /// When `address` is invalid, or the I/O thread cannot be started.
    pub fn new<A>(address: A, datatype: D) -> Result<Self, WsError>
    where
        A: TryInto<ConnConfig>,
        A::Error: Into<WsError>,
    {
        Self::builder(address, datatype).build()
    }

    /// Starts making a group with options, which reach all of its clients.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let by_path = WsByPath::new(|path| if path == "/audio" { WsKind::Bytes } else { WsKind::Str });
    /// let group = RxWsClientGroup::builder("ws://127.0.0.1:8765", by_path).name("robot").build()?;
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn builder<A>(address: A, datatype: D) -> GroupBuilder<D>
    where
        A: TryInto<ConnConfig>,
        A::Error: Into<WsError>,
    {
        GroupBuilder::new(address, datatype)
    }

    /// Opens the client for `path`, if it is not open, and returns it. It stays open however long it is idle.
    ///
    /// Its messages are emitted by the group and by the client itself. Messages that came when neither the client nor the
    /// group had a subscriber wait for the client's next subscriber, on whatever thread that subscribes, or for the group's
    /// first (up to 1,024 messages and 1 MiB for the whole group). `complete` on the client closes this path alone.
    ///
    /// # Errors
    ///
    /// - [`WsError::Closed`] after `complete` or `error`.
    /// - [`WsError::TooManyPaths`] when the group has [`max_paths`](GroupBuilder::max_paths) others.
    pub fn open(&self, path: impl Into<Tag>) -> Result<RxWsClient<D>, WsError> {
        self.inner.core.open(&path.into())
    }

    /// Makes the client for `path` send its queued messages and close. The next message for the path opens a new one.
    pub fn close(&self, path: impl Into<Tag>) {
        self.inner.core.close(&path.into());
    }

    /// The paths that have a client, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<Tag> {
        self.inner.core.paths()
    }

    /// As [`send`](Self::send), and returns a handle by which the fate of the item can be followed: see [`Delivery`]. An item
    /// that is not tracked costs nothing for that; a tracked one about 200 bytes until its end, and on a plain link a ping
    /// behind it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_tracked<T: Into<D::Outgoing>>(
        &self,
        tagged: TaggedData<T>,
    ) -> Result<Delivery, SendError<TaggedData<D::Outgoing>>> {
        let delivery = Delivery::new(self.scheduler.clone());
        let tagged = tagged.map(Into::into);
        crate::endpoint::EndpointCore::send(&self.inner.core, tagged, Some(&delivery.fate()))?;
        Ok(delivery)
    }

    /// How many messages were sent and received so far, over all clients. For one path, ask its client: `group.open(path)?.stats()`.
    #[must_use]
    pub fn stats(&self) -> GroupStats {
        self.inner.core.stats()
    }

    /// Its name, as set by the builder.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.core.component.name()
    }
}

endpoint! {
    RxWsClientGroup, GroupSource { core, guard, only },
    emits TaggedData<D::Item>, takes T => TaggedData<T> => TaggedData<D::Outgoing>, |tagged: TaggedData<T>| tagged.map(Into::into);

    /// Queues a message with the client for the tag's path, which is opened if need be. Never blocks; a refused message
    /// becomes an event.
    fn next(tagged);

    /// As [`next`](Self::next), and says why when the message is refused. Never blocks.
    ///
    /// `Ok` is a place in the client's outbox, not delivery.
    ///
    /// # Errors
    ///
    /// - [`SendError::Full`] when the client's outbox is at its bound; the item is dropped and counted.
    /// - [`SendError::TooManyPaths`] when the group has [`max_paths`](GroupBuilder::max_paths) others; the item is dropped
    ///   and counted.
    /// - [`SendError::Closed`] from the moment that `complete` or `error` was called.
    /// - [`SendError::Encode`] when the datatype cannot encode the item.
    fn send(_) -> SendError;

    /// Closes every client: each sends its queued messages and closes with code 1000. Then completes the subscribers.
    /// Returns at once.
    ///
    /// This takes at most `Limits::close_timeout`, 5 s by default; [`closed`](Self::closed) reports the unsent messages.
    ///
    /// The end of `main` ends the threads that do this work: wait for them there, with [`wait_closed`](Self::wait_closed) on
    /// a clone, or the queued messages are lost with the process.
    fn complete();

    /// The events of the clients outside their data streams, tagged with their path; an event of the group as a whole
    /// carries an empty tag. The first 256 events are kept for the first subscriber.
    fn events() -> TaggedData<ClientEvent>;

    /// Resolves once the group has closed, with a report of the unsent messages.
    fn closed();

    /// Blocks until the group has closed, and returns a report of the unsent messages. `Duration::MAX` means no limit.
    ///
    /// Give it more than `Limits::close_timeout`, 5 s by default, or it gives up just before the report is there.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the group's own I/O thread, or the only one of its tokio runtime, at once.
    fn wait_closed();
}

subscribe!(RxWsClientGroup emits TaggedData<D::Item>, errors at error);
tag_filter!(RxWsClientGroup, GroupSource);

impl<D: WsDatatype> GroupSource<D> {
    fn arriving(&self) -> SerializedSubject<TaggedData<Received<D::Item>>, WsError> {
        self.core.component.inbound.clone()
    }

    fn held(&self) -> impl Send + 'static + use<D> {
        (self.guard.clone(), self.core.audience.count_in(self.only.as_deref()))
    }
}
