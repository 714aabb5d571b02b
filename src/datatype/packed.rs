//! Bytes that serde takes for sequences of numbers: `Vec<u8>`, slices, `VecDeque<u8>` and the like.
//!
//! MessagePack has a type for bytes, which other languages read as bytes and not as a list of numbers; it is half as long,
//! too. So these are written as bytes, and read from bytes as well as from sequences. rmp-serde can read both except in one
//! case: if a type is untagged, internally tagged or flattened, serde keeps a value in a buffer until it knows its type, and
//! a `Vec<u8>` is not read from bytes in that buffer. There, [`Unpacking`] hands the bytes on as a sequence, from which
//! every type that takes bytes can be read, too.

use std::{any::type_name, fmt};

use serde::{
    Serialize, Serializer,
    de::{
        DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::SeqDeserializer,
    },
    ser::Impossible,
};

/// Whether items of type `T` are bytes. By the name, since `T` is not `'static`; if a compiler spells the name of one of the
/// two differently, the message only gets longer.
pub(super) fn is_byte<T>() -> bool {
    [type_name::<u8>(), type_name::<&u8>()].contains(&type_name::<T>())
}

/// The bytes in `items`.
pub(super) fn bytes_of<I>(items: I) -> Result<Vec<u8>, NoByte>
where
    I: IntoIterator,
    I::Item: Serialize,
{
    items.into_iter().map(|item| item.serialize(OnlyByte)).collect()
}

/// The serialiser that takes only a byte.
struct OnlyByte;

/// The value is no byte.
#[derive(Debug, thiserror::Error)]
#[error("it is no byte")]
pub(super) struct NoByte;

impl serde::ser::Error for NoByte {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! refuse {
    ($($method:ident $([$T:ident])? ($($type:ty),*) -> $ok:ty;)+) => {
        $(fn $method $(<$T: Serialize + ?Sized>)? (self, $(_: $type),*) -> Result<$ok, NoByte> {
            Err(NoByte)
        })+
    };
}

type Nothing = Impossible<u8, NoByte>;

impl Serializer for OnlyByte {
    type Ok = u8;
    type Error = NoByte;
    type SerializeSeq = Nothing;
    type SerializeTuple = Nothing;
    type SerializeTupleStruct = Nothing;
    type SerializeTupleVariant = Nothing;
    type SerializeMap = Nothing;
    type SerializeStruct = Nothing;
    type SerializeStructVariant = Nothing;

    fn serialize_u8(self, byte: u8) -> Result<u8, NoByte> {
        Ok(byte)
    }

