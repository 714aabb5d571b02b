//! [`Door`]: where a link is handed to the session that it belongs to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::Identity;
use crate::{handshake::admission::Permit, session::Token, transport::Transport};

/// A link whose client has come back.
pub(crate) struct Returned {
    pub(crate) stream: Transport,
    pub(crate) early_bytes: Bytes,
    /// Its number.
    pub(crate) link: u64,
    /// The position that the client has come to.
    pub(crate) received: u64,
    pub(crate) permit: Permit,
}

/// The way into a session.
pub(crate) struct Door {
    pub(super) token: Token,
    pub(super) identity: Identity,
    inside: Mutex<Inside>,
    /// A link waits.
    knocked: Notify,
    /// The session is to give up waiting for its client.
    evicted: Notify,
}

struct Inside {
    /// The number of the latest link.
    link: u64,
    waiting: Option<Returned>,
    is_closed: bool,
}

impl Door {
    pub(super) fn new(token: Token, identity: Identity) -> Self {
        let inside = Inside { link: 1, waiting: None, is_closed: false };
        Self { token, identity, inside: Mutex::new(inside), knocked: Notify::new(), evicted: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this link is newer than all before: an attempt that its client has given up can arrive minutes later.
    pub(super) fn take_number(&self, link: u64) -> bool {
        let mut inside = self.lock();
        let is_newer = link > inside.link;
        inside.link = inside.link.max(link);
        is_newer
    }

    /// Hands a link over. The one that waited is dropped, since its client has given it up. So is this one when a newer one has
    /// overtaken it, or when the session has just ended: its client will ask again.
    pub(crate) fn hand_over(&self, returned: Returned) {
        let mut inside = self.lock();
        let is_late = inside.is_closed || returned.link < inside.link;
        let dropped = if is_late { Some(returned) } else { inside.waiting.replace(returned) };
        drop(inside);
        drop(dropped);
        self.knocked.notify_one();
    }

    /// Takes the link that waits.
    pub(super) fn take(&self) -> Option<Returned> {
        self.lock().waiting.take()
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.lock().waiting.is_some()
    }

    /// Resolves when a link waits. Supports one waiter at a time.
    pub(super) async fn knocked(&self) {
        while self.lock().waiting.is_none() {
            self.knocked.notified().await;
        }
    }

    pub(super) fn evict(&self) {
        self.evicted.notify_one();
    }

    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Lets nobody in any more. Returns the link that waited.
    pub(super) fn close(&self) -> Option<Returned> {
        let mut inside = self.lock();
        inside.is_closed = true;
        inside.waiting.take()
    }
}
