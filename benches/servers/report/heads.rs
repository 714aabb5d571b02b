//! The heads of the tables.

pub(super) const CPU_HEAD: &str = "\
    | CPU time for each message, delivery or handshake | which | its figure | tuned | best | usual | tuned ÷ ours | best ÷ ours | at least | aim |\n\
    |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";

pub(super) const BOUND_HEAD: &str = "\
    | the system calls alone | bare | tuned ÷ bare | aim | left at the aim | tuned, beyond bare | best, beyond bare | ours, beyond bare |\n\
    |---|--:|--:|--:|--:|--:|--:|--:|\n";

pub(super) const BY_HAND_HEAD: &str = "\
    | the same through RxRust, by hand | instead of | its figure | tuned ÷ its | aim | ours ÷ its |\n\
    |---|---|--:|--:|--:|--:|\n";

pub(crate) const HANDSHAKES_HEAD: &str = "\
    | many handshakes at once | ours | tuned | best | tuned ÷ ours | best ÷ ours |\n\
    |---|--:|--:|--:|--:|--:|\n";

pub(crate) const LATENCY_HEAD: &str = "\
    | time until an echo is back, from when it was due | ours | tuned | best | tuned ÷ ours | best ÷ ours |\n\
    |---|--:|--:|--:|--:|--:|\n";

pub(super) const MEMORY_HEAD: &str = "\
    | memory for each connection | ours | at most | aim | tuned | best | usual |\n\
    |---|--:|--:|--:|--:|--:|--:|\n";

pub(super) const MOUNTED_HEAD: &str = "\
| mounted in axum | which | its figure | our own listener | axum's own socket | its ÷ own listener | at most |
|---|---|--:|--:|--:|--:|--:|
";

pub(super) const RESUMABLE_HEAD: &str = "\
    | CPU time in the resumable mode | without | in use | in use ÷ without | at most | on, plain clients | ÷ without |\n\
    |---|--:|--:|--:|--:|--:|--:|\n";

pub(super) const RESUMABLE_MEMORY_HEAD: &str = "\
    | memory for each connection in the resumable mode | without | on, plain clients | in use | more | at most |\n\
    |---|--:|--:|--:|--:|--:|\n";

#[cfg(feature = "deflate")]
pub(super) const COMPRESSED_HEAD: &str = "\
    | CPU time with compression | without | agreed on | agreed on ÷ without | at most | on, not agreed on | ÷ without |\n\
    |---|--:|--:|--:|--:|--:|--:|\n";

#[cfg(feature = "deflate")]
pub(super) const COMPRESSED_MEMORY_HEAD: &str = "\
    | memory for each connection with compression | without | on, not agreed on | agreed on | more | at most |\n\
    |---|--:|--:|--:|--:|--:|\n";

pub(super) const AGAINST_HEAD: &str = "\
    | this build against another | this | other | this ÷ other | this ÷ this |\n\
    |---|--:|--:|--:|--:|\n";

#[cfg(feature = "tls")]
pub(super) const TLS_HEAD: &str = "\
    | CPU time for each message over TLS | TLS, ours | tokio-rustls by hand | best | by hand ÷ ours | best ÷ ours | at least |\n\
    |---|--:|--:|--:|--:|--:|--:|\n";

pub(super) const ONE_CORE_HEAD: &str = "\
    | CPU time, both servers on the same core | one thread | two threads | two ÷ one | at most | tuned, two ÷ one |\n\
    |---|--:|--:|--:|--:|--:|\n";

pub(super) const TWO_CORES_HEAD: &str = "\
    | messages or deliveries a second | one thread | cores used | two threads | cores used | f | two ÷ one | at least |\n\
    |---|--:|--:|--:|--:|--:|--:|--:|\n";

pub(super) const GROWTH_HEAD: &str = "\
    | CPU time for one echo among few and among many | few | many | many ÷ few | at most |\n\
    |---|--:|--:|--:|--:|\n";
