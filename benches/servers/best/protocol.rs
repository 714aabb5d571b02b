//! tungstenite's core, fed from memory. One that holds no part of a message serves any connection.

use std::io::{self, ErrorKind, Read, Write};

use tokio_tungstenite::tungstenite::{
    Error, Message, Utf8Bytes,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::output::Output;

/// As much is read at a time: tungstenite clears the memory before.
const PART_LEN: usize = 4 * 1024;

/// Whether the connection goes on after a read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Read,
    End,
}

pub(super) struct Protocol {
    context: WebSocketContext,
    /// Of what it was fed, the bytes that no message was made of. Messages in fragments leave some for ever.
    held_len: usize,
}

impl Protocol {
    /// Whether it may serve another connection.
    pub(super) fn is_unused(&self) -> bool {
        self.held_len == 0
    }

    /// Gives all messages to `answer`, which appends to the output. What the protocol answers, a pong or the close frame, is
    /// appended as well.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        output: &mut Output,
        answer: &mut impl FnMut(Utf8Bytes, &mut Output),
    ) -> Next {
        self.held_len += input.len();
        let mut memory = Memory { input, output };
        // Not once more when nothing is left: it would only be cleared for that.
        while self.held_len > 0 {
            match self.context.read(&mut memory) {
                Ok(message) => {
                    self.held_len = self.held_len.saturating_sub(masked_len(message.len()));
                    match message {
                        Message::Text(text) => answer(text, memory.output),
                        _ if self.context.flush(&mut memory).is_err() => return Next::End,
                        _ => {}
                    }
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Next::Read,
                Err(_) => return Next::End,
            }
        }
        Next::Read
    }
}

impl Default for Protocol {
    fn default() -> Self {
        let config = WebSocketConfig::default().read_buffer_size(PART_LEN).write_buffer_size(0);
        Self { context: WebSocketContext::new(Role::Server, Some(config)), held_len: 0 }
    }
}

/// The least that a client sends for so much.
fn masked_len(payload_len: usize) -> usize {
    const KEY_LEN: usize = 4;
    let header_len = match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    header_len + KEY_LEN + payload_len
}

/// The stream that tungstenite sees.
struct Memory<'a> {
    input: &'a [u8],
    output: &'a mut Output,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
