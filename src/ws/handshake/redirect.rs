//! Where a redirect leads a client that was told to follow it.

use http::{HeaderMap, HeaderValue};

use super::client::{Ask, no_websocket};
use crate::{ConnConfig, WsError};

/// What to ask next. Headers of the program's own, which may be secrets, go to the same host and port alone.
pub(super) fn follow(ask: &Ask, location: &HeaderValue) -> Result<Ask, WsError> {
    let from = &ask.endpoint;
    let location = String::from_utf8_lossy(location.as_bytes());
    let endpoint = resolve(from, &location)
        .map_err(|error| no_websocket(from, format!("it redirects to an address that does not do: {error}")))?;
    if from.is_tls() && !endpoint.is_tls() {
        return Err(no_websocket(from, format!("it redirects to {endpoint}, which has no TLS")));
    }
    let same_host = endpoint.authority() == from.authority();
    let headers = if same_host { ask.headers.clone() } else { HeaderMap::new() };
    Ok(Ask { endpoint, headers, ..ask.clone() })
}

/// Resolves a reference (RFC 3986, section 5.2) against the endpoint that sent it.
fn resolve(from: &ConnConfig, location: &str) -> Result<ConnConfig, WsError> {
    let location = location.split('#').next().unwrap_or_default();
    let here = from.clone().query("");
    if let Some((scheme, rest)) = location.split_once("://") {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => "ws",
            "https" => "wss",
            _ => scheme,
        };
        return format!("{scheme}://{rest}").parse();
    }
    if let Some(rest) = location.strip_prefix("//") {
        let scheme = if from.is_tls() { "wss" } else { "ws" };
        return format!("{scheme}://{rest}").parse();
    }
    if location.starts_with('/') {
        return Ok(here.path(location));
    }
    if location.starts_with('?') {
        return Ok(here.query(location));
    }
    // A colon in the first segment makes it no relative reference (RFC 3986, section 4.2), but an address with a slash too
    // few, and with whatever it may hold of a password.
    if location.split('/').next().is_some_and(|segment| segment.contains(':')) {
        return location.parse();
    }
    let folder = from.as_path().rsplit_once('/').map_or("", |(folder, _)| folder);
    Ok(here.path(format!("{folder}/{location}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(url: &str) -> Ask {
        Ask {
            endpoint: url.parse().unwrap(),
            headers: HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static("secret"))]),
            subprotocols: std::sync::Arc::default(),
            tls: None,
            follows_redirects: true,
        }
    }

    fn led(from: &str, location: &str) -> Result<Ask, WsError> {
        follow(&ask(from), &HeaderValue::from_str(location).unwrap())
    }

    #[test]
    fn references_resolve_against_the_endpoint() {
        for (location, expected) in [
            ("ws://other:9/x?y=1", "ws://other:9/x?y=1"),
            ("HTTP://other:9/x", "ws://other:9/x"),
            ("https://other/x#top", "wss://other:443/x"),
            ("//other:9/x", "ws://other:9/x"),
            ("/x?y=1", "ws://h:1/x?y=1"),
            ("?y=1", "ws://h:1/a/b?y=1"),
            ("x", "ws://h:1/a/x"),
        ] {
            assert_eq!(led("ws://h:1/a/b?token=1", location).unwrap().endpoint.to_string(), expected, "{location}");
        }
    }

    #[test]
    fn secrets_stay_with_their_host() {
        assert_eq!(led("ws://h:1/", "/x").unwrap().headers.len(), 1);
        assert_eq!(led("ws://h:1/", "ws://h:2/x").unwrap().headers.len(), 0);
    }

    #[test]
    fn password_and_control_characters_in_a_location_are_not_repeated() {
        for location in
            ["ws://me:secret@h:2/", "http:/me:secret@h/", "me:secret@h/", "ftp://me:secret@h/", "ws://secret\u{9b}@h"]
        {
            let location = HeaderValue::from_bytes(location.as_bytes()).unwrap();
            let error = follow(&ask("wss://h:1/a"), &location).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("***@h"), "{error}");
        }
        let error = follow(&ask("ws://h:1/"), &HeaderValue::from_bytes("ws://h\u{85}\u{9b}2J".as_bytes()).unwrap())
            .unwrap_err();
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }

    #[test]
    fn protection_is_not_given_up_nor_another_scheme_followed() {
        let error = |from, location| led(from, location).unwrap_err().to_string();
        assert!(error("wss://h:1/", "ws://h:1/x").contains("which has no TLS"));
        assert!(error("ws://h:1/", "ftp://h:1/x").contains("not a WebSocket scheme"));
    }
}
