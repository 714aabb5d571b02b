//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455, section 9.1).

use std::borrow::Cow;

/// One extension of a list, with its parameters.
#[derive(Debug, PartialEq)]
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    /// The name and the value of each, in their order.
    pub(super) params: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// Reads the value of one header; `None` if it breaks the grammar.
pub(super) fn parse(value: &str) -> Option<Vec<Extension<'_>>> {
    let (mut scanner, mut list) = (Scanner { rest: value }, Vec::new());
    loop {
        // A list may have empty elements (RFC 9110, section 5.6.1).
        while scanner.accept(',') {}
        if scanner.is_at_end() {
            return Some(list);
        }
        list.push(scanner.extension()?);
        if !scanner.is_at_end() && !scanner.accept(',') {
            return None;
        }
    }
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn extension(&mut self) -> Option<Extension<'a>> {
        let (name, mut params) = (self.token()?, Vec::new());
        while self.accept(';') {
            let name = self.token()?;
            let value = if self.accept('=') { Some(self.value()?) } else { None };
            params.push((name, value));
        }
        Some(Extension { name, params })
    }

    fn value(&mut self) -> Option<Cow<'a, str>> {
        if self.accept('"') { self.quoted().map(Cow::Owned) } else { self.token().map(Cow::Borrowed) }
    }

    fn token(&mut self) -> Option<&'a str> {
        self.skip_space();
        let end = self.rest.find(|char| !is_of_token(char)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// The rest of a quoted string (RFC 9110, section 5.6.4), which must be a token.
    fn quoted(&mut self) -> Option<String> {
        let (mut token, mut chars) = (String::new(), self.rest.chars());
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => token.push(chars.next()?),
                char => token.push(char),
            }
        }
        self.rest = chars.as_str();
        (!token.is_empty() && token.chars().all(is_of_token)).then_some(token)
    }

    /// Passes over `char` if it comes next.
    fn accept(&mut self, char: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(char);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

/// RFC 9110, section 5.6.2.
fn is_of_token(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extension<'a>(name: &'a str, params: &[(&'a str, Option<&'a str>)]) -> Extension<'a> {
        Extension { name, params: params.iter().map(|(name, value)| (*name, value.map(Cow::Borrowed))).collect() }
    }

    #[test]
    fn lists_are_read_as_the_rfc_writes_them() {
        // The examples of RFC 6455, section 9.1.
        let one = extension("bar", &[("baz", Some("2"))]);
        assert_eq!(parse("foo, bar; baz=2"), Some(vec![extension("foo", &[]), one]));
        assert_eq!(parse("deflate-stream"), Some(vec![extension("deflate-stream", &[])]));
        let other = extension("bar", &[("y", Some("1")), ("z", None)]);
        assert_eq!(parse(" bar\t; y = \"1\" ;z , ,"), Some(vec![other]));
        assert_eq!(parse(r#"a;b="\1\5""#), Some(vec![extension("a", &[("b", Some("15"))])]));
        assert_eq!(parse(" , "), Some(vec![]));
    }

    #[test]
    fn mistakes_in_a_list_are_found() {
        let mistakes = ["a b", "a;", "a;b=", "a;b=\"", "a;b=\"\"", "a;b=\"1,2\"", "a;b=\"\\", "=", "a;=1", "a/b", "é"];
        assert!(mistakes.iter().all(|value| parse(value).is_none()));
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(value in r#"([a-c]{1,2}|[ ;,="\\]|\PC){0,40}"#) {
            for Extension { name, params } in parse(&value).unwrap_or_default() {
                let values = params.iter().filter_map(|(_, value)| value.as_deref());
                let tokens = params.iter().map(|(name, _)| *name).chain(values).chain([name]);
                prop_assert!(tokens.into_iter().all(|token| !token.is_empty() && token.chars().all(is_of_token)));
            }
        }
    }
}
