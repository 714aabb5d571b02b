//! What arrives before anybody has subscribed, kept within bounds.

use std::collections::{VecDeque, vec_deque};

/// The items that wait for a first subscriber. Full, it loses the oldest and says so.
pub(crate) struct Early<T> {
    items: VecDeque<T>,
    len: usize,
    bounds: EarlyBounds,
    item_len: fn(&T) -> usize,
    on_loss: Box<dyn FnMut(usize) + Send>,
}

/// How much is kept.
#[derive(Clone, Copy)]
pub(crate) struct EarlyBounds {
    pub(crate) items: usize,
    /// In bytes.
    pub(crate) len: usize,
}

impl<T> Early<T> {
    /// `item_len` tells how many bytes an item stands for; `on_loss` hears it for each item that is lost, and must not
    /// call observers.
    pub(crate) fn new(
        bounds: EarlyBounds,
        item_len: fn(&T) -> usize,
        on_loss: impl FnMut(usize) + Send + 'static,
    ) -> Self {
        Self { items: VecDeque::new(), len: 0, bounds, item_len, on_loss: Box::new(on_loss) }
    }

    /// Keeps `item` and returns what had to go for it, for the caller to drop where user code may run.
    pub(crate) fn push(&mut self, item: T) -> Vec<T> {
        self.len += (self.item_len)(&item);
        self.items.push_back(item);
        let mut lost = Vec::new();
        while self.items.len() > self.bounds.items || self.len > self.bounds.len {
            let Some(oldest) = self.items.pop_front() else { break };
            let len = (self.item_len)(&oldest);
            self.len -= len;
            (self.on_loss)(len);
            lost.push(oldest);
        }
        lost
    }
}

impl<T> IntoIterator for Early<T> {
    type Item = T;
    type IntoIter = vec_deque::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}
