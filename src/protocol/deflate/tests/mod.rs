//! Both ways together.

mod decoding;

use std::{io, iter::repeat_with};

use bytes::Bytes;
use flate2::Decompress;
use proptest::prelude::*;

use super::{compressor::Compressed, inflater::*, negotiation::Agreed, *};

fn agreed(window: u8) -> Agreed {
    Deflate::new().min_len(0).agreed(window, false)
}

fn compress(window: u8, payload: &[u8]) -> Option<Bytes> {
    agreed(window).compress(payload).map(|Compressed { bytes, .. }| bytes)
}

fn inflate(compressed: &[u8], limit: usize) -> Result<Vec<u8>, Flaw> {
    Inflater::default().inflate(compressed, limit).map(<[u8]>::to_vec)
}

#[test]
fn text_behind_noise_is_what_it_was_at_every_level() {
    let mut seed = 88_172_645_463_325_252_u64;
    let mut number = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) % below
    };
    for level in 1..=9 {
        let agreed = Deflate::new().level(level).min_len(0).agreed(LARGEST_WINDOW, false);
        for below in [900, 20_000, 100_000].repeat(if level == 1 { 200 } else { 20 }) {
            let (len, is_noise) = (10 + number(below) as usize, number(3) == 0);
            let payload: Vec<u8> = match is_noise {
                true => repeat_with(|| number(256) as u8).take(len).collect(),
                false => {
                    repeat_with(|| format!("{{\"id\":{}}},", number(9999)).into_bytes()).flatten().take(len).collect()
                }
            };
            let Some(Compressed { bytes, .. }) = agreed.compress(&payload) else { continue };
            assert_eq!(inflate(&bytes, len).as_ref(), Ok(&payload), "level {level}");
        }
    }
}

#[test]
fn examples_of_the_rfc_are_inflated() {
    // Sections 7.2.3.1, 7.2.3.3, 7.2.3.4 and 7.2.3.5.
    for compressed in [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ] {
        assert_eq!(inflate(compressed, 100), Ok(b"Hello".to_vec()));
    }
    // Section 7.2.3.6: an empty message.
    assert_eq!(inflate(&[0x00], 0), Ok(Vec::new()));
}

#[test]
fn message_refers_to_the_one_before_until_that_is_forgotten() {
    // Section 7.2.3.2.
    let (first, second) = ([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], [0xf2, 0x00, 0x11, 0x00, 0x00]);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(&first, 100), Ok(&b"Hello"[..]));
    assert_eq!(inflater.inflate(&second, 100), Ok(&b"Hello"[..]));
    inflater.reset();
    assert_eq!(inflater.inflate(&second, 100), Err(Flaw::Malformed));
    inflater.reset();
    assert_eq!(inflater.inflate(&first, 100), Ok(&b"Hello"[..]));
}

#[test]
fn bomb_takes_no_more_memory_than_a_message_may() {
    let bomb = compress(15, &vec![0; 64 << 20]).unwrap();
    assert!(bomb.len() < 100_000);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(&bomb, 1 << 20), Err(Flaw::TooLong));
    assert!(inflater.memory() <= (1 << 20) + 1);
    inflater.shrink();
    assert_eq!(inflater.memory(), 0);
    inflater.reset();
    assert_eq!(inflater.inflate(&bomb, 64 << 20).map(<[u8]>::len), Ok(64 << 20));
}

#[test]
fn payload_that_gets_no_shorter_is_left_as_it_is() {
    for len in [0, 1, 10, 1000, 100_000] {
        let noise: Vec<u8> = repeat_with(rand::random).take(len).collect();
        assert_eq!(compress(15, &noise), None);
    }
}

#[test]
fn payload_that_is_too_short_is_left_as_it_is() {
    let agreed = Deflate::new().min_len(100).usual();
    assert!(agreed.compress(&[0; 99]).is_none() && agreed.compress(&[0; 100]).is_some());
}

#[test]
fn window_that_zlib_does_not_have_is_used_within_its_own_length() {
    assert!(compress(8, &[0; 256]).is_some());
    assert!(compress(8, &[0; 257]).is_none());
}

#[test]
fn compressed_form_suits_the_peers_that_can_look_back_so_far() {
    let suits = |from, to, len: usize| agreed(from).compress(&vec![0; len]).unwrap().suits(&agreed(to), len);
    assert!(suits(15, 9, 512) && suits(9, 15, 513) && suits(9, 9, 100_000));
    assert!(!suits(15, 9, 513) && !suits(15, 14, 100_000) && suits(15, 14, 1 << 14));
}

/// Payloads with something to gain, as most are.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec("[a-e]{1,9}|\\PC{1,3}", 0..400).prop_map(|words| words.concat().into_bytes());
    prop_oneof![4 => words, 1 => (any::<Vec<u8>>(), 0..900usize).prop_map(|(bytes, count)| bytes.repeat(count))]
}

proptest! {
    #[test]
    fn any_payload_comes_back_within_the_window_and_the_limit(payload in payload(), window in 8..=15u8) {
        if let Some(compressed) = compress(window, &payload) {
            prop_assert!(compressed.len() < payload.len());
            // A window as small as agreed is enough. zlib inflates with 512 bytes or more.
            let mut inflater = Inflater::with(Decompress::new_with_window_bits(false, window.max(9)));
            prop_assert_eq!(inflater.inflate(&compressed, payload.len()), Ok(&payload[..]));
            prop_assert_eq!(inflate(&compressed, payload.len() - 1), Err(Flaw::TooLong));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_a_flaw(messages in prop::collection::vec(any::<Vec<u8>>(), 1..4), limit in 0..10_000usize) {
        let mut inflater = Inflater::default();
        for message in messages {
            let len = inflater.inflate(&message, limit).map(<[u8]>::len);
            prop_assert!(len.is_err() || len.is_ok_and(|len| len <= limit));
            prop_assert!(inflater.memory() <= (limit + 1).max(8));
        }
    }

    #[test]
    fn damaged_message_is_a_message_or_a_flaw(payload in payload(), at: prop::sample::Index, byte: u8) {
        let Some(compressed) = compress(15, &payload) else { return Ok(()) };
        let mut damaged = compressed.to_vec();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let limit = payload.len();
        prop_assert!(inflate(&damaged, limit).map_or(0, |message| message.len()) <= limit);
        let _ = inflate(&damaged[..at], limit);
    }
}
