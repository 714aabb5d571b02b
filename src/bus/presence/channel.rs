//! [`Channel`]: the subjects of what nodes tell each other.

use std::sync::Arc;

/// To whom something is told. The subjects begin with the prefix and `-p`, so they are not those of any path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Channel {
    /// To all who want to hear of others.
    All,
    /// To all who have something to tell.
    Asks,
    /// To this node alone.
    To(Arc<str>),
}

impl Channel {
    /// The subject on which `node` tells something.
    pub(crate) fn subject(&self, prefix: &str, node: &str) -> String {
        match self {
            Self::All => format!("{prefix}-p.all.{node}"),
            Self::Asks => format!("{prefix}-p.ask"),
            Self::To(asker) => format!("{prefix}-p.to.{asker}"),
        }
    }

    /// The subjects on which something is heard.
    pub(crate) fn pattern(&self, prefix: &str) -> String {
        self.subject(prefix, ">")
    }
}
