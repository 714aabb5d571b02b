//! A limit on how deeply what is *serialised* may nest.
//!
//! Neither rmp-serde nor serde_json has one (that of rmp-serde is a field it never reads): both recurse with the value
//! until the stack ends and the process with it, and what they wrote till then no peer with a limit could read. So the
//! value is wrapped, and the wrapper hands every nested value on wrapped, with one level less.

use std::fmt::Display;

use serde::{
    Serialize,
    ser::{self, Error, Serializer},
};

/// Serialises as `value` does, or fails when it nests deeper than the limit.
pub(super) struct DepthLimited<'a, T: ?Sized> {
    value: &'a T,
    left: usize,
}

impl<'a, T: ?Sized> DepthLimited<'a, T> {
    /// Allows `max_depth` sequences and maps inside each other; structs and enum variants with data are such too.
    pub(super) fn new(value: &'a T, max_depth: usize) -> Self {
        Self { value, left: max_depth }
    }
}

impl<T: Serialize + ?Sized> Serialize for DepthLimited<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Limited { inner: serializer, left: self.left })
    }
}

/// A serializer, or a part of one, of which `left` further levels may be opened.
struct Limited<S> {
    inner: S,
    left: usize,
}

impl<S: Serializer> Limited<S> {
    /// Opens a sequence or map, and as many around it as the format puts there.
    fn open<C>(self, levels: usize, compound: impl FnOnce(S) -> Result<C, S::Error>) -> Result<Limited<C>, S::Error> {
        let left = self.left.checked_sub(levels).ok_or_else(|| S::Error::custom("it nests too deeply"))?;
        Ok(Limited { inner: compound(self.inner)?, left })
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
        serialize_f32(v: f32);
        serialize_f64(v: f64);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&DepthLimited::new(value, self.left))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &DepthLimited::new(value, self.left))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let Limited { inner, left } = self.open(1, Ok)?;
        inner.serialize_newtype_variant(name, index, variant, &DepthLimited::new(value, left))
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
                self.inner.$method($($key,)? &DepthLimited::new(value, self.left))
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
