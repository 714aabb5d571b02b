//! [`ConnConfig`]: the address of an endpoint.

use std::{
    fmt::{self, Write},
    net::{Ipv6Addr, SocketAddr},
    str::FromStr,
};

use crate::WsError;

/// The address of a WebSocket endpoint: host, port, path, query string, and whether TLS protects it.
///
/// Every constructor that asks for an address takes one of these or a URL: `"ws://host:port/path?query"`, or `wss://` for
/// TLS. Without a port, 80 and 443 apply (RFC 6455, section 3). A server uses only its host and port; port 0 lets the
/// operating system choose a free one. A link-local IPv6 address has its interface behind `%25`, as in
/// `ws://[fe80::1%25eth0]:8765` (RFC 6874).
///
/// ```
/// use rxplus::ConnConfig;
///
/// let built = ConnConfig::new("localhost", 8765).path("/chat").query("room=7");
/// let parsed: ConnConfig = "ws://localhost:8765/chat?room=7".parse()?;
/// assert_eq!(built, parsed);
/// assert_eq!(built.to_string(), "ws://localhost:8765/chat?room=7");
/// # Ok::<(), rxplus::WsError>(())
/// ```
///
/// In a configuration file (feature `config`) it is a URL, or `host` and `port`, and `path`, `query` and `tls` where they
/// differ from the default. An unknown name or a bad value is an error that says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnConfig {
    host: String,
    port: u16,
    path: String,
    query: Option<String>,
    tls: bool,
}

impl ConnConfig {
    /// Names an endpoint by host and port, with the path `/` and without TLS.
    ///
    /// `host` is a name or an IP address; an IPv6 address may stand in brackets or not, and may have a zone, as in
    /// `fe80::1%eth0`. For text that a user typed, parse a URL instead: parsing reports a mistake as an error.
    ///
    /// # Panics
    ///
    /// If `host` is no host: empty, a whole URL, or with a space or a port in it.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        match Self::try_new(&host.into(), port) {
            Ok(config) => config,
            Err(reason) => panic!("ConnConfig::new takes a host name or an IP address: {reason}"),
        }
    }

    /// As [`new`](Self::new), but with the mistake in `host` as an error.
    pub(crate) fn try_new(host: &str, port: u16) -> Result<Self, String> {
        let host = checked_host(host)?;
        Ok(Self { host, port, path: "/".into(), query: None, tls: false })
    }

    /// Sets the path. The default is `/`, and a missing `/` at the start is added.
    ///
    /// Text after a `?` becomes the [`query`](Self::query); without a `?` the query stays as it is. Characters that a URL
    /// cannot hold are escaped as RFC 3986, section 2.1 says (`#` too: RFC 6455, section 3); a `%` is taken as the start of
    /// an escape.
    ///
    /// ```
    /// # use rxplus::ConnConfig;
    /// let config = ConnConfig::new("localhost", 8765).path("top floor/7?since=9");
    /// assert_eq!(config.as_path(), "/top%20floor/7");
    /// assert_eq!(config.as_query(), Some("since=9"));
    /// ```
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        let given = path.into();
        let (path, query) = match given.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (given.as_str(), None),
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        self.path = escaped(&format!("{slash}{path}"));
        if let Some(query) = query {
            self.set_query(query);
        }
        self
    }

    /// Sets the query string, with or without the `?` before it. The default is none, and an empty one is none.
    ///
    /// It belongs to the opening handshake: the server can read it, but routes by the path alone. Characters are escaped as
    /// by [`path`](Self::path); `&`, `=`, `+` and `%` mean something in a query and are left as they are, so escape them in a value
    /// yourself. A query may hold a token, so think of it when you print an address.
    ///
    /// ```
    /// # use rxplus::ConnConfig;
    /// let config = ConnConfig::new("localhost", 8765).query("name=Tom %26 C%2B%2B");
    /// assert_eq!(config.as_query(), Some("name=Tom%20%26%20C%2B%2B")); // the server reads: Tom & C++
    /// ```
    #[must_use]
    pub fn query(mut self, query: impl Into<String>) -> Self {
        let query = query.into();
        self.set_query(query.strip_prefix('?').unwrap_or(&query));
        self
    }

    /// Chooses TLS (`wss`) or a plain connection (`ws`). The default is plain; the port stays as it is.
    #[must_use]
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// The host name, in lower case, or the IP address, without brackets. The zone of an IPv6 address follows a `%`:
    /// `fe80::1%eth0`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path, which begins with a `/`, as it stands in the URL.
    pub fn as_path(&self) -> &str {
        &self.path
    }

    /// The query string, without the `?`, as it stands in the URL.
    pub fn as_query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Whether the connection is to be protected by TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host without the zone, which means nothing to another machine (RFC 6874, section 1).
    pub(crate) fn host_without_zone(&self) -> &str {
        self.host.split('%').next().unwrap_or_default()
    }

    /// `host:port`, with brackets around an IPv6 address, and without its zone: for a `Host` header.
    pub(crate) fn authority(&self) -> String {
        let (host, port) = (self.host_without_zone(), self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The path and the query string, as the request line of the opening handshake has them.
    pub(crate) fn request_target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The same endpoint at another path, which may bring a query string of its own.
    pub(crate) fn with_path(&self, path: &str) -> Self {
        self.clone().path(path)
    }

    fn set_query(&mut self, query: &str) {
        self.query = (!query.is_empty()).then(|| escaped(query));
    }

    // By hand rather than with `http::Uri`, which drops a fragment silently and does not say what it rejects.
    fn parse(url: &str) -> Result<Self, String> {
        if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(HAS_SPACE.into());
        }
        let (scheme, rest) = url.split_once("://").ok_or("it does not begin with ws:// or wss://")?;
        let (tls, default_port) = checked_scheme(scheme)?;
        if rest.contains('#') {
            return Err("WebSocket addresses have no #fragment (RFC 6455, section 3)".into());
        }
        let (authority, target) = split_authority(rest);
        if authority.contains('@') {
            return Err(HAS_CREDENTIALS.into());
        }
        let (host, port) = split_port(authority)?;
        let port = port.map_or(Ok(default_port), checked_port)?;
        let config = Self { host: checked_host(host)?, port, path: String::new(), query: None, tls };
        Ok(config.path(target))
    }
}

