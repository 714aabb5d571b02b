//! The masking of a client's payloads (RFC 6455, section 5.3).

/// Masks a payload in place, eight bytes at a time.
#[inline]
pub(crate) fn mask(payload: &mut [u8], key: [u8; 4]) {
    // The key twice. Put together byte by byte, that took as long as masking a hundred bytes.
    let wide = u64::from(u32::from_ne_bytes(key)) * ((1 << 32) + 1);
    if wide == 0 {
        // No mask: a server's frame.
        return;
    }
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let masked = u64::from_ne_bytes(chunk.try_into().expect("chunks of eight")) ^ wide;
        chunk.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn masking_is_an_exclusive_or_with_the_key_in_turn(payload: Vec<u8>, key: [u8; 4]) {
            let plain: Vec<_> = payload.iter().enumerate().map(|(n, byte)| byte ^ key[n % 4]).collect();
            let mut masked = payload;
            mask(&mut masked, key);
            prop_assert_eq!(masked, plain);
        }
    }
}
