//! Ends of a session that say what a test wants them to say.

use std::net::TcpStream;

use rxplus::Addr;
use tungstenite::{
    Message,
    client::IntoClientRequest,
    handshake::server::{Callback, ErrorResponse, Request, Response},
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::support::foreign::{Foreign, ForeignServer, host_of_its_own, read, read_to_the_end, tcp};

const PROTOCOL: &str = "rxplus.resume.1";

/// Chooses the resumable mode.
struct Choice;

impl Callback for Choice {
    fn on_request(self, _: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        response.headers_mut().insert("Sec-WebSocket-Protocol", PROTOCOL.parse().unwrap());
        Ok(response)
    }
}

/// A peer that offers or takes the resumable mode, and is not ours.
pub(crate) struct Speaker(pub(crate) Foreign);

impl Speaker {
    /// A client that has not heard `hello`.
    pub(crate) fn client(server: impl Into<Addr>, path: &str) -> Self {
        let server = server.into();
        let mut request = format!("ws://{server}{path}").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", PROTOCOL.parse().unwrap());
        Self(tungstenite::client(request, tcp(&server)).unwrap().0)
    }

    /// A client with a session of its own, and the token of that.
    pub(crate) fn linked(server: impl Into<Addr>, path: &str) -> (Self, String) {
        let mut client = Self::client(server, path);
        let token = client.token();
        client.say("new");
        assert_eq!(client.heard(), "ack 0");
        (client, token)
    }

    /// A client that wants the session with a token back.
    pub(crate) fn resuming(server: impl Into<Addr>, path: &str, token: &str, link: u64, received: u64) -> Self {
        let mut client = Self::client(server, path);
        client.token();
        client.say(&format!("resume {token} {link} {received}"));
        client
    }

    /// The next link of a client to a server.
    pub(crate) fn accept(server: &ForeignServer) -> Self {
        Self::answer(server.accept_tcp())
    }

    pub(crate) fn answer(stream: TcpStream) -> Self {
        Self(tungstenite::accept_hdr(stream, Choice).unwrap())
    }

    /// The next link of a client, with a session of its own.
    pub(crate) fn begin(server: &ForeignServer) -> Self {
        let mut link = Self::accept(server);
        link.say(HELLO);
        assert_eq!(link.heard(), "new");
        link.say("ack 0");
        link
    }

    /// The next link of a client that wants its session back, and what it says.
    pub(crate) fn wanted(server: &ForeignServer) -> (Self, String) {
        let mut link = Self::accept(server);
        link.say(HELLO);
        let said = link.heard();
        (link, said)
    }

    pub(crate) fn say(&mut self, verb: &str) {
        self.send(format!("\u{10}{verb}"));
    }

    pub(crate) fn send(&mut self, text: impl Into<String>) {
        // The peer may have gone.
        let _ = self.0.send(Message::text(text.into()));
    }

    /// The next message, which is a control message, without its first byte.
    pub(crate) fn heard(&mut self) -> String {
        let message = self.message();
        message.strip_prefix('\u{10}').unwrap_or_else(|| panic!("a payload: {message}")).to_owned()
    }

    /// The next text.
    pub(crate) fn message(&mut self) -> String {
        match read(&mut self.0) {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// The next payloads.
    pub(crate) fn payloads(&mut self, count: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        while payloads.len() < count {
            let message = self.message();
            if !message.starts_with('\u{10}') {
                payloads.push(message);
            }
        }
        payloads
    }

    /// The token that the server offers.
    pub(crate) fn token(&mut self) -> String {
        let hello = self.heard();
        hello.strip_prefix("hello ").unwrap().split(' ').next().unwrap().to_owned()
    }

    /// Says something and closes, in one write.
    pub(crate) fn say_and_close(&mut self, verb: &str, code: u16) {
        self.0.write(Message::text(format!("\u{10}{verb}"))).unwrap();
        self.0.close(Some(CloseFrame { code: CloseCode::from(code), reason: "".into() })).unwrap();
    }

    /// The next control message; `None` at the end of the link.
    pub(crate) fn heard_or_end(&mut self) -> Option<String> {
        loop {
            match self.0.read().ok()? {
                Message::Text(text) => return Some(text.as_str().trim_start_matches('\u{10}').to_owned()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    pub(crate) fn close(&mut self, code: u16) {
        self.0.close(Some(CloseFrame { code: CloseCode::from(code), reason: "".into() })).unwrap();
        self.0.flush().unwrap();
    }

    /// The texts that still come.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        read_to_the_end(&mut self.0).0
    }

    /// Reads to the end, and returns the close code.
    pub(crate) fn code(mut self) -> Option<u16> {
        read_to_the_end(&mut self.0).1
    }
}

/// A server that is not rxplus's. Its port stays its own, on a host where nobody else is looked for: clients that are dropped
/// with something unsent go on looking for a while, and are not to find the server of another test.
pub(crate) fn foreign_server() -> &'static ForeignServer {
    Box::leak(Box::new(ForeignServer::on(&host_of_its_own(7))))
}

/// What a server of the tests offers.
pub(crate) const HELLO: &str = "hello AAAAAAAAAAAAAAAAAAAAAA 120";
