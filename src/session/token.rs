//! The name of a session, which nobody can guess.

use std::fmt;

use crate::random;

/// The alphabet of base64url (RFC 4648, section 5).
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How many characters of 6 bits hold 128 bits. The last 4 bits of the last one are 0.
const LEN: usize = 22;

/// 128 bits of the operating system's randomness. Who has them has the session: they are in no log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token([u8; 16]);

impl Token {
    pub(crate) fn random() -> Self {
        Self(random::secret())
    }

    /// In base64url, without padding.
    pub(super) fn text(self) -> String {
        let bits = u128::from_be_bytes(self.0);
        let character = |index: usize| {
            let shifted = if index < LEN - 1 { bits >> (122 - 6 * index) } else { bits << 4 };
            char::from(ALPHABET[(shifted & 63) as usize])
        };
        (0..LEN).map(character).collect()
    }

    /// `None` for anything that [`text`](Self::text) does not make.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (&last, rest) = text.as_bytes().split_last().filter(|_| text.len() == LEN)?;
        let bits = rest.iter().try_fold(0, |bits, &character| Some(bits << 6 | value(character)?))?;
        let last = value(last).filter(|value| value % 16 == 0)?;
        Some(Self((bits << 2 | last >> 4).to_be_bytes()))
    }
}

fn value(character: u8) -> Option<u128> {
    let value = match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// Without the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_base64url() {
        assert_eq!(Token([0; 16]).text(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Token([255; 16]).text(), "_____________________w");
        assert_eq!(Token(*b"sixteen bytes!!!").text(), "c2l4dGVlbiBieXRlcyEhIQ");
    }

    #[test]
    fn another_spelling_of_the_same_bits_is_no_token() {
        assert!(Token::parse("c2l4dGVlbiBieXRlcyEhIQ").is_some());
        for text in ["c2l4dGVlbiBieXRlcyEhIR", "c2l4dGVlbiBieXRlcyEhIQ==", "c2l4dGVlbiBieXRlcyEhI", "", "ä"] {
            assert_eq!(Token::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn debug_does_not_tell_the_secret() {
        assert_eq!(format!("{:?}", Token::random()), "Token(..)");
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        assert_ne!(Token::random(), Token::random());
    }

    #[cfg(feature = "test")]
    #[test]
    fn tokens_of_a_seeded_test_are_the_same_in_each_run() {
        let tokens = |seed| {
            random::seeded::seed(Some(seed));
            [Token::random(), Token::random()]
        };
        let [first, second] = tokens(1);
        assert_eq!(tokens(1), [first, second]);
        assert_ne!(first, second);
        assert_ne!(tokens(2), [first, second]);
        random::seeded::seed(None);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_their_text(bytes: [u8; 16]) {
            let text = Token(bytes).text();
            prop_assert_eq!(text.len(), LEN);
            prop_assert_eq!(Token::parse(&text), Some(Token(bytes)));
        }

        #[test]
        fn text_that_is_a_token_is_its_only_spelling(text in "[A-Za-z0-9_-]{20,23}|[A-Za-z0-9_-]{21}[AQgw]|\\PC*") {
            if let Some(token) = Token::parse(&text) {
                prop_assert_eq!(token.text(), text);
            }
        }
    }
}
