//! What closures capture: things that tell when they are dropped, or panic then.

use std::sync::mpsc::{self, Receiver, Sender};

/// Says on its channel that it was dropped.
pub(crate) struct Sentinel(Sender<()>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.0.send(()).unwrap_or(());
    }
}

pub(crate) fn sentinel() -> (Sentinel, Receiver<()>) {
    let (send, receive) = mpsc::channel();
    (Sentinel(send), receive)
}

/// Makes a closure capture `value`.
pub(crate) fn hold<T>(_value: &T) {}

/// Panics when it is dropped.
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bug of a captured value's");
    }
}