    refuse! {
        serialize_bool(bool) -> u8;
        serialize_i8(i8) -> u8;
        serialize_i16(i16) -> u8;
        serialize_i32(i32) -> u8;
        serialize_i64(i64) -> u8;
        serialize_u16(u16) -> u8;
        serialize_u32(u32) -> u8;
        serialize_u64(u64) -> u8;
        serialize_f32(f32) -> u8;
        serialize_f64(f64) -> u8;
        serialize_char(char) -> u8;
        serialize_str(&str) -> u8;
        serialize_bytes(&[u8]) -> u8;
        serialize_none() -> u8;
        serialize_unit() -> u8;
        serialize_unit_struct(&'static str) -> u8;
        serialize_unit_variant(&'static str, u32, &'static str) -> u8;
        serialize_some[T](&T) -> u8;
        serialize_newtype_struct[T](&'static str, &T) -> u8;
        serialize_newtype_variant[T](&'static str, u32, &'static str, &T) -> u8;
        serialize_seq(Option<usize>) -> Nothing;
        serialize_tuple(usize) -> Nothing;
        serialize_tuple_struct(&'static str, usize) -> Nothing;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Nothing;
        serialize_map(Option<usize>) -> Nothing;
        serialize_struct(&'static str, usize) -> Nothing;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Nothing;
    }
}

/// A deserialiser, a visitor or a part of one, in which serde's buffer gets sequences for bytes.
pub(super) struct Unpacking<T>(pub(super) T);

/// The `expecting` text of serde's buffer, which itself is private.
const BUFFER: &str = "any value";

impl<'de, V: Visitor<'de>> Unpacking<V> {
    fn is_buffer(&self) -> bool {
        let expected: &dyn Expected = &self.0;
        expected.to_string() == BUFFER
    }
}

macro_rules! ask {
    ($($method:ident($($arg:ident: $type:ty),*);)+) => {
        $(fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($arg,)* Unpacking(visitor))
        })+
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Unpacking<D> {
    type Error = D::Error;

    ask! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! tell {
    ($($method:ident($type:ty);)+) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$method(value)
        })+
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Unpacking<V> {
    type Value = V::Value;

    tell! {
        visit_bool(bool);
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i64(i64);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u64(u64);
        visit_u128(u128);
        visit_f32(f32);
        visit_f64(f64);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_byte_buf(Vec<u8>);
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<V::Value, E> {
        match self.is_buffer() {
            true => self.0.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            false => self.0.visit_bytes(bytes),
        }
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<V::Value, E> {
        match self.is_buffer() {
            true => self.visit_bytes(bytes),
            false => self.0.visit_borrowed_bytes(bytes),
        }
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Unpacking(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Unpacking(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Unpacking(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Unpacking(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Unpacking(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Unpacking<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Unpacking(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Unpacking<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Unpacking(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Unpacking<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(Unpacking(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Unpacking(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Unpacking<A> {
    type Error = A::Error;
    type Variant = Unpacking<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        self.0.variant_seed(Unpacking(seed)).map(|(value, variant)| (value, Unpacking(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Unpacking<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Unpacking(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Unpacking(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Unpacking(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use bytes::Bytes;
    use serde::{Deserialize, de::DeserializeOwned};

    use super::*;
    use crate::datatype::msgpack::{decode, encode};

    /// 200 bytes, of which some would take two as numbers, and which are no text.
    fn long() -> Vec<u8> {
        (0..200).collect()
    }

    #[track_caller]
    fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, encoded_len: usize) {
        let encoded = encode(value).unwrap();
        assert_eq!(encoded.len(), encoded_len, "{encoded:x?}");
        assert_eq!(decode::<T>(&encoded).unwrap(), *value);
    }

    #[test]
    fn bytes_travel_as_bytes_wherever_they_stand() {
        let bin = 202; // marker, length, 200 bytes
        comes_back(&long(), bin);
        comes_back(&Bytes::from(long()), bin);
        comes_back(&VecDeque::from(long()), bin);
        comes_back(&Some(long()), bin);
        comes_back(&vec![long(), long()], 1 + 2 * bin);
        comes_back(&(long(), 1), 1 + bin + 1);
        comes_back(&BTreeMap::from([(long(), long())]), 1 + 2 * bin);
        comes_back(&BTreeSet::from_iter(long()), bin);
        assert_eq!(encode(&long()[..]).unwrap(), encode(&long()).unwrap());
        assert_eq!(encode(&Vec::<u8>::new()).unwrap()[..], [0xc4, 0]);
    }

    #[test]
    fn other_numbers_and_arrays_stay_sequences() {
        comes_back(&vec![1_u16; 3], 4);
        comes_back(&vec![1_i8; 3], 4);
        comes_back(&vec![Some(1_u8), None], 3);
        comes_back(&[1_u8; 3], 4);
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Byte(u8);
        comes_back(&vec![Byte(1), Byte(200)], 4);
    }

    #[test]
    fn sequence_of_numbers_is_read_as_bytes_all_the_same() {
        let sequence = rmp_serde::to_vec(&long()).unwrap();
        assert_eq!(sequence[0], 0xdc);
        assert_eq!(decode::<Vec<u8>>(&sequence).unwrap(), long());
        assert_eq!(decode::<Bytes>(&sequence).unwrap(), long());
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        data: Vec<u8>,
        shared: Bytes,
        fixed: [u8; 2],
    }

    fn inner() -> Inner {
        Inner { data: long(), shared: long().into(), fixed: [200, 1] }
    }

    #[test]
    fn bytes_come_back_in_a_type_that_serde_buffers() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type")]
        enum Tagged {
            Image { data: Vec<u8>, more: Option<Vec<u8>> },
            Inner(Inner),
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "t", content = "c")]
        enum Adjacent {
            Image(Vec<u8>),
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Untagged {
            Bytes(Vec<u8>),
            Text(String),
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Flat {
            #[serde(flatten)]
            inner: Inner,
        }
        let value = (
            Tagged::Image { data: long(), more: Some(vec![1]) },
            Tagged::Inner(inner()),
            Adjacent::Image(long()),
            // Its bytes are a text as well, which they must not come back as.
            [Untagged::Bytes(b"text".to_vec()), Untagged::Text("text".into())],
            Flat { inner: inner() },
        );
        assert_eq!(decode::<(Tagged, Tagged, Adjacent, [Untagged; 2], Flat)>(&encode(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn value_of_any_type_is_told_of_bytes() {
        #[derive(Debug, PartialEq)]
        enum Any {
            Bytes,
            Other,
        }
        impl<'de> Deserialize<'de> for Any {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Which;
                impl<'de> Visitor<'de> for Which {
                    type Value = Any;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("any MessagePack value")
                    }
                    fn visit_bytes<E>(self, _: &[u8]) -> Result<Any, E> {
                        Ok(Any::Bytes)
                    }
                    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Any, A::Error> {
                        Ok(Any::Other)
                    }
                }
                deserializer.deserialize_any(Which)
            }
        }
        assert_eq!(decode::<Vec<Any>>(&encode(&[long()]).unwrap()).unwrap(), [Any::Bytes]);
    }
}
