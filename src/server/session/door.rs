//! [`Door`]: where a link is handed to the session that it belongs to.

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::Identity;
use crate::{
    handshake::admission::Permit,
    protocol::deflate::Agreed,
    runtime::callback,
    server::lane::Lane,
    session::{Token, verb::MAX_NUMBER},
    transport::Transport,
};

/// How many bytes are kept of a client that does not wait for its answer: it has nothing to say.
const EARLY_LEN: usize = 4096;

const READ_LEN: usize = 1024;

/// Higher than the number of any link, which a control message can tell.
const CLOSED: u64 = MAX_NUMBER + 1;

/// A link whose client has come back.
pub(crate) struct Returned {
    pub(crate) stream: Transport,
    pub(crate) early_bytes: Bytes,
    /// What both sides have agreed on for it, if messages may be compressed.
    pub(crate) deflate: Option<Agreed>,
    /// Its number.
    pub(crate) link: u64,
    /// The position that the client has come to.
    pub(crate) received: u64,
    pub(crate) permit: Permit,
    /// Where it has arrived, which need not be where its session is.
    pub(crate) lane: Arc<Lane>,
}

impl Returned {
    /// Resolves when the link has ended, while it waits. What the client says meanwhile is kept, up to a bound behind which an end
    /// is not seen.
    pub(super) async fn ended(&mut self) {
        while self.early_bytes.len() < EARLY_LEN {
            let mut bytes = BytesMut::with_capacity(self.early_bytes.len() + READ_LEN);
            bytes.extend_from_slice(&self.early_bytes);
            match self.stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => self.early_bytes = bytes.freeze(),
            }
        }
        pending().await
    }
}

/// The way into a session.
pub(crate) struct Door {
    pub(super) token: Token,
    pub(super) identity: Identity,
    inside: Mutex<Inside>,
    /// Whether a link waits. Written under the lock, and read without it on each turn of the present link.
    is_wanted: AtomicBool,
}

struct Inside {
    /// The number of the latest link; [`CLOSED`] when no further one may come in.
    link: u64,
    /// In a box, as it is rarely there.
    waiting: Option<Box<Returned>>,
    /// The task that serves the session.
    task: Option<Waker>,
}

impl Door {
    pub(super) fn new(token: Token, identity: Identity) -> Self {
        let inside = Inside { link: 1, waiting: None, task: None };
        let (inside, is_wanted) = (Mutex::new(inside), AtomicBool::new(false));
        Self { token, identity, inside, is_wanted }
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
        let is_late = returned.link < inside.link;
        let returned = Box::new(returned);
        if is_late {
            drop(inside);
            return drop(returned);
        }
        let before = inside.waiting.replace(returned);
        self.is_wanted.store(true, Relaxed);
        // Only now: the task does not tell its waker a second time while nothing waits.
        let task = inside.task.take();
        drop(inside);
        drop(before);
        task.into_iter().for_each(callback::wake);
    }

    /// Takes the link that waits.
    pub(super) fn take(&self) -> Option<Returned> {
        let mut inside = self.lock();
        self.is_wanted.store(false, Relaxed);
        inside.waiting.take().map(|returned| *returned)
    }

    /// Resolves when a link waits. Supports one waiter at a time.
    pub(super) fn knocked(&self) -> Knocked<'_> {
        Knocked { door: self, known: None }
    }

    /// Lets nobody in any more. Returns the link that waited.
    pub(super) fn close(&self) -> Option<Box<Returned>> {
        let mut inside = self.lock();
        inside.link = CLOSED;
        self.is_wanted.store(false, Relaxed);
        inside.waiting.take()
    }
}

/// See [`Door::knocked`].
pub(super) struct Knocked<'a> {
    door: &'a Door,
    /// The waker that is inside, unless somebody has knocked.
    known: Option<Waker>,
}

impl Future for Knocked<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let door = self.door;
        // Whoever knocks sets the flag before it wakes the task that it finds inside.
        let is_known = self.known.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if !is_known && !door.is_wanted.load(Relaxed) {
            let task = self.known.insert(cx.waker().clone()).clone();
            let before = door.lock().task.replace(task);
            drop(before);
        }
        if door.is_wanted.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}
