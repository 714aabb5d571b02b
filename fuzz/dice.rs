//! What the targets are made of: bytes that are nearly right.

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// A source of chance that gives the same for the same seed.
pub(crate) struct Dice(StdRng);

/// Lengths at which something changes.
const EDGES: [u64; 12] = [0, 1, 125, 126, 127, 128, 65_535, 65_536, 1 << 20, 1 << 31, (1 << 63) - 1, u64::MAX];

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn bytes(&mut self, end: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(end)];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn choose<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Bytes, some of them changed, doubled or left out.
    pub(crate) fn spoil(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..self.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.below(256) as u8,
                2 => bytes.truncate(at),
                3 => {
                    bytes.remove(at);
                }
                _ => {
                    let again = bytes[at..].to_vec();
                    bytes.extend_from_slice(&again[..again.len().min(64)]);
                }
            }
        }
        bytes
    }

    /// Frames that a client sends, if `masked`, or a server.
    pub(crate) fn frames(&mut self, masked: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=self.below(6) {
            if self.one_in(8) {
                bytes.extend(self.bytes(64));
            } else {
                self.frame(masked, &mut bytes);
            }
        }
        if self.one_in(2) { self.spoil(bytes) } else { bytes }
    }

    fn frame(&mut self, masked: bool, bytes: &mut Vec<u8>) {
        let first = if self.one_in(8) {
            self.below(256)
        } else {
            [0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88][self.below(8)]
        };
        let payload = if self.one_in(2) { b"\x03\xe8hello, w\xc3\xb6rld".to_vec() } else { self.bytes(300) };
        let said = if self.one_in(16) { EDGES[self.below(EDGES.len())] } else { payload.len() as u64 };
        let mask = if masked != self.one_in(32) { 0x80 } else { 0 };
        bytes.push(first as u8);
        match said {
            0..126 => bytes.push(mask | said as u8),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend((said as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend(said.to_be_bytes());
            }
        }
        let key = if mask != 0 { [1, 2, 3, 4] } else { [0; 4] };
        if mask != 0 {
            bytes.extend(key);
        }
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}
