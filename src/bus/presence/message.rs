//! What buses tell each other of their connections, in MessagePack. The header says who tells it, and its number.

use std::mem;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes of a message. NATS allows a megabyte by default, and beats must not wait behind that.
const MAX_LEN: usize = 64 * 1024;

/// Bytes around the texts of a change, and around the name of a member. Nothing depends on them but the length of messages.
const CHANGE_LEN: usize = 64;
const MEMBER_LEN: usize = 16;

/// A message about connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Asks all nodes, or one, for their state.
    Ask { of: Option<String> },
    /// Nothing has changed since the message with this number.
    Beat,
    /// What has changed since the number before this one.
    Changed(Vec<Change>),
    /// A part of everything that a node has. All parts have the same number.
    State { part: u32, is_last: bool, changes: Vec<Change> },
    /// The node has ended.
    Gone,
}

/// What has changed on one path of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) path: String,
    pub(crate) server: String,
    /// How many connections there are now.
    pub(crate) connections: u64,
    /// The members that have come: their ids and names.
    pub(crate) joined: Vec<(u64, String)>,
    /// The members that have gone: their ids.
    pub(crate) left: Vec<u64>,
}

impl Message {
    pub(crate) fn encode(&self) -> Bytes {
        // There is no other error than one of the writer, and this one is memory.
        rmp_serde::to_vec_named(self).expect("texts and numbers can be encoded").into()
    }

    /// `None` if it is none, such as one of a later version.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(payload).ok()
    }
}

/// Divides changes among messages, none of which is too long.
pub(crate) fn divide(changes: impl IntoIterator<Item = Change>) -> Vec<Vec<Change>> {
    let mut parts = Parts::default();
    for Change { path, server, connections, joined, left } in changes {
        let bare = Change { path, server, connections, ..Change::default() };
        parts.add(&bare);
        for member in joined {
            parts.grow(&bare, MEMBER_LEN + member.1.len(), |change| change.joined.push(member));
        }
        for id in left {
            parts.grow(&bare, MEMBER_LEN, |change| change.left.push(id));
        }
    }
    parts.end_part();
    parts.full
}

#[derive(Default)]
struct Parts {
    full: Vec<Vec<Change>>,
    /// The part that is being filled, and its bytes.
    last: Vec<Change>,
    len: usize,
}

impl Parts {
    fn end_part(&mut self) {
        self.len = 0;
        self.full.extend(Some(mem::take(&mut self.last)).filter(|part| !part.is_empty()));
    }

    fn add(&mut self, bare: &Change) {
        let len = CHANGE_LEN + bare.path.len() + bare.server.len();
        if self.len + len > MAX_LEN {
            self.end_part();
        }
        self.len += len;
        self.last.push(bare.clone());
    }

    /// Adds `len` bytes to the change that was added last. In a new part, the change is there once more.
    fn grow(&mut self, bare: &Change, len: usize, push: impl FnOnce(&mut Change)) {
        if self.len + len > MAX_LEN {
            self.end_part();
            self.add(bare);
        }
        self.len += len;
        if let Some(last) = self.last.last_mut() {
            push(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn crowd(path: &str, members: u64, name_len: usize) -> Change {
        let joined = (0..members).map(|id| (id, "x".repeat(name_len))).collect();
        Change { path: path.into(), server: "s".into(), connections: members, joined, left: (0..members).collect() }
    }

    #[test]
    fn message_is_read_as_it_was_written() {
        let changes = vec![crowd("/a", 2, 3)];
        let state = Message::State { part: 1, is_last: true, changes: changes.clone() };
        for message in [Message::Ask { of: Some("a".into()) }, Message::Beat, Message::Changed(changes), state] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn crowd_is_divided_and_nobody_is_lost_or_doubled() {
        let parts = divide([crowd("/a", 10_000, 20), crowd("/b", 3, 3), crowd("/c", 0, 0)]);
        assert!(parts.len() > 1);
        let lens = parts.iter().map(|part| Message::Changed(part.clone()).encode().len());
        assert!(lens.into_iter().all(|len| len <= MAX_LEN));
        let joined = parts.iter().flatten().filter(|change| change.path == "/a").flat_map(|change| &change.joined);
        assert!(joined.map(|(id, _)| *id).eq(0..10_000));
        let left = parts.iter().flatten().filter(|change| change.path == "/a").flat_map(|change| &change.left);
        assert!(left.copied().eq(0..10_000));
        assert_eq!(parts.iter().flatten().filter(|change| change.path == "/c").count(), 1);
        assert!(divide([]).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Message::decode(&bytes);
        }
    }
}
