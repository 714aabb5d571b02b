//! [`Token`]: what the emitting thread holds.

use crate::sync::{AtomicBool, Locked, Ordering, TryLock};

/// Its holder emits. All others only ever try to take it: no thread waits for it.
///
/// A thread that cannot have it *calls* the holder, and leaves its work under the subject's lock. The call stands as long as
/// anything has to be done under the lock; meanwhile the token is taken and given back under the lock alone. Without a call an
/// item takes only the token, which is half the time of an emission to one observer.
///
/// No call is lost: one thread calls and then tries, the other gives back and then looks, all in one order (`SeqCst`). So the
/// one gets the token, or the other sees the call.
pub(crate) struct Token<O> {
    content: TryLock<O>,
    /// Changed under the subject's lock.
    is_called: AtomicBool,
}

/// The token, and what comes with it.
pub(crate) type Held<'a, O> = Locked<'a, O>;

impl<O> Token<O> {
    pub(crate) fn new(content: O, is_called: bool) -> Self {
        Self { content: TryLock::new(content), is_called: AtomicBool::new(is_called) }
    }

    /// Takes the token, unless a thread has it or there is a call. The holder must [look](Self::is_called) for a call when it has
    /// given the token back.
    pub(crate) fn try_hold_quiet(&self) -> Option<Held<'_, O>> {
        // A call that comes between the two is seen in the end.
        let is_called = self.is_called.load(Ordering::Acquire);
        if is_called { None } else { self.content.try_lock_explicit(Ordering::SeqCst, Ordering::SeqCst) }
    }

    /// Takes the token, or calls the thread that has it. Only under the subject's lock, under which the token must be given back.
    pub(crate) fn try_hold(&self) -> Option<Held<'_, O>> {
        let held = self.try_once();
        if held.is_some() {
            return held;
        }
        self.call();
        self.try_once()
    }

    // `Release` is enough to give it back where nobody can call meanwhile.
    fn try_once(&self) -> Option<Held<'_, O>> {
        self.content.try_lock_explicit(Ordering::SeqCst, Ordering::Release)
    }

    /// From now on the token is taken under the lock. Only under the lock.
    pub(crate) fn call(&self) {
        if !self.is_called.load(Ordering::Relaxed) {
            self.is_called.store(true, Ordering::SeqCst);
        }
    }

    /// Ends the call. Only under the lock, by the holder.
    pub(crate) fn end_call(&self) {
        self.is_called.store(false, Ordering::Release);
    }

    pub(crate) fn is_called(&self) -> bool {
        self.is_called.load(Ordering::SeqCst)
    }
}