fn checked_scheme(scheme: &str) -> Result<(bool, u16), String> {
    match scheme.to_ascii_lowercase().as_str() {
        "ws" => Ok((false, 80)),
        "wss" => Ok((true, 443)),
        "http" => Err("http:// is not a WebSocket scheme, its counterpart is ws://".into()),
        "https" => Err("https:// is not a WebSocket scheme, its counterpart is wss://".into()),
        _ => Err(format!("\"{scheme}\" is not a WebSocket scheme, only ws and wss are")),
    }
}

/// Splits the text after `://` before the path, or before the query string when there is no path.
fn split_authority(rest: &str) -> (&str, &str) {
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

/// Splits `host:port`; an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    let host_len = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_len);
    match rest.strip_prefix(':') {
        Some(port) if port.contains(':') => Err("an IPv6 address stands in brackets, as in ws://[::1]:8765".into()),
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(format!("after the host only a colon and the port may follow, not \"{rest}\"")),
    }
}

fn checked_port(port: &str) -> Result<u16, String> {
    if port.is_empty() {
        return Err("the port after the colon is missing".into());
    }
    // `u16::from_str` alone would take "+80".
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| digits).ok_or_else(|| format!("the port \"{port}\" is not a number from 0 to 65535"))
}

/// The host in the one spelling in which it is stored, so that equal endpoints compare equal.
fn checked_host(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    if host.contains('@') {
        return Err(HAS_CREDENTIALS.into());
    }
    if host.contains(['[', ']', ':']) {
        return checked_ipv6(host);
    }
    if !host.is_ascii() {
        return Err(format!("the host \"{host}\" is not ASCII; write it in its xn-- form"));
    }
    match host.chars().find(|&c| !c.is_ascii_alphanumeric() && !"-._~".contains(c)) {
        Some(c) => Err(format!("the host \"{host}\" contains {c:?}")),
        None => Ok(host.to_ascii_lowercase()),
    }
}

/// An IPv6 address, and the zone in which it is meant (RFC 6874).
fn checked_ipv6(host: &str) -> Result<String, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let (address, zone) = bare.split_at(bare.find('%').unwrap_or(bare.len()));
    match address.parse::<Ipv6Addr>() {
        Ok(address) => Ok(format!("{address}{}", checked_zone(zone)?)),
        Err(_) => Err(format!("\"{bare}\" is not an IPv6 address")),
    }
}

/// The zone with a `%` before it, which is `%25` in a URL: an interface's name or number.
fn checked_zone(zone: &str) -> Result<String, String> {
    if zone.is_empty() {
        return Ok(String::new());
    }
    // The form in which `SocketAddr` prints it is understood too; there `%25` may be the interface with the number 25.
    let name = zone.strip_prefix("%25").filter(|name| !name.is_empty()).unwrap_or(&zone[1..]);
    match name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._~".contains(c)) {
        true => Err(format!("\"{name}\" is no zone of an IPv6 address; it is an interface, as in [fe80::1%25eth0]")),
        false => Ok(format!("%{name}")),
    }
}

