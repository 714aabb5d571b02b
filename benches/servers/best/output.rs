//! Frames that are to be written, one after another.

use std::io::{self, IoSlice, Write};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

const FINAL_TEXT: u8 = 0x81;

/// From here on, to write a payload from where it is costs less than to copy it.
const LONG: usize = 8 * 1024;

#[derive(Default)]
pub(super) struct Output {
    /// Headers, and the payloads that were copied.
    bytes: Vec<u8>,
    /// Payloads that were not, and where between the bytes they belong.
    long: Vec<(usize, Bytes)>,
}

impl Output {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.long.clear();
    }

    /// Appends a text message: its header and its payload, unmasked.
    pub(super) fn append_text(&mut self, text: Utf8Bytes) {
        match text.len() {
            len @ 0..=125 => self.append(&[FINAL_TEXT, len as u8]),
            len @ 126..=0xffff => {
                let [high, low] = (len as u16).to_be_bytes();
                self.append(&[FINAL_TEXT, 126, high, low]);
            }
            len => {
                self.append(&[FINAL_TEXT, 127]);
                self.append(&(len as u64).to_be_bytes());
            }
        }
        match text.len() {
            0..LONG => self.append(text.as_bytes()),
            _ => self.long.push((self.bytes.len(), Bytes::from(text))),
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.long.iter().map(|(_, payload)| payload.len()).sum::<usize>()
    }

    /// All of it, unless some of it is elsewhere.
    pub(super) fn as_bytes(&self) -> Option<&[u8]> {
        self.long.is_empty().then_some(&self.bytes)
    }

    /// The parts in their order; the last one may be empty.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut begin = 0;
        let before = self.long.iter().flat_map(move |(end, payload)| {
            let bytes = &self.bytes[begin..*end];
            begin = *end;
            [bytes, &payload[..]]
        });
        let last = self.long.last().map_or(0, |(end, _)| *end);
        before.chain([&self.bytes[last..]])
    }

    /// What is left once so many bytes were written.
    pub(super) fn slices(&self, mut written: usize) -> Vec<IoSlice<'_>> {
        let rest = self.parts().map(|part| {
            let of_part = written.min(part.len());
            written -= of_part;
            IoSlice::new(&part[of_part..])
        });
        rest.filter(|slice| !slice.is_empty()).collect()
    }
}

/// For what makes bytes of its own, as TLS does.
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
