//! A frame as a server sends it.

const FINAL_TEXT: u8 = 0x81;

/// Appends a text message: its header and its payload, unmasked.
pub(super) fn append_text(output: &mut Vec<u8>, text: &[u8]) {
    output.reserve(text.len() + 10);
    match text.len() {
        len @ 0..=125 => output.extend([FINAL_TEXT, len as u8]),
        len @ 126..=0xffff => {
            let [high, low] = (len as u16).to_be_bytes();
            output.extend([FINAL_TEXT, 126, high, low]);
        }
        len => {
            output.extend([FINAL_TEXT, 127]);
            output.extend((len as u64).to_be_bytes());
        }
    }
    output.extend(text);
}
