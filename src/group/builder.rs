//! [`GroupBuilder`]: the options of a group.

use std::{sync::Arc, time::Duration};

use crate::{
    ConnConfig, IoScheduler, RxWsClientGroup, WsDatatype, WsError,
    client::{dialing::Dialing, options::client_options},
    endpoint::{
        drop_guard::DropGuard,
        options::{Options, common_options},
    },
    group::{GroupSource, children::PathBounds, core::GroupCore, task},
};

/// Builds a group with options: see [`RxWsClientGroup::builder`].
#[must_use]
#[derive(Debug)]
pub struct GroupBuilder<D: WsDatatype> {
    endpoint: Result<ConnConfig, WsError>,
    datatype: D,
    options: Options,
    dialing: Dialing<D>,
    bounds: PathBounds,
}

impl<D: WsDatatype> GroupBuilder<D> {
    pub(crate) fn new<A>(address: A, datatype: D) -> Self
    where
        A: TryInto<ConnConfig>,
        A::Error: Into<WsError>,
    {
        Self {
            endpoint: address.try_into().map_err(Into::into),
            datatype,
            options: Options::client("group"),
            dialing: Dialing::default(),
            bounds: PathBounds::default(),
        }
    }

    common_options!(
        outbox: "on each client, and what happens when that is full. The default is 65,536 messages or 64 MiB; then the \
                 newest is refused.",
        name: "group",
        keys: dialing.key_of
    );
    client_options!();

    /// Sets how many paths may have a client at once. The default is 1,024.
    ///
    /// A message for one path more is refused: [`send`](RxWsClientGroup::send) says
    /// [`SendError::TooManyPaths`](crate::SendError::TooManyPaths), and there is an event
    /// ([`ClientEvent::PathRefused`](crate::ClientEvent::PathRefused)) and a count
    /// ([`GroupStats::refused`](crate::GroupStats::refused)). [`open`](RxWsClientGroup::open) is an error then. A path has
    /// room again as soon as a client closes, is closed or fails; as many clients as this, and at least 1,024, may be
    /// closing besides.
    ///
    /// Where peers choose the paths, as behind a server whose messages are relayed, this limit bounds the connections that
    /// they can make the group open. Set an [`idle_timeout`](Self::idle_timeout) there as well.
    ///
    /// # Panics
    ///
    /// If `max` is zero.
    pub fn max_paths(mut self, max: usize) -> Self {
        assert!(max > 0, "a group must have room for at least one path");
        self.bounds.max = max;
        self
    }

    /// Closes a client for which nothing was sent, received or queued for `timeout`. `None`, the default, closes none.
    ///
    /// An event reports it ([`ClientEvent::Idle`](crate::ClientEvent::Idle)), and the next message for the path opens a new
    /// client. Whole messages count, in both directions; pings do not. The group looks four times within `timeout`, so a
    /// client is closed after `timeout`, and before one and a half times as long. A client that
    /// [`open`](RxWsClientGroup::open) has returned is never closed for being idle.
    ///
    /// Only messages keep a path open; a subscriber that waits for them does not. Where peers of a relay only listen, open
    /// their paths with [`open`](RxWsClientGroup::open) when they connect, and [close](RxWsClientGroup::close) them with the
    /// last one.
    ///
    /// # Panics
    ///
    /// If `timeout` is zero.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = timeout.into();
        assert!(timeout.is_none_or(|time| !time.is_zero()), "idle_timeout must be longer than zero");
        self.bounds.idle = timeout;
        self
    }

    /// Makes the group, which connects to nothing yet.
    ///
    /// # Errors
    ///
    /// As [`RxWsClientGroup::new`], and when a header or a subprotocol cannot be sent.
    pub fn build(self) -> Result<RxWsClientGroup<D>, WsError> {
        let runtime = self.options.runtime()?;
        let home = IoScheduler::on(&runtime);
        let core =
            GroupCore::new(self.endpoint?, self.datatype, self.options, self.dialing, self.bounds, home.clone())?;
        let core = Arc::new(core);
        let dead = core.clone();
        runtime.serve(task::run(core.clone()), move |death| dead.died(&death));
        let guard = DropGuard::of(&core);
        Ok(RxWsClientGroup { inner: GroupSource { core, guard, only: None }, scheduler: home })
    }
}
