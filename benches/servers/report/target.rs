//! What is demanded, and the names under which it is measured.

use super::heads::*;

/// What the competitor `ours` is to reach in a scenario.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// The baseline's figure divided by ours, at least and as an aim.
    Ratio(f64, f64),
    /// Our figure, at most and as an aim.
    Most(f64, f64),
    /// Our figure divided by the baseline's, at most.
    Growth(Option<f64>),
    /// The same, for a server that is mounted against one that listens.
    Mounted(f64),
    /// Our figure in a mode divided by that without, at most.
    Used(Mode, f64),
    /// The same of memory: by how much more, at most.
    More(Mode, f64),
    /// The CPU time of a server of two threads divided by that of one, on one core, at most.
    OneCore(f64),
    /// The rate of a server of two threads on two cores beside the load, divided by that of one thread: at least so much of what
    /// the load leaves of two cores.
    TwoCores(f64),
    /// Our figure beside those of the tuned and of the best server, in a table with this head. Nothing is demanded.
    Beside(&'static str),
    /// What the system calls alone take, which bounds what can be reached, beside this aim.
    Bound(f64),
    /// What the same way through RxRust takes by hand, beside this aim and our server of this name.
    ByHand(&'static str, f64),
    /// The figure of this build divided by that of another.
    Against,
    /// The baseline's figure divided by ours, over TLS, at least.
    #[cfg(feature = "tls")]
    Tls(f64),
}

/// What a server has switched on, and some clients use.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Resumable,
    #[cfg(feature = "deflate")]
    Compressed,
}

impl Mode {
    /// The name of a server with the mode whose clients do not use it.
    pub(super) fn unused(self) -> &'static str {
        match self {
            Self::Resumable => RESUMABLE_PLAIN,
            #[cfg(feature = "deflate")]
            Self::Compressed => COMPRESSED_PLAIN,
        }
    }

    pub(super) fn cpu_head(self) -> &'static str {
        match self {
            Self::Resumable => RESUMABLE_HEAD,
            #[cfg(feature = "deflate")]
            Self::Compressed => COMPRESSED_HEAD,
        }
    }

    pub(super) fn memory_head(self) -> &'static str {
        match self {
            Self::Resumable => RESUMABLE_MEMORY_HEAD,
            #[cfg(feature = "deflate")]
            Self::Compressed => COMPRESSED_MEMORY_HEAD,
        }
    }
}

/// The system calls of a server, and nothing else.
pub(crate) const BARE: &str = "bare";

/// A server in a mode whose clients use it, and one whose clients do not.
pub(crate) const RESUMABLE: &str = "resumable";
pub(crate) const RESUMABLE_PLAIN: &str = "resumable, plain clients";
#[cfg(feature = "deflate")]
pub(crate) const COMPRESSED: &str = "compressed";
#[cfg(feature = "deflate")]
pub(crate) const COMPRESSED_PLAIN: &str = "compressed, plain clients";

/// The names of this build and another, and of this one measured twice.
pub(crate) const THIS: &str = "this";
pub(crate) const OTHER: &str = "other";
pub(crate) const THIS_AGAIN: &str = "this, again";

/// A server of one thread and one of two.
pub(crate) const ONE_THREAD: &str = "one thread";
pub(crate) const TWO_THREADS: &str = "two threads";
/// The same of the tuned server.
pub(crate) const ONE_THREAD_BY_HAND: &str = "one thread, by hand";
pub(crate) const TWO_THREADS_BY_HAND: &str = "two threads, by hand";
/// How many times the CPU time of a server of two threads the load takes.
pub(crate) const LOAD_SHARE: &str = "load ÷ server";
/// How many cores each of the two used together with its load.
pub(crate) const CORES_OF_ONE: &str = "cores, one thread";
pub(crate) const CORES_OF_TWO: &str = "cores, two threads";
