//! The memory that tungstenite's synchronous core reads from and writes to instead of a socket.

use std::io::{self, Read, Write};

/// A stream whose input is the bytes just read, and whose output is a vector. Writing never blocks.
pub(crate) struct MemoryStream<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl<'a> MemoryStream<'a> {
    pub(crate) fn new(input: &'a [u8], output: &'a mut Vec<u8>) -> Self {
        Self { input, output }
    }
}

impl Read for MemoryStream<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(space)
    }
}

impl Write for MemoryStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