/// Escapes the characters that neither a path nor a query string may hold (RFC 3986, sections 3.3 and 3.4).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing into a String does not fail");
        }
    }
    escaped
}

/// Why `url` is refused, for an error that may end up in a log.
///
/// A password may hold a `/`, a `?`, a `#` or an `@`, so nothing before the last `@` is repeated.
fn refused(url: &str, reason: String) -> WsError {
    let Some((before, rest)) = url.rsplit_once('@') else {
        return WsError::InvalidUrl { url: url.into(), reason };
    };
    let scheme = SCHEMES.into_iter().find(|scheme| starts_with(before, scheme)).unwrap_or_default();
    // A mistake in the rest may be quoted; if there is none, the mistake was in the part before.
    let reason = ConnConfig::parse(&format!("{scheme}{rest}")).err().unwrap_or_else(|| HAS_CREDENTIALS.into());
    WsError::InvalidUrl { url: format!("{scheme}***@{rest}"), reason }
}

/// The scheme that an address is likely to begin with, which is no secret.
const SCHEMES: [&str; 4] = ["ws://", "wss://", "http://", "https://"];

const HAS_SPACE: &str = "it contains a space, a line break or the like; write a space as %20, or give the path to \
    ConnConfig::new(..).path(..), which escapes it";

const HAS_CREDENTIALS: &str = "it seems to contain credentials (what stands before the @ is not shown); put them into \
    .header(\"Authorization\", ..), and write an @ of the path as %40";

fn starts_with(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// Reads `ws://host:port/path?query`, or `wss://`.
///
/// A failure is [`WsError::InvalidUrl`], which names the mistake: another scheme, no host, an invalid port, a fragment (RFC
/// 6455, section 3), credentials before the host, a space.
impl FromStr for ConnConfig {
    type Err = WsError;

    fn from_str(url: &str) -> Result<Self, WsError> {
        Self::parse(url).map_err(|reason| refused(url, reason))
    }
}

/// As [`FromStr`] does.
impl TryFrom<&str> for ConnConfig {
    type Error = WsError;

    fn try_from(url: &str) -> Result<Self, WsError> {
        url.parse()
    }
}

/// As [`FromStr`] does.
impl TryFrom<String> for ConnConfig {
    type Error = WsError;

    fn try_from(url: String) -> Result<Self, WsError> {
        url.parse()
    }
}

/// As [`FromStr`] does.
impl TryFrom<&String> for ConnConfig {
    type Error = WsError;

    fn try_from(url: &String) -> Result<Self, WsError> {
        url.parse()
    }
}

impl From<&ConnConfig> for ConnConfig {
    fn from(config: &ConnConfig) -> Self {
        config.clone()
    }
}

/// With the path `/` and without TLS: clients can connect to the address that [`local_addr`](crate::RxWsServer::local_addr)
/// returns.
///
/// ```
/// use rxplus::prelude::*;
///
/// let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
/// let client = RxWsClient::connect(ConnConfig::try_from(server.local_addr())?.path("/chat"), WsStr)?;
/// # Ok::<(), WsError>(())
/// ```
impl From<SocketAddr> for ConnConfig {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => format!("{}%{}", address.ip(), address.scope_id()),
            address => address.ip().to_string(),
        };
        Self::new(host, address.port())
    }
}

