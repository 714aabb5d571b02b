//! The NATS subject of a path, and the path of a subject.
//!
//! A subject is the prefix and a token per segment of the path, with dots between: `/chat/room.1/*` is `rx.chat.room=2E1.=2A`.
//! Letters, digits, `-` and `_` stand for themselves, `=` alone for an empty segment, and `=XX` for any other byte. So no two
//! paths share a subject, and nothing that a path contains becomes a wildcard, a blank or a dot of NATS.

/// Bytes of a subject. nats-server reads control lines of 4,096 bytes, in which a header and a reply have to fit as well.
pub(crate) const MAX_LEN: usize = 512;

/// Bytes of a prefix, so that it leaves room for the path.
const MAX_PREFIX_LEN: usize = 64;

/// Whether subjects may begin with `prefix`: one or more tokens with dots between.
pub(crate) fn is_prefix(prefix: &str) -> bool {
    prefix.len() <= MAX_PREFIX_LEN && prefix.split('.').all(is_token)
}

/// Whether this is a token of a subject that stands for itself.
pub(crate) fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(is_plain)
}

/// The subject of a path; `None` when the path has none, since it does not begin with `/` or is too long.
pub(crate) fn subject(prefix: &str, path: &str) -> Option<String> {
    let mut subject = String::from(prefix);
    for segment in path.strip_prefix('/')?.split('/') {
        subject.push('.');
        push_token(&mut subject, segment);
        if subject.len() > MAX_LEN {
            return None;
        }
    }
    Some(subject)
}

/// The path of a subject; `None` for one that [`subject`] does not make.
pub(crate) fn path(prefix: &str, subject: &str) -> Option<String> {
    let mut path = Vec::new();
    if subject.len() > MAX_LEN {
        return None;
    }
    for token in subject.strip_prefix(prefix)?.strip_prefix('.')?.split('.') {
        path.push(b'/');
        push_segment(&mut path, token)?;
    }
    String::from_utf8(path).ok()
}

fn push_token(subject: &mut String, segment: &str) {
    if segment.is_empty() {
        subject.push('=');
    }
    for byte in segment.bytes() {
        if is_plain(byte) {
            subject.push(byte.into());
        } else {
            subject.extend(['=', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
    }
}

fn push_segment(path: &mut Vec<u8>, token: &str) -> Option<()> {
    let mut rest = match token.as_bytes() {
        b"" => return None,
        b"=" => &[],
        token => token,
    };
    while let [first, others @ ..] = rest {
        rest = others;
        let byte = match (first, rest) {
            (b'=', [high, low, behind @ ..]) => {
                rest = behind;
                // A byte that stands for itself is not written like this, or a path would have two subjects.
                Some(hex_value(*high)? << 4 | hex_value(*low)?).filter(|byte| !is_plain(*byte) && *byte != b'/')?
            }
            (byte, _) if is_plain(*byte) => *byte,
            _ => return None,
        };
        path.push(byte);
    }
    Some(())
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn hex_digit(value: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(value)])
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_are_as_the_documentation_says() {
        let of = |path| subject("rx", path).unwrap();
        assert_eq!(
            ["/", "/chat/room.1/*", "/a//b", "/a b"].map(of),
            ["rx.=", "rx.chat.room=2E1.=2A", "rx.a.=.b", "rx.a=20b"]
        );
    }

    #[test]
    fn path_that_is_too_long_or_is_none_has_no_subject() {
        let longest = format!("/{}", "x".repeat(MAX_LEN - 3));
        assert_eq!(subject("rx", &longest).unwrap().len(), MAX_LEN);
        for path in [format!("{longest}x"), "/.".repeat(4096), "chat".into(), String::new()] {
            assert_eq!(subject("rx", &path), None, "{path}");
        }
    }

    #[test]
    fn prefix_is_made_of_plain_tokens() {
        assert!(["rx", "prod.ws", "a-b.c_d.1"].into_iter().all(is_prefix));
        let long = "x".repeat(65);
        assert!(!["", ".", "rx.", ".rx", "r x", "rx.*", "rx.>", "$SYS", "a=b", &long].into_iter().any(is_prefix));
    }

    proptest! {
        #[test]
        fn every_path_comes_back_and_injects_nothing(path in "/[ab/.=*> \\r\\n\\x00ÿ%_-]{0,12}|/\\PC{0,40}") {
            let made = subject("rx", &path).unwrap();
            prop_assert_eq!(super::path("rx", &made), Some(path));
            prop_assert!(made.split('.').all(|token| !token.is_empty()));
            prop_assert!(made.bytes().all(|byte| is_plain(byte) || byte == b'=' || byte == b'.'));
        }

        #[test]
        fn subject_that_has_a_path_is_the_one_of_that_path(junk in "rx\\.[ab.=4A2E0>* ]{0,9}") {
            if let Some(path) = super::path("rx", &junk) {
                prop_assert_eq!(subject("rx", &path), Some(junk));
            }
        }
    }
}
