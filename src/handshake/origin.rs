//! The origin of a page (RFC 6454).

use std::net::Ipv6Addr;

/// The origin of a page, as browsers write it: in lower case, and without the scheme's own port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(Box<str>);

impl Origin {
    /// The origin that `text` names, if it names one: `https://Example.org:443/` is `https://example.org`. Browsers send
    /// `null` for pages without an origin.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self(text.into()));
        }
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = host_and_port(authority.strip_suffix('/').unwrap_or(authority))?;
        let (scheme, host) = (scheme.to_ascii_lowercase(), normal_host(host)?);
        let is_usual = matches!((&*scheme, port), (_, None) | ("http" | "ws", Some(80)) | ("https" | "wss", Some(443)));
        let port = port.filter(|_| !is_usual).map_or(String::new(), |port| format!(":{port}"));
        is_scheme(&scheme).then(|| Self(format!("{scheme}://{host}{port}").into()))
    }
}

fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are inside its brackets.
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten()?;
            Some((host, Some(port)))
        }
        _ => Some((authority, None)),
    }
}

fn normal_host(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!host.is_empty() && host.bytes().all(is_name)).then(|| host.to_ascii_lowercase())
}

/// RFC 3986, section 3.1.
fn is_scheme(scheme: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic()) && scheme.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> Option<String> {
        Origin::parse(text).map(|origin| origin.0.into())
    }

    #[test]
    fn origins_that_mean_the_same_are_the_same() {
        for (text, origin) in [
            ("https://example.org", "https://example.org"),
            ("https://example.org/", "https://example.org"),
            ("HTTPS://Example.ORG:443", "https://example.org"),
            ("http://example.org:80/", "http://example.org"),
            ("https://example.org:80", "https://example.org:80"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::0:1]:80", "http://[::1]"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("null", "null"),
        ] {
            assert_eq!(normal(text).as_deref(), Some(origin), "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_is_none() {
        for text in [
            "",
            "*",
            "example.org",
            "//example.org",
            "://example.org",
            "https://",
            "https:///",
            " https://example.org",
            "https://example.org ",
            "https://example.org/path",
            "https://example.org//",
            "https://example.org?query",
            "https://user@example.org",
            "https://*.example.org",
            "https://bücher.example",
            "http://localhost:*",
            "http://localhost:",
            "http://localhost:+80",
            "http://localhost:65536",
            "http://::1",
            "http://[::1",
            "http://[]",
            "1http://example.org",
            "https://a.example https://b.example",
            "Null",
        ] {
            assert_eq!(normal(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn origin_is_its_own_normal_form(text in "[a-z]{1,3}://[A-Za-z.\\[\\]:0-9]{0,9}(:[0-9]{1,6})?/?") {
            if let Some(origin) = normal(&text) {
                prop_assert_eq!(normal(&origin), Some(origin));
            }
        }
    }
}