/// The URL, always with the port: `ws://127.0.0.1:8765/chat?x=1`.
impl fmt::Display for ConnConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        let (host, target) = (self.authority(), self.request_target());
        match self.host.split_once('%') {
            Some((address, zone)) => write!(f, "{scheme}://[{address}%25{zone}]:{}{target}", self.port),
            None => write!(f, "{scheme}://{host}{target}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(url: &str) -> ConnConfig {
        url.parse().unwrap()
    }

    /// Why `url` is refused.
    fn reason(url: &str) -> String {
        match url.parse::<ConnConfig>() {
            Err(WsError::InvalidUrl { reason, .. }) => reason,
            other => panic!("{url} gave {other:?}"),
        }
    }

    #[test]
    fn url_and_builder_agree() {
        assert_eq!(config("ws://localhost:8765"), ConnConfig::new("localhost", 8765));
        assert_eq!(config("ws://localhost:8765/chat"), ConnConfig::new("localhost", 8765).path("chat"));
        assert_eq!(config("wss://h:1/a?x=1"), ConnConfig::new("h", 1).path("/a").query("?x=1").tls(true));
        assert_eq!(config("ws://h:1?x=1"), ConnConfig::new("h", 1).query("x=1"));
        assert_eq!(config("ws://[::1]:1/x"), ConnConfig::new("::1", 1).path("/x"));
        assert_eq!(ConnConfig::new("[::1]", 1), ConnConfig::new("::1", 1));
    }

    #[test]
    fn scheme_decides_tls_and_the_default_port() {
        let parts = |url| (config(url).is_tls(), config(url).port());
        assert_eq!(parts("ws://h"), (false, 80));
        assert_eq!(parts("WSS://h/x"), (true, 443));
        assert_eq!(parts("wss://[::1]"), (true, 443));
        assert_eq!(parts("wss://h:80"), (true, 80));
        assert_eq!(parts("ws://[::]:0"), (false, 0));
    }

    #[test]
    fn spellings_of_one_host_are_equal() {
        assert_eq!(config("ws://LocalHost:1"), config("ws://localhost:1"));
        assert_eq!(config("ws://[0:0::0001]:1").host(), "::1");
    }

    #[test]
    fn socket_address_is_the_endpoint_of_the_same_url() {
        for address in ["127.0.0.1:8765", "[::1]:8765"] {
            let socket: SocketAddr = address.parse().unwrap();
            assert_eq!(ConnConfig::from(socket), config(&format!("ws://{address}")));
        }
    }

    #[test]
    fn zone_of_an_ipv6_address_is_kept_and_stays_here() {
        let zoned = config("ws://[FE80::0:1%25Eth0.1]:9/x");
        assert_eq!((zoned.host(), zoned.authority().as_str()), ("fe80::1%Eth0.1", "[fe80::1]:9"));
        assert_eq!(zoned.to_string(), "ws://[fe80::1%25Eth0.1]:9/x");
        assert_eq!(zoned, ConnConfig::new("[fe80::1%Eth0.1]", 9).path("/x"));
        assert_ne!(zoned, config("ws://[fe80::1%25eth0.1]:9/x"));
        assert_ne!(zoned, config("ws://[fe80::1]:9/x"));
        for url in ["ws://[fe80::1%253]:9", "ws://[fe80::1%3]:9"] {
            assert_eq!(config(url).host(), "fe80::1%3", "{url}");
        }
        let socket = SocketAddr::V6(std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 25));
        assert_eq!(ConnConfig::from(socket), config(&format!("ws://{socket}")));
    }

    #[test]
    fn authority_brackets_ipv6_only() {
        let authority = |url| config(url).authority();
        assert_eq!(authority("ws://[::1]/x"), "[::1]:80");
        assert_eq!(authority("ws://127.0.0.1:9"), "127.0.0.1:9");
        assert_eq!(authority("wss://my_host.example"), "my_host.example:443");
    }

    #[test]
    fn query_is_kept_until_another_is_given() {
        let base = config("ws://h:1/a?token=t");
        assert_eq!(base.with_path("/b").to_string(), "ws://h:1/b?token=t");
        assert_eq!(base.with_path("/b?x=1").request_target(), "/b?x=1");
        assert_eq!(base.with_path("/b?").as_query(), None);
        assert_eq!(config("ws://h:1/a??").as_query(), Some("?"));
    }

    #[test]
    fn path_is_escaped_once() {
        let path = |path| ConnConfig::new("h", 1).path(path).as_path().to_owned();
        assert_eq!(path(""), "/");
        assert_eq!(path("/a b\r\n#c"), "/a%20b%0D%0A%23c");
        assert_eq!(path("/a%20b"), "/a%20b");
        assert_eq!(path("größe"), "/gr%C3%B6%C3%9Fe");
        assert_eq!(config("ws://h/größe?a=ß").request_target(), "/gr%C3%B6%C3%9Fe?a=%C3%9F");
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        for (url, expected) in [
            ("", "does not begin with ws://"),
            ("localhost:8765", "does not begin with ws://"),
            ("http://h", "its counterpart is ws://"),
            ("https://h", "its counterpart is wss://"),
            ("mqtt://h", "\"mqtt\" is not a WebSocket scheme"),
            ("ws://", "the host is missing"),
            ("ws://:80/x", "the host is missing"),
            ("ws:///x", "the host is missing"),
            ("ws://h/#top", "no #fragment"),
            ("ws://h#top", "no #fragment"),
            ("ws://me:secret@h", "put them into .header("),
            ("ws://h:port/@me", "write an @ of the path as %40"),
            ("ws://h:", "the port after the colon is missing"),
            ("ws://h:65536", "the port \"65536\""),
            ("ws://h:+80", "the port \"+80\""),
            ("ws://::1:80", "stands in brackets"),
            ("ws://[::1", "stands in brackets"),
            ("ws://[::1]8765", "not \"8765\""),
            ("ws://[::g]:1", "\"::g\" is not an IPv6 address"),
            ("ws://[]:1", "\"\" is not an IPv6 address"),
            ("ws://[fe80::1%]:1", "\"\" is no zone of an IPv6 address"),
            ("ws://[fe80::1%25e/0]:1", "stands in brackets"),
            ("ws://[fe80::1%25e%30]:1", "\"e%30\" is no zone"),
            ("ws://[fe80::1%eth0%25]:1", "\"eth0%25\" is no zone"),
            ("ws://[127.0.0.1%25eth0]:1", "is not an IPv6 address"),
            ("ws://fe80%25eth0:1", "contains '%'"),
            ("ws://a]b:1", "not \"b:1\""),
            ("ws://h/a b", "contains a space"),
            ("ws://h/a b", "a space as %20, or give the path to ConnConfig::new(..).path(..)"),
            ("ws://h\n", "contains a space"),
            ("ws://größe", "xn--"),
            ("ws://a\\b", "contains '\\\\'"),
        ] {
            assert!(reason(url).contains(expected), "{url}: {}", reason(url));
        }
    }

    #[test]
    fn refusal_does_not_repeat_a_password() {
        for url in [
            "ws://me:secret@h",
            "http://me:secret@h",
            "WSS://me:secret@h",
            "me:secret@h:80/x",
            "ws://me:p@secret@h",
            "ws://me:a#secret@h",
            "ws://me:a?secret@h",
            "ws://me:a/secret@h/x",
            "ws://me:secret/x@h/x",
            "ws://me:secret://x@h",
            "ws://me:se cret@h",
            "ws:/me:secret@h",
            "ws:me:secret@h",
            "wss//me:secret@h",
            "secret://me@h",
            "ws://[secret@h",
            "ws://secret\n@h",
        ] {
            let error = url.parse::<ConnConfig>().unwrap_err();
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(!text.contains("cret") && text.contains("***@h"), "{text}");
            }
        }
    }

    #[test]
    fn address_with_an_at_sign_says_what_is_wrong_behind_it() {
        assert!(reason("ws://me:secret@h:99999").contains("the port \"99999\""));
        assert!(reason("mqtt://me:secret@h").contains("does not begin with ws://"));
        assert!(config("ws://h:1/@me").to_string().ends_with("/@me"));
    }

    #[test]
    fn host_with_a_password_panics_without_it() {
        let panic = std::panic::catch_unwind(|| ConnConfig::new("me:secret@h", 1)).unwrap_err();
        let text = panic.downcast::<String>().unwrap();
        assert!(text.contains("credentials") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn every_kind_of_address_converts() {
        fn port<A: TryInto<ConnConfig, Error: Into<WsError>>>(address: A) -> u16 {
            address.try_into().map_err(Into::into).unwrap().port()
        }
        let url = String::from("ws://h:7");
        assert_eq!((port("ws://h:7"), port(&url), port(url)), (7, 7, 7));
        let config = ConnConfig::new("h", 7);
        assert_eq!((port(&config), port(config)), (7, 7));
    }

    #[test]
    #[should_panic(expected = "takes a host name or an IP address: the host \"h/x\" contains '/'")]
    fn host_with_a_path_panics() {
        let _ = ConnConfig::new("h/x", 1);
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, scheme in "(ws://)?") {
            let _ = format!("{scheme}{text}").parse::<ConnConfig>();
        }

        #[test]
        fn display_is_read_back_by_us_and_by_http(
            host in "[a-z0-9]{1,9}|[0-9a-f]{1,4}::[0-9a-f]{1,4}",
            port: u16,
            path: String,
            query: String,
            tls: bool,
        ) {
            let config = ConnConfig::new(host, port).path(path).query(query).tls(tls);
            prop_assert_eq!(&config, &config.to_string().parse::<ConnConfig>().unwrap());
            let uri: http::Uri = config.to_string().parse().unwrap();
            prop_assert_eq!(uri.authority().map(|a| a.to_string()), Some(config.authority()));
            prop_assert_eq!((uri.path(), uri.query()), (config.as_path(), config.as_query()));
        }
    }
}
