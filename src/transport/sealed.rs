//! TLS above a stream, which knows how much of it the operating system has taken.
//!
//! rustls takes more bytes than the system does, and forgets them with the connection. So its output goes into memory of
//! rxplus, a record at a time, and from there to the socket. A peer can read nothing of a record before it has all of it:
//! the system has taken a message once it has taken its last record.

use std::{
    cell::Cell,
    collections::VecDeque,
    io::{self, IoSlice, Read},
    mem::take,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::{
    protocol::{
        pieces::{PIECE_LEN, pieces},
        write_buffer::SLICES_PER_WRITE,
    },
    transport::raw::Raw,
};

/// The most plaintext that a record holds (RFC 8446, section 5.1).
const RECORD_LEN: usize = 16 * 1024;

/// As many pieces as the slices of one write can be cut into for a record.
const PIECES_PER_RECORD: usize = SLICES_PER_WRITE + RECORD_LEN / PIECE_LEN;

/// How many bytes are encrypted for one write.
const SEALED_LEN: usize = 64 * 1024;

/// A TLS connection.
pub(crate) struct Sealed {
    tls: TlsStream<Sleeve>,
    /// How much plaintext goes into one record.
    record_len: usize,
    /// The records of which the system has not taken all bytes.
    records: VecDeque<Record>,
    /// The plaintext in them.
    records_len: usize,
    /// The error that followed a write of which a part had succeeded.
    failed: Option<io::Error>,
}

/// A record on its way to the system.
struct Record {
    /// The position of its end, counted as [`Sleeve::collected`] is.
    end: u64,
    /// How much plaintext it holds.
    len: usize,
}

impl Sealed {
    /// `fragment_len` is the longest record that rustls is configured for, its head included.
    pub(crate) fn new(tls: TlsStream<Sleeve>, fragment_len: Option<usize>) -> Self {
        // RFC 8446, section 5.1: five bytes of head.
        let record_len = fragment_len.map_or(RECORD_LEN, |len| len.saturating_sub(5).clamp(1, RECORD_LEN));
        Self { tls, record_len, records: VecDeque::new(), records_len: 0, failed: None }
    }

    pub(crate) fn raw(&self) -> &Raw {
        &self.tls.get_ref().0.raw
    }

    pub(crate) fn raw_mut(&mut self) -> &mut Raw {
        &mut self.tls.get_mut().0.raw
    }

    /// How many written bytes the system has not taken.
    pub(crate) fn unsettled(&self) -> usize {
        self.records_len
    }

    /// Encrypts as much as goes out in one write.
    fn seal(&mut self, slices: &[IoSlice<'_>], cx: &mut Context<'_>) -> io::Result<usize> {
        let mut sealed = 0;
        self.tls.get_mut().0.collects = true;
        while sealed < SEALED_LEN {
            let mut portion = [IoSlice::new(&[]); PIECES_PER_RECORD];
            let count = cut(slices, sealed, self.record_len.min(SEALED_LEN - sealed), &mut portion);
            if count == 0 {
                break;
            }
            // Into memory, which takes all bytes.
            match Pin::new(&mut self.tls).poll_write_vectored(cx, &portion[..count]) {
                Poll::Ready(Ok(len)) => {
                    sealed += len;
                    self.records_len += len;
                    self.records.push_back(Record { end: self.tls.get_ref().0.collected, len });
                }
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        self.tls.get_mut().0.collects = false;
        match self.failed.take_if(|_| sealed == 0) {
            Some(error) => Err(error),
            None => Ok(sealed),
        }
    }

    /// Gives the encrypted bytes to the system.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.tls.get_mut().0.poll_drain(cx);
        self.strike_off();
        drained
    }

    /// Forgets the records that the system has taken whole.
    fn strike_off(&mut self) {
        let sent = self.tls.get_ref().0.sent();
        while let Some(record) = self.records.front()
            && record.end <= sent
        {
            self.records_len -= record.len;
            self.records.pop_front();
        }
    }
}

/// Fills `portion` with the bytes after the first `skipped` ones of `slices`, up to `len`; returns the number of pieces. rustls
/// copies each by itself.
fn cut<'a>(slices: &'a [IoSlice<'_>], mut skipped: usize, mut len: usize, portion: &mut [IoSlice<'a>]) -> usize {
    let mut count = 0;
    for slice in slices {
        let begin = skipped.min(slice.len());
        skipped -= begin;
        let end = slice.len().min(begin + len);
        for (piece, place) in pieces(&slice[begin..end]).zip(&mut portion[count..]) {
            *place = IoSlice::new(piece);
            count += 1;
            len -= piece.len();
        }
    }
    count
}

impl AsyncRead for Sealed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.tls).poll_read(cx, space) {
            // TLS distinguishes a connection that was cut from one that was closed. So does WebSocket, by its close frame:
            // here a cut is the end of the stream, as it is without TLS.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            // The error comes again once the data before it has been read.
            Poll::Ready(Err(error)) => {
                Poll::Ready(if read_decrypted(&mut self.tls, space) { Ok(()) } else { Err(error) })
            }
            polled => polled,
        }
    }
}

