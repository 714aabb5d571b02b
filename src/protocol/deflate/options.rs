//! [`Deflate`]: the options of compression.

use std::sync::Arc;

use super::{LARGEST_WINDOW, negotiation::Agreed};
use crate::ConnConfig;

/// The shortest message that is compressed by default. JSON of 168 bytes becomes shorter by a fifth and costs 11 us, of 2 KiB
/// by three quarters for 24 us: a JSON message gains from a few hundred bytes on.
const MIN_LEN: usize = 512;

/// How much effort goes into compression by default: level 6 makes JSON of 1 MiB shorter by another 2 %, and takes more than
/// twice the time.
const LEVEL: u8 = 3;

/// Compression of messages with DEFLATE: the permessage-deflate extension of WebSocket (RFC 7692).
///
/// Give it to the builder of a server, a client or a group. It is agreed on in the opening handshake with peers that know it,
/// as all browsers do, and costs nothing with others. Both directions are compressed.
///
/// A message that a server sends to many connections is compressed once, by the thread that pushes it, and once more, by an I/O
/// thread, if some of them have asked for a smaller window. Each message is compressed on its own, without reference to earlier ones, so an idle connection keeps no memory for it. A message that
/// does not get shorter is sent as it is.
///
/// **Secrets.** The length of a compressed message tells something about its contents. If an attacker can have text of their
/// choice put into the same message as a secret, and sees the lengths on the network, they can guess the secret, also through
/// TLS (CRIME, BREACH). Leave compression off on such [paths](Self::paths).
///
/// ```
/// use rxplus::Deflate;
///
/// let usual = Deflate::new();
/// let cheap = Deflate::new().level(1).min_len(1024);
/// let on_one_path = Deflate::new().paths(["/telemetry"]);
/// assert!(usual != cheap && usual != on_one_path);
/// ```
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deflate {
    level: u8,
    min_len: usize,
    /// `None` for all.
    paths: Option<Arc<[String]>>,
}

impl Default for Deflate {
    fn default() -> Self {
        Self { level: LEVEL, min_len: MIN_LEN, paths: None }
    }
}

impl Deflate {
    /// Compression of level 3, for messages of at least 512 bytes, on all paths.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how much effort goes into compression, from 1, the least, to 9. The default is 3.
    ///
    /// JSON of 2 KiB takes 10 us at level 1, and 38 % of its bytes are left; at level 3 it takes 24 us, and 27 % are left. At level 1
    /// messages of some hundred bytes hardly become shorter.
    ///
    /// # Panics
    ///
    /// If `level` is not between 1 and 9.
    pub fn level(mut self, level: u8) -> Self {
        assert!((1..=9).contains(&level), "the level of compression must be between 1 and 9, not {level}");
        self.level = level;
        self
    }

    /// Sets the length in bytes from which on a message is compressed. The default is 512.
    ///
    /// Shorter messages gain little, since each is compressed on its own: gather some, with `buffer_time` for example, and
    /// send them as one.
    pub fn min_len(mut self, len: usize) -> Self {
        self.min_len = len;
        self
    }

    /// Compresses on these paths alone; on others it is neither offered nor accepted. The default is all.
    ///
    /// A missing `/` at the start is added, and characters that a URL cannot hold are escaped, as [`ConnConfig::path`] does; a
    /// query is cut off. Each is one path, with nothing below it. Another call replaces them; none at all switches compression off.
    ///
    /// A server compares them with the [path](crate::Connection::path) of a connection, which is its tag: for a mounted server
    /// what the router leaves of the request's. A client compares them with the path of its URL.
    pub fn paths<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        let in_url = |path: S| ConnConfig::new("localhost", 80).path(path).as_path().to_owned();
        self.paths = Some(paths.into_iter().map(in_url).collect());
        self
    }

    /// Whether it is for connections on this path.
    pub(crate) fn covers(&self, path: &str) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.iter().any(|covered| covered == path))
    }

    /// What most peers agree on.
    pub(crate) fn usual(&self) -> Agreed {
        self.agreed(LARGEST_WINDOW, false)
    }

    pub(super) fn agreed(&self, window: u8, peer_takes_over: bool) -> Agreed {
        let min_len = u32::try_from(self.min_len).unwrap_or(u32::MAX);
        Agreed { level: self.level, window, peer_takes_over, min_len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_a_url() {
        let deflate = Deflate::new().paths(["telemetry", "/with space"]);
        assert!(deflate.covers("/telemetry") && deflate.covers("/with%20space"));
        assert!(!deflate.covers("/") && !deflate.covers("/telemetry/1"));
        assert!(Deflate::new().covers("/anything"));
        assert!(!Deflate::new().paths([""; 0]).covers("/"));
    }

    #[test]
    #[should_panic(expected = "between 1 and 9, not 0")]
    fn level_that_compresses_nothing_is_refused() {
        let _ = Deflate::new().level(0);
    }
}
