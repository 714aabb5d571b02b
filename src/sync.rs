//! The locks of the modules whose interleavings `tests/loom` tries: there this module has loom's in their place.

pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
pub(crate) use try_lock::{Locked, TryLock};
