//! MessagePack as the datatypes use it: one whole value per frame, and of bounded depth both ways.
//!
//! rmp-serde limits the depth of the values it reads, but the way through an enum's newtype variant does not count: against
//! a recursive enum a message of a few kilobytes still ends the process. Besides, it leaves bytes after the value unread,
//! and hands a sequence's declared length on as a size hint. So a frame's structure is checked first, in one pass that
//! neither recurses nor allocates.

use bytes::Bytes;
use rmp_serde::{Deserializer, Serializer};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    depth::{DepthLimited, Format, MAX_DEPTH},
    packed::Unpacking,
};
use crate::{DatatypeError, one_line::Complaint};

/// The markers of bytes.
const BIN_8: u8 = 0xc4;
const BIN_32: u8 = 0xc6;

/// Encodes `value` with field names, and bytes as such.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, DatatypeError> {
    let mut encoded = Vec::with_capacity(128); // as rmp_serde::to_vec_named has it
    DepthLimited::new(value, Format::MessagePack)
        .serialize(&mut Serializer::new(&mut encoded).with_struct_map())
        .map_err(|e| DatatypeError::with_source("cannot encode the item as MessagePack", Complaint::of(e)))?;
    Ok(encoded.into())
}

/// Decodes the value that `bytes` consist of.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DatatypeError> {
    decode_checked(bytes, check(bytes)?)
}

/// Decodes bytes that have passed [`check`].
pub(super) fn decode_checked<T: DeserializeOwned>(bytes: &[u8], holds: Holds) -> Result<T, DatatypeError> {
    let mut deserializer = Deserializer::from_read_ref(bytes);
    // For a hand-written `Deserialize` that leaves an extension half read and goes on inside its data. rmp-serde counts
    // an extension as a level, and gives up when the count has reached zero.
    deserializer.set_max_depth(MAX_DEPTH + 2);
    let decoded = match holds {
        Holds::Bytes => T::deserialize(Unpacking(&mut deserializer)),
        Holds::NoBytes => T::deserialize(&mut deserializer),
    };
    decoded
        .map_err(|e| DatatypeError::with_source("the MessagePack value is not of the type expected", Complaint::of(e)))
}

/// Whether there are bytes among the values of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holds {
    Bytes,
    NoBytes,
}

/// Checks that `bytes` are one whole MessagePack value that nests at most [`MAX_DEPTH`] deep.
///
/// The contents of strings are left to the decoding, as the MessagePack specification has it.
pub(super) fn check(bytes: &[u8]) -> Result<Holds, DatatypeError> {
    let (mut rest, mut holds) = (bytes, Holds::NoBytes);
    let mut lacking = 1_u64; // values still to come, over all levels
    let mut open = Levels::new();
    while lacking > 0 {
        let header = Header::read(rest)?;
        if matches!(rest.first(), Some(BIN_8..=BIN_32)) {
            holds = Holds::Bytes;
        }
        rest = usize::try_from(header.len).ok().and_then(|len| rest.get(len..)).ok_or_else(ends_early)?;
        lacking = lacking - 1 + header.values.unwrap_or(0);
        // A value takes at least one byte. A false length is found here, before code that would reserve memory for it sees
        // it.
        if lacking > rest.len() as u64 {
            return Err(ends_early());
        }
        open.pass(header.values)?;
    }
    match rest.len() {
        0 => Ok(holds),
        more => Err(DatatypeError::new(format_args!("{more} bytes follow the MessagePack value"))),
    }
}

fn ends_early() -> DatatypeError {
    DatatypeError::new("the MessagePack value ends early")
}

/// The arrays and maps around the value being checked, each with the number of values it still lacks.
struct Levels {
    lacking: [u64; MAX_DEPTH],
    depth: usize,
}

impl Levels {
    fn new() -> Self {
        Self { lacking: [0; MAX_DEPTH], depth: 0 }
    }

    /// Goes past one value, into the `values` inside it if it is an array or a map.
    fn pass(&mut self, values: Option<u64>) -> Result<(), DatatypeError> {
        if let Some(innermost) = self.lacking[..self.depth].last_mut() {
            *innermost -= 1;
        }
        if let Some(values) = values {
            let level = self.lacking.get_mut(self.depth).ok_or_else(too_deep)?;
            *level = values;
            self.depth += 1;
        }
        while self.lacking[..self.depth].last() == Some(&0) {
            self.depth -= 1;
        }
        Ok(())
    }
}

fn too_deep() -> DatatypeError {
    DatatypeError::new(format_args!("the MessagePack value nests deeper than {MAX_DEPTH} levels"))
}

/// The start of a value, as far as its structure goes.
struct Header {
    /// How many bytes belong to it, its own and those of its data, without the values inside.
    len: u64,
    /// How many values are inside an array or a map.
    values: Option<u64>,
}

