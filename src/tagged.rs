//! Data with a label, and the cheaply cloned strings that label and carry it.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A cheaply cloned string that says where data belongs: a path, a topic, a name.
///
/// Cloning copies no text. It reads like a `str` (by `Deref`), compares with `str`, `&str` and `String`, and hashes as
/// `str` does, so a map keyed by `Tag` is searched with a `&str`.
///
/// ```
/// use rxplus::prelude::*;
///
/// let tag = Tag::from("/chat");
/// assert_eq!(tag, "/chat");
/// assert!(tag.starts_with('/'));
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// The text of a message: a cheaply cloned string.
///
/// Cloning copies no text, and neither does receiving: it shares the memory that the message arrived in, which is freed
/// with its last clone. It reads like a `str` (by `Deref`), compares with `str`, `&str` and `String`, and hashes as
/// `str` does.
///
/// ```
/// use rxplus::prelude::*;
///
/// let text = WsText::from("hello");
/// assert_eq!(text, "hello");
/// assert_eq!(text.to_uppercase(), "HELLO");
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WsText(Utf8Bytes);

impl WsText {
    // No `From`: a trait impl would make tungstenite's type a part of this crate's promise.
    pub(crate) fn from_utf8_bytes(text: Utf8Bytes) -> Self {
        Self(text)
    }

    /// The text behind its first character, which is a byte long. It shares the memory.
    pub(crate) fn without_first(&self) -> Self {
        let rest = self.to_bytes().slice(1..);
        Self(Utf8Bytes::try_from(rest).expect("text behind a character is text"))
    }

    /// Its bytes, which are not copied.
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.0.clone().into()
    }
}

/// What `Tag` and `WsText` share: all that makes a newtype over a string usable as one.
macro_rules! cheap_string {
    ($name:ident) => {
        impl $name {
            /// Borrows the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        // Needs Eq, Ord and Hash to agree with str's: the derived ones are those of the inner type, which do.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.as_str(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<&String> for $name {
            fn from(text: &String) -> Self {
                text.as_str().into()
            }
        }

        impl From<&Self> for $name {
            fn from(text: &Self) -> Self {
                text.clone()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.as_str().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }

        cheap_string!($name == str);
        cheap_string!($name == &str);
        cheap_string!($name == String);
    };
    ($name:ident == $other:ty) => {
        impl PartialEq<$other> for $name {
            fn eq(&self, other: &$other) -> bool {
                self.as_str() == AsRef::<str>::as_ref(other)
            }
        }

        impl PartialEq<$name> for $other {
            fn eq(&self, other: &$name) -> bool {
                other == self
            }
        }
    };
}

cheap_string!(Tag);
cheap_string!(WsText);

/// Data together with the tag that says where it comes from or belongs.
///
/// A server and a group emit and take these, tagged with the path of the connection.
///
/// ```
/// use rxplus::prelude::*;
///
/// let heard = TaggedData::new("/chat", "hello");
/// let answer = heard.map(str::len);
/// assert_eq!(answer, TaggedData::new("/chat", 5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaggedData<T, K = Tag> {
    /// Where the data comes from or belongs.
    pub tag: K,
    /// The data itself.
    pub data: T,
}

impl<T> TaggedData<T> {
    /// Tags `data` with a string.
    pub fn new(tag: impl Into<Tag>, data: T) -> Self {
        Self::with_key(tag.into(), data)
    }
}

impl<T, K> TaggedData<T, K> {
    /// Tags `data` with a key of any type.
    pub fn with_key(key: K, data: T) -> Self {
        Self { tag: key, data }
    }

    /// Replaces the data, keeping the tag.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> TaggedData<U, K> {
        TaggedData { tag: self.tag, data: f(self.data) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        hash::{BuildHasher, RandomState},
    };

    use proptest::prelude::*;

    use super::*;

    macro_rules! assert_behaves_like_str {
        ($name:ident, $text:expr, $other:expr) => {{
            let (text, other): (&str, &str) = ($text, $other);
            let (ours, hasher, same) = ($name::from(text), RandomState::new(), text == other);
            let (owned, peer) = (other.to_owned(), $name::from(other));
            assert_eq!(hasher.hash_one(&ours), hasher.hash_one(text));
            assert_eq!(ours.cmp(&peer), text.cmp(other));
            assert_eq!(ours == peer, same);
            assert_eq!([ours == *other, ours == other, ours == owned], [same; 3]);
            assert_eq!([*other == ours, other == ours, owned == ours], [same; 3]);
            assert_eq!(format!("{ours:?}|{ours:>9.3}|{ours:-<9}"), format!("{text:?}|{text:>9.3}|{text:-<9}"));
            assert_eq!($name::from(String::from(ours.clone())), ours);
        }};
    }

    proptest! {
        #[test]
        fn tag_and_text_compare_hash_and_print_like_str(text in ".{0,12}", other in ".{0,12}") {
            assert_behaves_like_str!(Tag, &text, &other);
            assert_behaves_like_str!(Tag, &text, &text);
            assert_behaves_like_str!(WsText, &text, &other);
            assert_behaves_like_str!(WsText, &text, &text);
        }
    }

    #[test]
    fn map_keyed_by_tag_is_searched_with_a_str() {
        let rooms = HashMap::from([(Tag::from("/chat"), 1)]);
        assert_eq!(rooms.get("/chat"), Some(&1));
    }

    #[test]
    fn clone_shares_the_text() {
        let (tag, text) = (Tag::from("/chat"), WsText::from("hello"));
        assert_eq!(Tag::from(&tag).as_ptr(), tag.as_ptr());
        assert_eq!(WsText::from(&text).as_ptr(), text.as_ptr());
    }

    #[test]
    fn text_received_and_sent_is_not_copied() {
        let inbound = Utf8Bytes::from("hello");
        let at = inbound.as_str().as_ptr();
        let text = WsText::from_utf8_bytes(inbound);
        assert_eq!(text.as_ptr(), at);
        assert_eq!(text.as_str().as_ptr(), at);
    }

    #[test]
    fn tag_and_text_are_plain_strings_to_serde() {
        let encoded = rmp_serde::to_vec(&(Tag::from("/chat"), WsText::from("hello"))).unwrap();
        assert_eq!(encoded, rmp_serde::to_vec(&("/chat", "hello")).unwrap());
        let (tag, text): (Tag, WsText) = rmp_serde::from_slice(&encoded).unwrap();
        assert_eq!((tag, text), ("/chat".into(), "hello".into()));
    }

    #[test]
    fn data_is_tagged_with_a_string_or_any_key() {
        let path = String::from("/a");
        assert_eq!(TaggedData::new(&path, 1).tag, path);
        assert_eq!(TaggedData::with_key(7, "x").map(str::len), TaggedData { tag: 7, data: 1 });
    }
}
