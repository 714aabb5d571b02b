//! The servers of this process that share a bus.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{Frame, TaggedData};

/// A server as its bus sees it.
pub(crate) trait Sink<T>: Send + Sync {
    /// Sends a message to the clients on its path. `frame` is the message as the bus encodes it.
    fn deliver(&self, tagged: &TaggedData<T>, frame: &Frame);
}

/// A server by its number, which it does not keep alive.
type Entry<T> = (u64, Weak<dyn Sink<T>>);

/// The servers that share a bus.
pub(crate) struct Servers<T> {
    /// Replaced as a whole, so that no lock is held while they are called.
    state: Mutex<(u64, Arc<[Entry<T>]>)>,
}

// Not derived: items need not be `Default`.
impl<T> Default for Servers<T> {
    fn default() -> Self {
        Self { state: Mutex::new((0, Arc::new([]))) }
    }
}

impl<T> Servers<T> {
    /// Adds a server and returns its number. Servers that are gone leave the list.
    pub(crate) fn add(&self, server: Weak<dyn Sink<T>>) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        let number = state.0;
        let present = state.1.iter().filter(|(_, server)| server.strong_count() > 0).cloned();
        let list = present.chain([(number, server)]).collect();
        let before = std::mem::replace(&mut state.1, list);
        drop(state);
        drop(before);
        number
    }

    /// Passes a message to all of them, but for the one that it comes from.
    pub(crate) fn deliver(&self, tagged: &TaggedData<T>, frame: &Frame, from: Option<u64>) {
        let list = self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
        for (_, server) in list.iter().filter(|(number, _)| Some(*number) != from) {
            if let Some(server) = server.upgrade() {
                server.deliver(tagged, frame);
            }
        }
    }
}
