//! The wire format: a control message is a text that begins with DLE; a payload that begins so gets one more.

use super::facts::Broken;

const DLE: char = '\u{10}';

/// In a world, sessions are numbered. On the wire they have the 22 characters of the real ones.
pub(crate) type Token = u64;

/// What a server knows of a session that is over: how far it had come in the client's messages, and where its own ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) received: u64,
    pub(crate) end: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Payload(String),
    Hello(Token),
    New,
    Resume { token: Token, link: u64, received: u64 },
    Resumed { received: u64, next: u64 },
    At(u64),
    Lost(Option<Known>),
    Ack(u64),
    Ask,
}

impl Message {
    /// The payload of a message with this number in the test. Some begin with DLE.
    pub(crate) fn payload(id: u64) -> Self {
        let escape = if id.is_multiple_of(7) { DLE.into() } else { String::new() };
        Self::Payload(format!("{escape}{id}"))
    }

    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Payload(text) if text.starts_with(DLE) => format!("{DLE}{text}"),
            Self::Payload(text) => text.clone(),
            Self::Hello(token) => format!("{DLE}hello {token:021}A 120"),
            Self::New => format!("{DLE}new"),
            Self::Resume { token, link, received } => format!("{DLE}resume {token:021}A {link} {received}"),
            Self::Resumed { received, next } => format!("{DLE}resumed {received} {next}"),
            Self::At(position) => format!("{DLE}at {position}"),
            Self::Lost(None) => format!("{DLE}lost unknown"),
            Self::Lost(Some(Known { received, end })) => format!("{DLE}lost expired {received} {end}"),
            Self::Ack(position) => format!("{DLE}ack {position}"),
            Self::Ask => format!("{DLE}ask"),
        }
    }

    pub(crate) fn decode(text: &str) -> Result<Self, Broken> {
        let Some(rest) = text.strip_prefix(DLE) else { return Ok(Self::Payload(text.into())) };
        if rest.starts_with(DLE) {
            return Ok(Self::Payload(rest.into()));
        }
        control(rest).ok_or_else(|| Broken::protocol(format!("{text:?} is no message")))
    }
}

fn control(text: &str) -> Option<Message> {
    let words: Vec<_> = text.split(' ').collect();
    let number = |text: &str| text.parse().ok();
    let token = |text: &str| text.strip_suffix('A').filter(|digits| digits.len() == 21).and_then(number);
    Some(match *words {
        ["hello", name, _] => Message::Hello(token(name)?),
        ["new"] => Message::New,
        ["resume", name, link, received] => {
            Message::Resume { token: token(name)?, link: number(link)?, received: number(received)? }
        }
        ["resumed", received, next] => Message::Resumed { received: number(received)?, next: number(next)? },
        ["at", position] => Message::At(number(position)?),
        ["lost", _] => Message::Lost(None),
        ["lost", _, received, end] => Message::Lost(Some(Known { received: number(received)?, end: number(end)? })),
        ["ack", position] => Message::Ack(number(position)?),
        ["ask"] => Message::Ask,
        _ => return None,
    })
}

/// The number of a payload in the test.
pub(crate) fn id_of(payload: &str) -> u64 {
    payload.trim_start_matches(DLE).parse().expect("payloads have numbers")
}
