//! A peer that breaks the protocol is told why, and so is the program.

use rxplus::prelude::*;

use crate::{
    Site,
    raw::{BINARY_BEGIN, CLOSE, CONTINUATION, LAST_CONTINUATION, PING, Raw, Side::*, TEXT, TEXT_BEGIN, frame, header},
};

/// Sends `bytes` and expects to be told `code`, and the event to have it with a text that contains `why`.
#[track_caller]
fn is_told(site: &Site, bytes: &[u8], code: u16, why: &str) {
    let mut raw = Raw::upgraded(site.addr());
    raw.send(bytes);
    assert_eq!(raw.close_code(), Some(code), "to {:?}", &bytes[..bytes.len().min(20)]);
    // It lingers for as long as we do.
    drop(raw);
    let (told, error) = site.failure();
    assert!(told == code && error.contains(why), "{told} {error}");
}

#[test]
fn broken_frames_are_answered_with_1002() {
    let site = Site::new();
    is_told(&site, &frame(Server, TEXT, b"unmasked"), 1002, "unmasked");
    for reserved_bit in [0x40, 0x20, 0x10] {
        is_told(&site, &frame(Client, TEXT | reserved_bit, b""), 1002, "Reserved bits");
    }
    for reserved_opcode in [0x3, 0x7, 0xb, 0xf] {
        is_told(&site, &frame(Client, 0x80 | reserved_opcode, b""), 1002, "opcode");
    }
    is_told(&site, &frame(Client, PING & 0x7f, b""), 1002, "ragmented control frame");
    is_told(&site, &frame(Client, PING, &[0; 126]), 1002, "ontrol frame");
    is_told(&site, &frame(Client, LAST_CONTINUATION, b""), 1002, "ontinue frame");
    let twice = [frame(Client, TEXT_BEGIN, b"a"), frame(Client, TEXT_BEGIN, b"b")].concat();
    is_told(&site, &twice, 1002, "fragment");
    site.is_unharmed();
}

#[test]
fn text_that_is_not_utf_8_gets_1007_wherever_its_frames_split() {
    let site = Site::new();
    is_told(&site, &frame(Client, TEXT, b"a\xffb"), 1007, "not UTF-8");
    let split = [frame(Client, TEXT_BEGIN, b"a\xc3"), frame(Client, CONTINUATION, b"\x28")].concat();
    is_told(&site, &split, 1007, "not UTF-8");
    let cut_short = [frame(Client, TEXT_BEGIN, b"a"), frame(Client, LAST_CONTINUATION, b"\xc3")].concat();
    is_told(&site, &cut_short, 1007, "not UTF-8");
    site.is_unharmed();
}

#[test]
fn character_split_between_frames_is_no_mistake() {
    let site = Site::new();
    let mut raw = Raw::upgraded(site.addr());
    raw.send(&[frame(Client, TEXT_BEGIN, b"\xc3"), frame(Client, LAST_CONTINUATION, b"\xa4")].concat());
    assert_eq!(raw.take(4), b"\x81\x02\xc3\xa4");
}

#[test]
fn length_of_2_to_the_63_gets_1009_before_memory_is_reserved() {
    let site = Site::new();
    is_told(&site, &header(Client, TEXT, (1 << 63) - 1), 1009, "Limits::message_len");
    is_told(&site, &header(Client, TEXT, (1 << 20) + 1), 1009, "Limits::message_len");
    site.is_unharmed();
}

#[test]
fn no_length_is_taken_for_memory_by_a_server_without_a_limit() {
    let site = Site::with(|builder| builder.limits(Limits::server().message_len(usize::MAX)));
    let most = (1 << 63) - 1;
    is_told(&site, &header(Client, PING, most), 1002, "ontrol frame");
    is_told(&site, &header(Client, LAST_CONTINUATION, most), 1002, "ontinue frame");
    is_told(&site, &header(Server, BINARY_BEGIN, most), 1002, "unmasked");
    is_told(&site, &header(Client, BINARY_BEGIN | 0x40, most), 1002, "Reserved bits");
    is_told(&site, &header(Client, TEXT, 1 << 63), 1002, "length");
    for first in [TEXT, TEXT_BEGIN, BINARY_BEGIN] {
        let mut raw = Raw::upgraded(site.addr());
        raw.send(&[header(Client, first, most), b"some of it".to_vec()].concat());
    }
    site.is_empty();
    site.is_unharmed();
}

#[test]
fn length_in_more_bytes_than_it_takes_is_answered_with_1002() {
    let site = Site::new();
    for first in [TEXT, TEXT_BEGIN, PING, CLOSE] {
        let in_two = [first, 0xfe, 0, 2, 0, 0, 0, 0, 3, 232];
        let in_eight = [first, 0xff, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 232];
        is_told(&site, &in_two, 1002, "fewest bytes");
        is_told(&site, &in_eight, 1002, "fewest bytes");
    }
    site.is_unharmed();
}

#[test]
fn close_codes_that_may_not_be_sent_are_answered_with_1002() {
    let site = Site::new();
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535_u16] {
        is_told(&site, &frame(Client, CLOSE, &code.to_be_bytes()), 1002, "close sequence");
    }
    is_told(&site, &frame(Client, CLOSE, &[3]), 1002, "close");
    is_told(&site, &frame(Client, CLOSE, b"\x03\xe8\xff"), 1007, "UTF-8");
    site.is_unharmed();
}

#[test]
fn close_without_a_code_is_answered() {
    let site = Site::new();
    let mut raw = Raw::upgraded(site.addr());
    raw.send(&frame(Client, CLOSE, b""));
    assert!(raw.close_code().is_some());
    site.is_empty();
}
