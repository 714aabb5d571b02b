//! [`Dialing`]: how a client reaches its server.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;

use crate::{
    ConnConfig, ConnRequest, OnClose, Resume, RetryPolicy, WsDatatype, WsError,
    client::request::{GivenHeader, check_subprotocols, given_header},
    endpoint::{codec::KeyOf, inbound::Member},
    handshake::{ConnectAsk, Connector},
    transport::tls::ClientTls,
};

/// Calls its second argument with each message to send first on every connection to a path: as a function that makes the
/// message, since that may panic.
type Greeting<I> = Arc<dyn Fn(&str, &mut dyn FnMut(Box<dyn FnOnce() -> I + '_>)) + Send + Sync>;

/// Changes the request of an attempt to connect.
type Requesting = Arc<dyn Fn(ConnRequest) -> ConnRequest + Send + Sync>;

/// Decides what follows a close code and a reason from the server, or leaves it to the policy.
type Deciding = Arc<dyn Fn(u16, &str) -> Option<OnClose> + Send + Sync>;

/// How long a connection that received something must last to count as good: a server may say why it hangs up, and then hang
/// up, and such a connection received nothing else.
const PROVING_UPTIME: Duration = Duration::from_secs(1);

/// How a client reaches its server.
pub(crate) struct Dialing<D: WsDatatype> {
    pub(crate) retry: RetryPolicy,
    pub(crate) min_uptime: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) subprotocols: Arc<[String]>,
    pub(crate) greeting: Option<Greeting<D::Outgoing>>,
    pub(crate) request: Option<Requesting>,
    pub(crate) on_close: Option<Deciding>,
    /// The group that the client belongs to.
    pub(crate) member: Option<Member<D::Item>>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) follows_redirects: bool,
    pub(crate) connector: Option<Connector>,
    /// `None` for plain links.
    pub(crate) resume: Option<Resume>,
    /// There if the outbox conflates.
    pub(crate) key_of: Option<KeyOf<D::Outgoing>>,
    headers: Result<HeaderMap, WsError>,
}

impl<D: WsDatatype> Default for Dialing<D> {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            min_uptime: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            subprotocols: Arc::default(),
            greeting: None,
            request: None,
            on_close: None,
            member: None,
            tls: None,
            follows_redirects: false,
            connector: None,
            resume: None,
            key_of: None,
            headers: Ok(HeaderMap::new()),
        }
    }
}

// Not derived: the datatype need not be `Clone`.
impl<D: WsDatatype> Clone for Dialing<D> {
    fn clone(&self) -> Self {
        Self {
            retry: self.retry.clone(),
            min_uptime: self.min_uptime,
            connect_timeout: self.connect_timeout,
            subprotocols: self.subprotocols.clone(),
            greeting: self.greeting.clone(),
            request: self.request.clone(),
            on_close: self.on_close.clone(),
            member: self.member.clone(),
            tls: self.tls.clone(),
            follows_redirects: self.follows_redirects,
            connector: self.connector.clone(),
            resume: self.resume.clone(),
            key_of: self.key_of.clone(),
            headers: self.headers.clone(),
        }
    }
}

impl<D: WsDatatype> fmt::Debug for Dialing<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialing").field("retry", &self.retry).finish_non_exhaustive()
    }
}

impl<D: WsDatatype> Dialing<D> {
    /// A copy for a client that belongs to a group.
    pub(crate) fn of(&self, member: Member<D::Item>) -> Self {
        Self { member: Some(member), ..self.clone() }
    }

    /// Adds a header; the first one that cannot be sent is remembered as an error.
    pub(crate) fn add_header(&mut self, name: &str, value: &str) {
        let Ok(headers) = &mut self.headers else { return };
        match given_header(name, value) {
            Ok(GivenHeader::Other(name, value)) => _ = headers.append(name, value),
            Ok(GivenHeader::Subprotocols(names)) => {
                self.subprotocols = self.subprotocols.iter().cloned().chain(names).collect();
            }
            Err(error) => self.headers = Err(error),
        }
    }

    /// Whether a connection that lasted for `uptime` was a good one.
    pub(crate) fn is_proven(&self, uptime: Duration, has_received: bool) -> bool {
        uptime >= if has_received { self.min_uptime.min(PROVING_UPTIME) } else { self.min_uptime }
    }

    /// The request to connect to `endpoint`.
    ///
    /// # Errors
    ///
    /// When a header or a subprotocol cannot be sent, or there is no TLS for an endpoint that wants it.
    pub(crate) fn connect_ask(&self, endpoint: ConnConfig) -> Result<ConnectAsk, WsError> {
        let tls = match &self.tls {
            None if endpoint.is_tls() => Some(ClientTls::system()?),
            given => given.clone(),
        };
        let (headers, subprotocols) = (self.headers.clone()?, self.subprotocols.clone());
        check_subprotocols(&subprotocols)?;
        let (follows_redirects, connector) = (self.follows_redirects, self.connector.clone());
        Ok(ConnectAsk { endpoint, headers, subprotocols, compression: None, tls, follows_redirects, connector })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WsStr;

    #[test]
    fn connection_is_proven_by_its_uptime_and_sooner_if_something_was_received() {
        let proven = |min_uptime, uptime, has_received| {
            let dialing = Dialing::<WsStr> { min_uptime: Duration::from_millis(min_uptime), ..Dialing::default() };
            dialing.is_proven(Duration::from_millis(uptime), has_received)
        };
        assert!(!proven(5000, 4999, false) && proven(5000, 5000, false));
        assert!(!proven(5000, 999, true) && proven(5000, 1000, true));
        assert!(!proven(500, 499, true) && proven(500, 500, true));
        assert!(proven(0, 0, false) && proven(0, 0, true));
    }
}
