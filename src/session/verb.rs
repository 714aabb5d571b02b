//! The wire format: what both ends say to each other, and how it is told from payloads.
//!
//! ```text
//! control message:  DLE verb *( SP argument )   a text message of at most 128 bytes
//! payload:          DLE DLE anything            a text that itself begins with DLE: the first one is taken away
//!                   anything else               as it is; binary messages are never looked at
//! ```

use super::{SessionLoss, Token};

/// "Data link escape", the first byte of each control message.
pub(crate) const DLE: u8 = 0x10;

/// Bytes of the longest control message.
pub(crate) const MAX_LEN: usize = 128;

/// The largest number that a double, and so JavaScript, has exactly.
pub(crate) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// A control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Offers a session, which is kept for so long after a break.
    Hello { token: Token, seconds: u64 },
    /// Takes the offered session.
    New,
    /// Wants a session back, on the `link`-th link of this client; has come to `received`.
    Resume { token: Token, link: u64, received: u64 },
    /// The session goes on: has come to `received`, and the next payload is `next`.
    Resumed { received: u64, next: u64 },
    /// The position of the next payload. What lies before it, and has not come, will not come.
    At(u64),
    /// The session is over.
    Lost { why: SessionLoss, known: Option<Known> },
    /// Has come to this position.
    Ack(u64),
    /// Wants an `ack` now.
    Ask,
}

/// What a server remembers of a session that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The position that it had come to in the client's messages.
    pub(crate) received: u64,
    /// The position at which its own ended.
    pub(crate) end: u64,
}

impl Verb {
    pub(crate) fn text(&self) -> String {
        match *self {
            Self::Hello { token, seconds } => format!("\u{10}hello {} {seconds}", token.text()),
            Self::New => "\u{10}new".to_owned(),
            Self::Resume { token, link, received } => format!("\u{10}resume {} {link} {received}", token.text()),
            Self::Resumed { received, next } => format!("\u{10}resumed {received} {next}"),
            Self::At(position) => format!("\u{10}at {position}"),
            Self::Lost { why, known: None } => format!("\u{10}lost {}", why.word()),
            Self::Lost { why, known: Some(Known { received, end }) } => {
                format!("\u{10}lost {} {received} {end}", why.word())
            }
            Self::Ack(position) => format!("\u{10}ack {position}"),
            Self::Ask => "\u{10}ask".to_owned(),
        }
    }
}

/// What a text message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Payload,
    /// A payload without its first byte.
    EscapedPayload,
    Control(Verb),
}

/// A mistake of the peer, which ends the connection with 1002.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(super) &'static str);

impl Malformed {
    /// For the close frame.
    pub(crate) fn reason(self) -> &'static str {
        self.0
    }
}

/// Reads a text message. An ordinary payload costs one comparison.
#[inline]
pub(crate) fn read(text: &str) -> Result<Incoming, Malformed> {
    match text.as_bytes() {
        [DLE, rest @ ..] => match rest {
            [DLE, ..] => Ok(Incoming::EscapedPayload),
            _ => control(text).map(Incoming::Control),
        },
        _ => Ok(Incoming::Payload),
    }
}

/// Reads a text that begins with DLE.
fn control(text: &str) -> Result<Verb, Malformed> {
    if text.len() > MAX_LEN {
        return Err(Malformed("a control message is longer than 128 bytes"));
    }
    let mut words = text[1..].split(' ');
    // One more than the longest control message has.
    let words: [Option<&str>; 5] = std::array::from_fn(|_| words.next());
    Ok(match words {
        [Some("ack"), Some(position), None, ..] => Verb::Ack(number(position)?),
        [Some("ask"), None, ..] => Verb::Ask,
        [Some("at"), Some(position), None, ..] => Verb::At(number(position)?),
        [Some("hello"), Some(name), Some(seconds), None, ..] => {
            Verb::Hello { token: token(name)?, seconds: number(seconds)? }
        }
        [Some("new"), None, ..] => Verb::New,
        [Some("resume"), Some(name), Some(link), Some(received), None] => {
            Verb::Resume { token: token(name)?, link: number(link)?, received: number(received)? }
        }
        [Some("resumed"), Some(received), Some(next), None, ..] => {
            Verb::Resumed { received: number(received)?, next: number(next)? }
        }
        [Some("lost"), Some(word), None, ..] => Verb::Lost { why: why(word)?, known: None },
        [Some("lost"), Some(word), Some(received), Some(end), None] => {
            let known = Known { received: number(received)?, end: number(end)? };
            Verb::Lost { why: why(word)?, known: Some(known) }
        }
        _ => return Err(Malformed("an unknown control message, or a wrong number of arguments")),
    })
}

/// Decimal, without leading zeros.
fn number(text: &str) -> Result<u64, Malformed> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = text.parse().ok().filter(|number| is_number && *number <= MAX_NUMBER);
    number.ok_or(Malformed("an argument of a control message is no number"))
}

fn token(text: &str) -> Result<Token, Malformed> {
    Token::parse(text).ok_or(Malformed("an argument of a control message is no token"))
}

