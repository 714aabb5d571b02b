//! How a client follows a redirect.

use http::{HeaderMap, HeaderValue};

use super::client::{ConnectAsk, no_websocket};
use crate::{ConnConfig, WsError};

/// The next request. The program's own headers, which may be secrets, go only to the same host and port, and to the same
/// host with TLS if both ports are their scheme's own.
pub(super) fn follow(ask: &ConnectAsk, location: &HeaderValue) -> Result<ConnectAsk, WsError> {
    let from = &ask.endpoint;
    // The error quotes the address without any part that may be a password.
    let endpoint = resolve(from, &String::from_utf8_lossy(location.as_bytes()))
        .map_err(|error| no_websocket(from, format!("it redirects, but {error}")))?;
    if from.is_tls() && !endpoint.is_tls() {
        return Err(no_websocket(from, format!("it redirects to \"{endpoint}\", which has no TLS")));
    }
    let headers = if is_same_host(from, &endpoint) { ask.headers.clone() } else { HeaderMap::new() };
    Ok(ConnectAsk { endpoint, headers, ..ask.clone() })
}

fn is_same_host(from: &ConnConfig, to: &ConnConfig) -> bool {
    let place = |endpoint: &ConnConfig| (endpoint.is_tls(), endpoint.port());
    let adds_tls = place(from) == (false, 80) && place(to) == (true, 443);
    from.host() == to.host() && (from.port() == to.port() || adds_tls)
}

/// Resolves a reference (RFC 3986, section 5.2) against the endpoint that sent it.
fn resolve(from: &ConnConfig, reference: &str) -> Result<ConnConfig, WsError> {
    let reference = reference.split('#').next().unwrap_or_default();
    if let Some((scheme, rest)) = split_scheme(reference) {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => "ws",
            "https" => "wss",
            _ => scheme,
        };
        return format!("{scheme}:{rest}").parse().map(without_dots);
    }
    if reference.starts_with("//") {
        let scheme = if from.is_tls() { "wss" } else { "ws" };
        return format!("{scheme}:{reference}").parse().map(without_dots);
    }
    let (path, query) = reference.split_once('?').map_or((reference, None), |(path, query)| (path, Some(query)));
    if path.is_empty() {
        return Ok(query.map_or(from.clone(), |query| from.clone().query(query)));
    }
    let folder =
        if path.starts_with('/') { "" } else { from.as_path().rsplit_once('/').map_or("", |(folder, _)| folder) };
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(without_dots(from.clone().path(format!("{folder}{slash}{path}")).query(query.unwrap_or_default())))
}

/// Splits a reference behind its scheme, if it has one: a colon may stand in a path or a query string as well.
fn split_scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

/// Resolves the segments `.` and `..` of the path (RFC 3986, section 5.2.4).
fn without_dots(endpoint: ConnConfig) -> ConnConfig {
    let mut kept = Vec::new();
    let mut segments = endpoint.as_path().split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment == ".." {
            kept.pop();
        }
        let is_dots = matches!(segment, "." | "..");
        match (is_dots, segments.peek()) {
            (false, _) => kept.push(segment),
            // Nothing follows: it names a folder.
            (true, None) => kept.push(""),
            (true, Some(_)) => {}
        }
    }
    let path = format!("/{}", kept.join("/"));
    endpoint.path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(url: &str) -> ConnectAsk {
        ConnectAsk {
            endpoint: url.parse().unwrap(),
            headers: HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static("secret"))]),
            subprotocols: std::sync::Arc::default(),
            compression: None,
            tls: None,
            follows_redirects: true,
            connector: None,
        }
    }

    fn led(from: &str, location: &str) -> Result<ConnectAsk, WsError> {
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
            ("x?y=1", "ws://h:1/a/x?y=1"),
            ("", "ws://h:1/a/b?token=1"),
            ("/chat?back=http://h/x", "ws://h:1/chat?back=http://h/x"),
            ("./x:9", "ws://h:1/a/x:9"),
            (".", "ws://h:1/a/"),
            ("..", "ws://h:1/"),
            ("../x", "ws://h:1/x"),
            ("../../../x/./y", "ws://h:1/x/y"),
            ("/x/y/../z/..?a=/../b", "ws://h:1/x/?a=/../b"),
            ("/x//../y", "ws://h:1/x/y"),
            ("/x/..y/.z", "ws://h:1/x/..y/.z"),
            ("ws://other:9/x/../y", "ws://other:9/y"),
        ] {
            assert_eq!(led("ws://h:1/a/b?token=1", location).unwrap().endpoint.to_string(), expected, "{location}");
        }
    }

    #[test]
    fn secrets_stay_with_their_host() {
        let kept = |from, location| !led(from, location).unwrap().headers.is_empty();
        assert!(kept("ws://h:1/", "/x"));
        assert!(kept("ws://h:1/", "wss://h:1/x"));
        assert!(!kept("ws://h:1/", "ws://h:2/x"));
        assert!(!kept("ws://h:1/", "ws://i:1/x"));
    }

    #[test]
    fn secrets_go_along_when_only_tls_is_added() {
        let kept = |from, location| !led(from, location).unwrap().headers.is_empty();
        assert!(kept("ws://h/", "https://h/x"));
        assert!(!kept("ws://h/", "https://i/x"));
        assert!(!kept("ws://h/", "https://h:8443/x"));
        assert!(!kept("ws://h:8080/", "https://h/x"));
    }

    #[test]
    fn error_repeats_no_password_and_no_control_character() {
        let location = HeaderValue::from_bytes("http://me:secret@h/\u{9b}2J".as_bytes()).unwrap();
        let error = follow(&ask("ws://h:1/"), &location).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("secret") && !text.contains('\u{9b}') && text.contains("***@h"), "{text}");
        }
    }

    #[test]
    fn protection_is_not_given_up_nor_another_scheme_followed() {
        let error = |from, location| led(from, location).unwrap_err().to_string();
        assert!(error("wss://h:1/", "ws://h:1/x").contains("which has no TLS"));
        assert!(error("ws://h:1/", "ftp://h:1/x").contains("not a WebSocket scheme"));
        assert!(error("ws://h:1/", "mailto:x").contains("does not begin with ws://"));
    }
}
