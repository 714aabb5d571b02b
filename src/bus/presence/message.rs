//! What buses tell each other of their connections, in MessagePack. The header says who tells it, and its number.

use std::mem;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::datatype::msgpack;

/// Bytes of a message that has more than one text. NATS allows a megabyte by default, and beats must not wait behind that.
const MAX_LEN: usize = 64 * 1024;

/// Bytes around all changes of a message, around the texts of a change, and around the name of a member, at most.
const FRAME_LEN: usize = 64;
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

impl Change {
    /// Its bytes in a message without members, at most.
    fn len(&self) -> usize {
        CHANGE_LEN + self.path.len() + self.server.len()
    }

    /// Its bytes of memory, more or less.
    pub(crate) fn memory(&self) -> usize {
        let joined = self.joined.iter().map(|(_, name)| size_of::<(u64, String)>() + name.len());
        let texts = self.path.len() + self.server.len() + joined.sum::<usize>();
        size_of::<Self>() + texts + size_of_val(&*self.left)
    }
}

impl Message {
    pub(crate) fn encode(&self) -> Bytes {
        // There is no other error than one of the writer, and this one is memory.
        rmp_serde::to_vec_named(self).expect("texts and numbers can be encoded").into()
    }

    /// `None` if it is none, such as one of a later version.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        // Checked before anything recurses: whoever may publish could end the process by a message that nests deeply.
        msgpack::decode(payload).ok()
    }
}

/// Divides changes among messages, none of which is longer than the broker takes. What does not fit in one alone is left out: a
/// part that never comes would make the others ask for everything again and again.
pub(crate) fn divide(changes: impl IntoIterator<Item = Change>, max_len: usize) -> Vec<Vec<Change>> {
    let mut parts = Parts { max_len: max_len.saturating_sub(FRAME_LEN), ..Parts::default() };
    for Change { path, server, connections, joined, left } in changes {
        let bare = Change { path, server, connections, ..Change::default() };
        if bare.len() > parts.max_len {
            continue;
        }
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
    max_len: usize,
}

impl Parts {
    fn end_part(&mut self) {
        self.len = 0;
        self.full.extend(Some(mem::take(&mut self.last)).filter(|part| !part.is_empty()));
    }

    fn has_room(&self, len: usize) -> bool {
        self.len + len <= self.max_len.min(MAX_LEN)
    }

    fn add(&mut self, bare: &Change) {
        if !self.has_room(bare.len()) {
            self.end_part();
        }
        self.len += bare.len();
        self.last.push(bare.clone());
    }

    /// Adds `len` bytes to the change that was added last. In a new part, the change is there once more.
    fn grow(&mut self, bare: &Change, len: usize, push: impl FnOnce(&mut Change)) {
        if bare.len() + len > self.max_len {
            return;
        }
        if !self.has_room(len) {
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
    use std::thread;

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
        let parts = divide([crowd("/a", 10_000, 20), crowd("/b", 3, 3), crowd("/c", 0, 0)], usize::MAX);
        assert!(parts.len() > 1);
        let lens = parts.iter().map(|part| Message::Changed(part.clone()).encode().len());
        assert!(lens.into_iter().all(|len| len <= MAX_LEN));
        let joined = parts.iter().flatten().filter(|change| change.path == "/a").flat_map(|change| &change.joined);
        assert!(joined.map(|(id, _)| *id).eq(0..10_000));
        let left = parts.iter().flatten().filter(|change| change.path == "/a").flat_map(|change| &change.left);
        assert!(left.copied().eq(0..10_000));
        assert_eq!(parts.iter().flatten().filter(|change| change.path == "/c").count(), 1);
        assert!(divide([], usize::MAX).is_empty());
    }

    #[test]
    fn no_message_is_longer_than_the_broker_takes_and_what_fits_in_none_is_left_out() {
        let mut named = crowd("/a", 200, 20);
        named.joined.push((u64::MAX, "x".repeat(2_000)));
        let long = format!("/{}", "x".repeat(2_000));
        let parts = divide([crowd(&long, 1, 1), named, crowd("/b", 3, 3)], 1_024);
        let state = |changes| Message::State { part: u32::MAX, is_last: true, changes };
        assert!(parts.iter().all(|part| state(part.clone()).encode().len() <= 1_024));
        let joined =
            |path| parts.iter().flatten().filter(move |change| change.path == path).flat_map(|here| &here.joined);
        assert_eq!([&long, "/a", "/b"].map(|path| joined(path).count()), [0, 200, 3]);
        assert!(divide([crowd("/a", 1, 1)], 10).is_empty());
    }

    /// rmp-serde itself allows a depth that takes more than the stack of a thread has.
    #[test]
    fn message_that_nests_deeply_is_none_and_ends_no_process() {
        let message = [&b"\x81\xa7Changed\x91\x81\xa1x"[..], &[0x91; 2_000], &[0xc0]].concat();
        let thread = thread::Builder::new().stack_size(256 * 1024).spawn(move || Message::decode(&message));
        assert_eq!(thread.unwrap().join().unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Message::decode(&bytes);
        }
    }
}
