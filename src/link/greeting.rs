//! [`Greeting`]: what both ends of a resumable link say before the first payload.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{CloseFrame, Role, frame::coding::CloseCode},
};

use crate::{
    link::session::encode,
    protocol::{
        close::fitting_reason, decoder::Decoder, deflate::Agreed, memory_stream::MemoryStream, read_block::Block,
    },
    session::verb::{Incoming, MAX_LEN, Verb, read},
};

/// How many bytes are read at once: more than the greeting takes.
const READ_LEN: usize = 1024;

/// A stream on which the session is being settled. Neither side sends a payload before that, and nothing longer than a
/// control message is read. The caller bounds the time.
pub(crate) struct Greeting<S> {
    stream: S,
    role: Role,
    decoder: Decoder,
    /// What was read and not decoded.
    unread: BytesMut,
}

/// Why a greeting failed.
#[derive(Debug)]
pub(crate) enum Unsettled {
    Broken(io::Error),
    /// The peer sent a close frame.
    Closed {
        code: u16,
        reason: String,
    },
    /// The peer broke the protocol, and has been told.
    Mistake(String),
}

impl From<io::Error> for Unsettled {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Greeting<S> {
    pub(crate) fn new(stream: S, role: Role, deflate: Option<Agreed>, early_bytes: &[u8]) -> Self {
        Self { stream, role, decoder: Decoder::new(role, MAX_LEN, MAX_LEN, deflate), unread: early_bytes.into() }
    }

    pub(crate) async fn say(&mut self, verb: &Verb) -> Result<(), Unsettled> {
        self.write(&encode(verb, self.role)).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Unsettled> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next control message.
    pub(crate) async fn hear(&mut self) -> Result<Verb, Unsettled> {
        loop {
            match self.next_message().await? {
                Message::Text(text) => match read(&text) {
                    Ok(Incoming::Control(verb)) => return Ok(verb),
                    Ok(_) => return Err(self.refuse(PAYLOAD).await),
                    Err(malformed) => return Err(self.refuse(malformed.reason()).await),
                },
                Message::Binary(_) => return Err(self.refuse(PAYLOAD).await),
                Message::Close(frame) => return Err(closed(frame)),
                _ => {}
            }
        }
    }

    async fn next_message(&mut self) -> Result<Message, Unsettled> {
        loop {
            let (mut answers, unread) = (Vec::new(), self.unread.split().freeze());
            let mut input = &unread[..];
            let decoded = self.decoder.decode(&mut input, &mut Block::default(), &mut answers);
            self.unread.extend_from_slice(input);
            if !answers.is_empty() {
                self.write(&answers).await?;
            }
            match decoded {
                Ok(message) => return Ok(message),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => self.fill().await?,
                Err(error) => return Err(self.refuse(&error.to_string()).await),
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.unread.reserve(READ_LEN);
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Tells the peer its mistake.
    pub(crate) async fn refuse(&mut self, reason: &str) -> Unsettled {
        self.close(CloseCode::Protocol, reason).await;
        Unsettled::Mistake(reason.to_owned())
    }

    /// Sends a close frame, and nothing more.
    pub(crate) async fn close(&mut self, code: CloseCode, reason: &str) {
        let mut bytes = Vec::new();
        let frame = CloseFrame { code, reason: fitting_reason(reason).into() };
        // The stream is memory, which takes all bytes.
        let mut memory = MemoryStream::new(&[], &mut bytes);
        let _ = self.decoder.with_protocol(|protocol| protocol.close(&mut memory, Some(frame)));
        // A peer need not read it.
        let _ = self.write(&bytes).await;
        let _ = self.stream.shutdown().await;
    }

    /// What came behind the greeting.
    pub(crate) fn into_unread(self) -> Bytes {
        self.unread.freeze()
    }
}

const PAYLOAD: &str = "a payload before the session was settled";

fn closed(frame: Option<CloseFrame>) -> Unsettled {
    let (code, reason) = frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
    Unsettled::Closed { code, reason }
}
