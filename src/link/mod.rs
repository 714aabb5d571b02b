//! One connection on one socket.

pub(crate) mod driver;
pub(crate) mod write_scheduler;
pub(crate) mod writer;

/// Whether a turn leaves something to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to do, and nothing else wakes the task for it.
    Again,
    /// Something else wakes the task: a readable or writable socket, a push, the clock.
    Wait,
}