impl Header {
    /// Reads the formats of the MessagePack specification, section "Formats".
    fn read(bytes: &[u8]) -> Result<Self, DatatypeError> {
        let (&marker, rest) = bytes.split_first().ok_or_else(ends_early)?;
        let length = |width| length(rest, width).ok_or_else(ends_early);
        let data = |len: u64| Self { len: 1 + len, values: None };
        let inside = |width: u64, values: u64| Self { len: 1 + width, values: Some(values) };
        Ok(match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => data(0), // small integer, nil, boolean
            0xcc | 0xd0 => data(1),
            0xcd | 0xd1 => data(2),
            0xca | 0xce | 0xd2 => data(4),
            0xcb | 0xcf | 0xd3 => data(8),
            0xa0..=0xbf => data(u64::from(marker & 0x1f)), // short string
            0xc4 | 0xd9 => data(1 + length(1)?),           // bytes, string
            0xc5 | 0xda => data(2 + length(2)?),
            0xc6 | 0xdb => data(4 + length(4)?),
            0xd4..=0xd8 => data(1 + (1 << (marker - 0xd4))), // extension: its type, then 1 to 16 bytes
            0xc7 => data(2 + length(1)?),
            0xc8 => data(3 + length(2)?),
            0xc9 => data(5 + length(4)?),
            0x90..=0x9f => inside(0, u64::from(marker & 0x0f)), // array
            0xdc => inside(2, length(2)?),
            0xdd => inside(4, length(4)?),
            0x80..=0x8f => inside(0, 2 * u64::from(marker & 0x0f)), // map: keys and values
            0xde => inside(2, 2 * length(2)?),
            0xdf => inside(4, 2 * length(4)?),
            0xc1 => return Err(DatatypeError::new("the byte 0xc1 starts no MessagePack value")),
        })
    }
}

