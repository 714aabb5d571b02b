//! [`OneLine`]: prints foreign text on one line.

use std::{
    error::Error,
    fmt::{self, Write},
};

/// The longest text of a library's error about a message: it quotes text that a peer sent, which may be a megabyte.
const QUOTED_LEN: usize = 400;

/// Prints as the value inside does, but on one line, with the characters escaped that a terminal acts on: a peer must not be
/// able to write lines of its own into a log.
pub(crate) struct OneLine<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| acts(*c)) {
            write!(self.0, "{}{}", &rest[..at], c.escape_default())?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Whether a character does something instead of being seen: C0, DEL and C1 controls, the line and paragraph separators, and
/// the marks that turn the direction of the text around them (Unicode Standard Annex 9).
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A library's error about a message: on one line, and cut if it is long.
#[derive(Debug)]
pub(crate) struct Complaint(String);

impl Complaint {
    pub(crate) fn of(error: impl fmt::Display) -> Self {
        let mut text = OneLine(error).to_string();
        if let Some(cut) = (QUOTED_LEN..text.len()).find(|&at| text.is_char_boundary(at)) {
            text.truncate(cut);
            text.push_str("..");
            text.shrink_to_fit();
        }
        Self(text)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Complaint {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped() {
        let text = "a\nb\r\u{1b}[2J\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{2066}";
        let shown = r"a\nb\r\u{1b}[2J\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{2066}";
        assert_eq!(OneLine(text).to_string(), shown);
    }

    #[test]
    fn text_that_is_seen_stays_as_it_is() {
        for text in ["", "größe 日本 \"quoted\" \\ 🦀", "it broke: \u{301}"] {
            assert_eq!(OneLine(text).to_string(), text);
        }
    }

    #[test]
    fn long_complaint_is_cut_between_characters() {
        let cut = Complaint::of(format!("a{}", "ß".repeat(QUOTED_LEN))).to_string();
        assert_eq!(cut, format!("a{}..", "ß".repeat(QUOTED_LEN / 2)));
        assert_eq!(Complaint::of("short").to_string(), "short");
    }

    proptest! {
        #[test]
        fn what_is_on_one_line_stays_so(text: String) {
            let once = OneLine(&text).to_string();
            prop_assert!(!once.contains(acts));
            prop_assert_eq!(OneLine(&once).to_string(), once);
        }
    }
}
