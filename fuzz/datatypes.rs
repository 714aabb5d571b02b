//! Bytes into each datatype.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use rxplus::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Dice, fuzz};

/// Something of everything that serde knows, and as deep as one likes.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Thing {
    Unit,
    Number(i64),
    Real(f32),
    Text(String),
    Bytes(Vec<u8>),
    Maybe(Option<char>),
    Many(Vec<Thing>),
    Named { name: String, inside: Box<Thing> },
    Map(BTreeMap<String, Thing>),
}

fn thing(dice: &mut Dice, depth: usize) -> Thing {
    let kinds = if depth == 0 { 6 } else { 9 };
    match dice.below(kinds) {
        0 => Thing::Unit,
        1 => Thing::Number(i64::MIN >> dice.below(64)),
        2 => Thing::Real(dice.below(9) as f32),
        3 => Thing::Text("wörld".repeat(dice.below(60))),
        4 => Thing::Bytes(dice.bytes(300)),
        5 => Thing::Maybe(Some('ö')),
        6 => Thing::Many((0..dice.below(4)).map(|_| thing(dice, depth - 1)).collect()),
        7 => Thing::Named { name: "n".into(), inside: Box::new(thing(dice, depth - 1)) },
        _ => Thing::Map((0..dice.below(4)).map(|key| (key.to_string(), thing(dice, depth - 1))).collect()),
    }
}

/// Nothing but the start of something inside of something: MessagePack's arrays of one, or JSON's brackets.
fn deep(dice: &mut Dice) -> Vec<u8> {
    let start: &[u8] =
        dice.choose(&[&b"\x91"[..], b"\x81\xa1x", b"[", b"{\"Many\":[", b"\xdc\x00\x01", b"\x81\xa4Many\x91"]);
    start.repeat(dice.below(20_000))
}

/// What is decoded can be encoded, and decoded again.
fn takes<D: WsDatatype<Item: Into<D::Outgoing>>>(datatype: &D, path: &str, frame: &Frame) {
    if let Ok(item) = datatype.decode(path, frame.clone()) {
        let again = datatype.encode(path, &item.into()).expect("what was decoded can be encoded");
        assert!(datatype.decode(path, again).is_ok());
    }
}

fn every_datatype_takes(frame: &Frame) {
    takes(&WsStr, "/", frame);
    takes(&WsBytes, "/", frame);
    takes(&WsFrame, "/", frame);
    takes(&WsObject::<Thing>::new(), "/", frame);
    takes(&WsObject::<BTreeMap<String, Vec<Option<u8>>>>::new(), "/", frame);
    #[cfg(feature = "json")]
    takes(&WsJson::<Thing>::new(), "/", frame);
    let by_path = WsByPath::new(|path| match path {
        "/str" => WsKind::Str,
        "/bytes" => WsKind::Bytes,
        _ => WsKind::Object,
    });
    for path in ["/str", "/bytes", "/object"] {
        takes(&by_path, path, frame);
    }
}

#[test]
fn bytes_into_each_datatype() {
    fuzz(|dice| {
        let right = WsObject::<Thing>::new().encode("/", &thing(dice, 5)).unwrap();
        let right = match right {
            Frame::Binary(bytes) => bytes.to_vec(),
            Frame::Text(text) => text.as_bytes().to_vec(),
        };
        let bytes = match dice.below(4) {
            0 => dice.bytes(200),
            1 => deep(dice),
            _ => dice.spoil(right),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for frame in [Frame::Binary(bytes.into()), Frame::Text(text.into())] {
            let taken = catch_unwind(AssertUnwindSafe(|| every_datatype_takes(&frame)));
            assert!(taken.is_ok(), "{frame:?}");
        }
    });
}