/// Reads decrypted bytes that have not been read yet. Returns whether there were any.
fn read_decrypted(stream: &mut TlsStream<Sleeve>, space: &mut ReadBuf<'_>) -> bool {
    let unfilled = space.initialize_unfilled();
    let read = match stream {
        TlsStream::Client(stream) => stream.get_mut().1.reader().read(unfilled),
        TlsStream::Server(stream) => stream.get_mut().1.reader().read(unfilled),
    };
    let len = read.unwrap_or(0);
    space.advance(len);
    len > 0
}

impl AsyncWrite for Sealed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        ready!(self.poll_drain(cx))?;
        let sealed = self.seal(slices, cx)?;
        // The sealed bytes count as written on this side: an error from now on is for the next call.
        if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
            self.failed = Some(error);
        }
        Poll::Ready(Ok(sealed))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let flushed = Pin::new(&mut self.tls).poll_flush(cx);
        self.strike_off();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.tls).poll_shutdown(cx);
        self.strike_off();
        shut
    }
}

/// A stream with room for the bytes that TLS has encrypted.
pub(crate) struct Sleeve {
    raw: Raw,
    /// While set, written bytes stay here.
    collects: bool,
    /// The bytes that the system is to have before any others.
    held: Vec<u8>,
    /// How much of it the system has taken.
    taken: usize,
    /// How many bytes have ever been held.
    collected: u64,
}

thread_local! {
    /// The memory for them, which would be allocated anew for each write.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Sleeve {
    /// How many of the bytes that have ever been held the system has taken.
    fn sent(&self) -> u64 {
        self.collected - (self.held.len() - self.taken) as u64
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.held.capacity() == 0 {
            // Finds none while the thread ends.
            self.held = SPARE.try_with(Cell::take).unwrap_or_default();
        }
        self.held.reserve(bytes.len());
        pieces(bytes).for_each(|piece| self.held.extend_from_slice(piece));
        self.collected += bytes.len() as u64;
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.held.len() {
            match ready!(Pin::new(&mut self.raw).poll_write(cx, &self.held[self.taken..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.taken += count,
            }
        }
        if self.held.capacity() > 0 {
            self.held.clear();
            let _ = SPARE.try_with(|spare| spare.set(take(&mut self.held)));
        }
        self.taken = 0;
        Poll::Ready(Ok(()))
    }
}

impl From<Raw> for Sleeve {
    fn from(raw: Raw) -> Self {
        Self { raw, collects: false, held: Vec::new(), taken: 0, collected: 0 }
    }
}

impl AsyncRead for Sleeve {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.raw).poll_read(cx, space)
    }
}

impl AsyncWrite for Sleeve {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.collects {
            slices.iter().for_each(|slice| self.hold(slice));
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.raw).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.raw).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.raw).poll_shutdown(cx)
    }
}