fn why(word: &str) -> Result<SessionLoss, Malformed> {
    SessionLoss::from_word(word).ok_or(Malformed("a session is lost for an unknown reason"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "c2l4dGVlbiBieXRlcyEhIQ";

    #[test]
    fn each_verb_is_read_from_its_text() {
        let token = Token::parse(NAME).unwrap();
        let known = Some(Known { received: 7, end: 9 });
        for (verb, text) in [
            (Verb::Hello { token, seconds: 120 }, format!("\u{10}hello {NAME} 120")),
            (Verb::New, "\u{10}new".into()),
            (Verb::Resume { token, link: 2, received: 0 }, format!("\u{10}resume {NAME} 2 0")),
            (Verb::Resumed { received: 7, next: 9 }, "\u{10}resumed 7 9".into()),
            (Verb::At(MAX_NUMBER), "\u{10}at 9007199254740991".into()),
            (Verb::Lost { why: SessionLoss::Unknown, known: None }, "\u{10}lost unknown".into()),
            (Verb::Lost { why: SessionLoss::Expired, known }, "\u{10}lost expired 7 9".into()),
            (Verb::Lost { why: SessionLoss::Overflow, known }, "\u{10}lost overflow 7 9".into()),
            (Verb::Lost { why: SessionLoss::Evicted, known }, "\u{10}lost evicted 7 9".into()),
            (Verb::Lost { why: SessionLoss::Ended, known }, "\u{10}lost ended 7 9".into()),
            (Verb::Lost { why: SessionLoss::Stuck, known }, "\u{10}lost stuck 7 9".into()),
            (Verb::Ack(4711), "\u{10}ack 4711".into()),
            (Verb::Ask, "\u{10}ask".into()),
        ] {
            assert_eq!(verb.text(), text);
            assert_eq!(read(&text), Ok(Incoming::Control(verb)));
        }
    }

    #[test]
    fn text_of_an_ack_has_the_bytes_that_the_specification_gives() {
        assert_eq!(Verb::Ack(4711).text().as_bytes(), b"\x10\x61\x63\x6b\x20\x34\x37\x31\x31");
    }

    #[test]
    fn only_the_first_two_bytes_tell_a_payload() {
        for payload in ["", "ack 1", " \u{10}ack 1", "a\u{10}", "\u{f}", "\u{11}", "ä"] {
            assert_eq!(read(payload), Ok(Incoming::Payload), "{payload:?}");
        }
        for escaped in ["\u{10}\u{10}", "\u{10}\u{10}hi", "\u{10}\u{10}\u{10}", "\u{10}\u{10}ack 1"] {
            assert_eq!(read(escaped), Ok(Incoming::EscapedPayload), "{escaped:?}");
        }
        assert_eq!(read(&format!("\u{10}\u{10}{}", "x".repeat(1000))), Ok(Incoming::EscapedPayload));
    }

    #[test]
    fn mistakes_are_refused() {
        let verbs = "| |ä|Ack 1| ack 1|ack\t1|ack\n1|bye|lost why|lost taken";
        let numbers = "ack |ack x|ack -1|ack +1|ack 01|ack 00|ack 1.0|ack 9007199254740992|ack 18446744073709551616";
        let counts = "ack|ack  1|ack 1 |ack 1 2|ack 1 2 3 4 5|ask 1|ask |new 1|at|at 1 2|hello|resumed 1|resumed 1 2 3|lost|\
             lost ended 1|lost ended 1 2 3|lost ended 1 2 3 4|hello TOKEN|resume TOKEN 1|resume TOKEN 1 2 3";
        let tokens = "hello x 1|resume x 1 2|hello TOKENA 1|resume TOKENA 1 2";
        for text in [verbs, numbers, counts, tokens].into_iter().flat_map(|list| list.split('|')) {
            let text = format!("\u{10}{}", text.replace("TOKEN", NAME));
            assert!(read(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn control_message_is_at_most_128_bytes_long() {
        let refused = |len: usize| read(&format!("\u{10}{:len$}", "ack 1", len = len - 1)).unwrap_err().reason();
        assert!(refused(129).contains("longer"));
        assert!(!refused(128).contains("longer"));
    }

    #[test]
    fn reasons_fit_a_close_frame() {
        for text in ["\u{10}", "\u{10}ack x", "\u{10}hello x 1", "\u{10}lost x", &format!("\u{10}{NAME:200}")] {
            assert!((1..=123).contains(&read(text).unwrap_err().reason().len()), "{text:?}");
        }
    }

    /// Texts of which many are nearly, or really, control messages.
    fn text() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            prop::sample::select(vec!["hello", "new", "resume", "resumed", "at", "lost", "ack", "ask", NAME]),
            prop::sample::select(vec![
                "unknown", "expired", "overflow", "evicted", "ended", "stuck", "", "\u{10}", "00"
            ]),
        ];
        let word = prop_oneof![word.prop_map(str::to_owned), any::<u64>().prop_map(|n| (n >> (n % 64)).to_string())];
        let words = prop::collection::vec(word, 0..6).prop_map(|words| format!("\u{10}{}", words.join(" ")));
        prop_oneof![words, any::<String>(), any::<String>().prop_map(|text| format!("\u{10}{text}"))]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn any_text_is_a_payload_or_a_mistake_or_the_text_of_its_verb(text in text()) {
            let [begins, is_escaped] = ["\u{10}", "\u{10}\u{10}"].map(|start| text.starts_with(start));
            match read(&text) {
                Ok(Incoming::Payload) => prop_assert!(!begins),
                Ok(Incoming::EscapedPayload) => prop_assert!(is_escaped),
                Ok(Incoming::Control(verb)) => prop_assert_eq!(verb.text(), text),
                Err(_) => prop_assert!(begins && !is_escaped),
            }
        }

        #[test]
        fn any_payload_arrives(payload in text()) {
            let is_escaped = payload.as_bytes().first() == Some(&DLE);
            let sent = if is_escaped { format!("\u{10}{payload}") } else { payload.clone() };
            let arrived = match read(&sent) {
                Ok(Incoming::Payload) => &sent[..],
                Ok(Incoming::EscapedPayload) => &sent[1..],
                _ => "nothing",
            };
            prop_assert_eq!(arrived, payload);
        }
    }
}
