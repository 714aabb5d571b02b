//! Limits on values that are *serialised*: how deeply they may nest, and the differences between their format and serde's
//! types.
//!
//! Neither rmp-serde nor serde_json has a limit (that of rmp-serde is a field it never reads): both recurse with the value
//! until the stack ends, and the process with it, and no peer with a limit could read their output. So the value is wrapped,
//! and the wrapper hands every nested value on wrapped, with one level less.
//!
//! serde_json writes `null` for a float that is no finite number, and cannot read that as the same type: the wrapper refuses
//! it. serde tells no format that the numbers of a `Vec<u8>` are bytes: the wrapper tells MessagePack, which has a type for
//! them.

use std::fmt::Display;

use serde::{
    Serialize,
    ser::{self, Error, SerializeSeq, Serializer},
};

use super::packed;

/// How many sequences and maps may be inside each other, both ways; structs and enum variants with data count as such.
///
/// A level takes 50 to 100 KiB of stack in a debug build for a type of 4 KiB per level, and an I/O thread has room for that
/// (`STACK_LEN` in `runtime/threads.rs`); no message made to be understood comes near.
pub(super) const MAX_DEPTH: usize = 64;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Format {
    MessagePack,
    #[cfg(feature = "json")]
    Json,
}

/// Serialises as `value` does, or fails when it nests deeper than [`MAX_DEPTH`] or holds a float that the format lacks.
pub(super) struct DepthLimited<'a, T: ?Sized> {
    value: &'a T,
    allowed: Allowed,
}

/// The limits on a value.
#[derive(Clone, Copy)]
struct Allowed {
    levels: usize,
    format: Format,
}

impl<'a, T: ?Sized> DepthLimited<'a, T> {
    pub(super) fn new(value: &'a T, format: Format) -> Self {
        Self { value, allowed: Allowed { levels: MAX_DEPTH, format } }
    }
}

impl<T: Serialize + ?Sized> Serialize for DepthLimited<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Limited { inner: serializer, allowed: self.allowed })
    }
}

/// A serializer, or a part of one.
struct Limited<S> {
    inner: S,
    allowed: Allowed,
}

impl<S: Serializer> Limited<S> {
    /// Opens a sequence or map, and as many around it as the format puts there.
    fn open<C>(self, levels: usize, compound: impl FnOnce(S) -> Result<C, S::Error>) -> Result<Limited<C>, S::Error> {
        let left = self.allowed.levels.checked_sub(levels).ok_or_else(|| S::Error::custom("it nests too deeply"))?;
        Ok(Limited { inner: compound(self.inner)?, allowed: Allowed { levels: left, ..self.allowed } })
    }

    /// Refuses a float that the format lacks.
    fn check(&self, float: f64) -> Result<(), S::Error> {
        let has = match self.allowed.format {
            Format::MessagePack => true,
            #[cfg(feature = "json")]
            Format::Json => float.is_finite(),
        };
        if has { Ok(()) } else { Err(S::Error::custom(format_args!("the format has no number for {float}"))) }
    }
}

macro_rules! forward {
    ($($method:ident($($arg:ident: $type:ty),*);)+) => {
        $(fn $method(self, $($arg: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($arg),*)
        })+
    };
}

impl<S: Serializer> Serializer for Limited<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Limited<S::SerializeSeq>;
    type SerializeTuple = Limited<S::SerializeTuple>;
    type SerializeTupleStruct = Limited<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Limited<S::SerializeTupleVariant>;
    type SerializeMap = Limited<S::SerializeMap>;
    type SerializeStruct = Limited<S::SerializeStruct>;
    type SerializeStructVariant = Limited<S::SerializeStructVariant>;

    forward! {
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_i128(v: i128);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_u128(v: u128);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn serialize_f32(self, v: f32) -> Result<S::Ok, S::Error> {
        self.check(v.into())?;
        self.inner.serialize_f32(v)
    }

    fn serialize_f64(self, v: f64) -> Result<S::Ok, S::Error> {
        self.check(v)?;
        self.inner.serialize_f64(v)
    }

    fn collect_seq<I>(self, items: I) -> Result<S::Ok, S::Error>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        if packed::is_byte::<I::Item>() && self.allowed.format == Format::MessagePack {
            return self.inner.serialize_bytes(&packed::bytes_of(items).map_err(S::Error::custom)?);
        }
        let mut items = items.into_iter();
        let (least, most) = items.size_hint();
        let mut sequence = self.serialize_seq(most.filter(|most| *most == least))?;
        items.try_for_each(|item| sequence.serialize_element(&item))?;
        sequence.end()
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&DepthLimited { value, allowed: self.allowed })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &DepthLimited { value, allowed: self.allowed })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let Limited { inner, allowed } = self.open(1, Ok)?;
        inner.serialize_newtype_variant(name, index, variant, &DepthLimited { value, allowed })
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.open(1, |inner| inner.serialize_seq(len))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.open(1, |inner| inner.serialize_tuple(len))
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.open(1, |inner| inner.serialize_tuple_struct(name, len))
    }

    // Two levels: a map of the variant's name to a sequence or map of its fields.
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.open(2, |inner| inner.serialize_tuple_variant(name, index, variant, len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.open(1, |inner| inner.serialize_map(len))
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.open(1, |inner| inner.serialize_struct(name, len))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.open(2, |inner| inner.serialize_struct_variant(name, index, variant, len))
    }
}

macro_rules! forward_nested {
    ($($part:ident { $($method:ident($($key:ident)?)),+ })+) => {
        $(impl<C: ser::$part> ser::$part for Limited<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            $(fn $method<T: Serialize + ?Sized>(&mut self, $($key: &'static str,)? value: &T) -> Result<(), C::Error> {
                self.inner.$method($($key,)? &DepthLimited { value, allowed: self.allowed })
            })+

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })+
    };
}

forward_nested! {
    SerializeSeq { serialize_element() }
    SerializeTuple { serialize_element() }
    SerializeTupleStruct { serialize_field() }
    SerializeTupleVariant { serialize_field() }
    SerializeMap { serialize_key(), serialize_value() }
    SerializeStruct { serialize_field(key) }
    SerializeStructVariant { serialize_field(key) }
}