/// The big-endian length of `width` bytes that `bytes` start with.
fn length(bytes: &[u8], width: usize) -> Option<u64> {
    Some(bytes.get(..width)?.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{
        Deserialize,
        de::{IgnoredAny, SeqAccess, Visitor},
    };

    use super::*;
    use crate::datatype::testing::{BOMB, Tree, chain, on_a_default_stack};

    /// `depth` times `open`, and a nil.
    fn nested(open: &[u8], depth: usize) -> Vec<u8> {
        [open.repeat(depth), vec![0xc0]].concat()
    }

    /// What rmp-serde itself makes of `bytes`: the number of bytes it leaves after one value.
    fn left_by_rmp_serde(bytes: &[u8]) -> Option<usize> {
        let mut deserializer = Deserializer::new(bytes);
        IgnoredAny::deserialize(&mut deserializer).ok()?;
        Some(deserializer.get_ref().len())
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![Just(Tree::Leaf), any::<i64>().prop_map(Tree::Number), ".{0,40}".prop_map(Tree::Text)];
        leaf.prop_recursive(8, 64, 20, |inner| {
            let boxed = inner.clone().prop_map(Box::new);
            prop_oneof![
                boxed.clone().prop_map(Tree::Wrapped),
                prop::collection::vec(inner, 0..20).prop_map(Tree::Branches),
                prop::option::of(boxed.clone()).prop_map(|next| Tree::Chain { next }),
                (boxed.clone(), boxed).prop_map(|(a, b)| Tree::Pair(a, b)),
            ]
        })
    }

    proptest! {
        #[test]
        fn value_comes_back_and_is_what_rmp_serde_writes(tree in tree()) {
            let encoded = encode(&tree).unwrap();
            prop_assert_eq!(&encoded[..], &rmp_serde::to_vec_named(&tree).unwrap()[..]);
            prop_assert_eq!(decode::<Tree>(&encoded).unwrap(), tree);
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Tree>(&bytes);
            let _ = decode::<(Option<String>, BTreeMap<i32, f32>, [u128; 2])>(&bytes);
        }

        #[test]
        fn check_accepts_what_rmp_serde_reads_to_the_end(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            prop_assert_eq!(check(&bytes).is_ok(), left_by_rmp_serde(&bytes) == Some(0), "{:x?}", bytes);
        }

        #[test]
        fn value_cut_short_or_followed_by_more_is_refused(tree in tree(), cut: prop::sample::Index) {
            let encoded = encode(&tree).unwrap();
            prop_assert!(check(&encoded[..cut.index(encoded.len())]).is_err());
            prop_assert!(check(&[&encoded[..], &[0xc0]].concat()).is_err());
        }
    }

    #[test]
    fn every_format_has_the_length_that_rmp_serde_gives_it() {
        for marker in 0..=0xff {
            // Lengths read from this are 1, 1 and 1 or far too long.
            for filler in [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]] {
                let bytes = [&[marker][..], &filler, &[0; 300]].concat();
                let ours = (1..=bytes.len()).find(|&len| check(&bytes[..len]).is_ok());
                let rmp_serde = left_by_rmp_serde(&bytes).map(|left| bytes.len() - left);
                assert_eq!(ours, rmp_serde, "{marker:#x} {filler:?}");
            }
        }
    }

    #[test]
    fn depth_bomb_is_refused_on_a_default_stack() {
        on_a_default_stack(|| {
            let bombs: [&[u8]; 7] = [
                &[0x91],                      // array in array
                &[0xdc, 0, 1],                // the same, longer header
                &[0x81, 0xc0],                // map in the value of a map
                &[0x81],                      // map in the key of a map
                &[0x81, 0x04],                // Tree::Wrapped, by its index
                b"\x81\xa7Wrapped",           // Tree::Wrapped, by its name
                b"\x81\xa5Chain\x81\xa4next", // Tree::Chain, through an option
            ];
            for open in bombs {
                let bomb = nested(open, BOMB);
                assert!(decode::<Tree>(&bomb).is_err(), "{open:x?}");
                assert!(decode::<IgnoredAny>(&bomb).is_err(), "{open:x?}");
                assert!(check(&bomb).is_err(), "{open:x?}");
            }
        });
    }

    #[test]
    fn depth_bomb_inside_an_extension_is_plain_data() {
        let bomb = nested(&[0x91], 200);
        let extension = [&[0xc7, bomb.len() as u8, 5][..], &bomb].concat();
        assert!(decode::<IgnoredAny>(&extension).is_ok());
        assert!(decode::<Tree>(&extension).is_err());
        let nested_extensions = [0xc7, 6, 1].repeat(BOMB);
        assert!(decode::<IgnoredAny>(&nested_extensions).is_err());
    }

    #[test]
    fn the_limit_is_the_same_both_ways() {
        on_a_default_stack(|| {
            let deepest = Tree::wrapped(MAX_DEPTH);
            assert_eq!(decode::<Tree>(&encode(&deepest).unwrap()).unwrap(), deepest);
            let refusal = encode(&Tree::wrapped(MAX_DEPTH + 1)).unwrap_err();
            assert!(chain(&refusal).ends_with("it nests too deeply"), "{}", chain(&refusal));
            assert!(decode::<Tree>(&rmp_serde::to_vec_named(&Tree::wrapped(MAX_DEPTH + 1)).unwrap()).is_err());
            assert!(check(&nested(&[0x91], MAX_DEPTH)).is_ok());
            assert!(check(&nested(&[0x91], MAX_DEPTH + 1)).is_err());
            assert!(check(&[&[0x91; MAX_DEPTH][..], &[0x90]].concat()).is_err()); // an empty one is a level, too
        });
    }

    #[test]
    fn value_too_deep_is_not_encoded_but_refused_on_a_default_stack() {
        on_a_default_stack(|| {
            let bomb = Tree::wrapped(BOMB);
            assert!(encode(&bomb).is_err());
            std::mem::forget(bomb); // dropping it recurses too
        });
    }

    #[test]
    fn value_that_cannot_be_serialised_is_an_error_with_its_cause() {
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("not today"))
            }
        }
        assert_eq!(chain(&encode(&[Refuses]).unwrap_err()), "cannot encode the item as MessagePack: not today");
    }

    /// Reserves memory for the announced length, as a careless `Deserialize` does.
    struct Careless;

    impl<'de> Deserialize<'de> for Careless {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Self)
        }
    }

    impl<'de> Visitor<'de> for Careless {
        type Value = Self;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self, A::Error> {
            panic!("asked for {:?} elements", seq.size_hint());
        }
    }

    #[test]
    fn declared_length_beyond_the_frame_reaches_no_allocation() {
        let most = [0xff; 4];
        for marker in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
            let bytes = [&[marker][..], &most, &[0; 100]].concat();
            assert!(decode::<Careless>(&bytes).is_err(), "{marker:#x}");
            assert!(decode::<Careless>(&[&[0x92, 0xc0][..], &bytes].concat()).is_err(), "{marker:#x} inside");
        }
        // Each of the lengths fits in the bytes after it; all together do not.
        assert!(check(&[0x92, 0x93, 0xc0, 0xc0, 0xc0]).is_err());
    }

    #[test]
    fn extension_survives_the_depth_limit() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename = "_ExtStruct")]
        struct Extension((i8, Blob));
        #[derive(Debug, PartialEq)]
        struct Blob(Vec<u8>);
        impl Serialize for Blob {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for Blob {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Bytes;
                impl Visitor<'_> for Bytes {
                    type Value = Blob;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("bytes")
                    }
                    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                        Ok(Blob(bytes.to_vec()))
                    }
                }
                deserializer.deserialize_bytes(Bytes)
            }
        }
        let value = Extension((5, Blob(vec![1, 2, 3])));
        let encoded = encode(&value).unwrap();
        assert_eq!(encoded[..], [0xc7, 3, 5, 1, 2, 3]);
        assert_eq!(decode::<Extension>(&encoded).unwrap(), value);
    }
}
