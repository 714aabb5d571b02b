//! A client that wants its session back at a position that cannot be right, and takes nothing: what it is told does not go out, as
//! the stream has no room. It holds up nobody for longer than a second.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::{SinkExt, StreamExt};
use rxplus::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::*;

const PARK: Duration = Duration::from_secs(120);

/// How many more bytes a stream takes: less than the close frame, and with TLS in other cases less than what ends the stream behind
/// it.
const ROOMS: [usize; 5] = [0, 20, 40, 60, 80];

/// A server's end of a connection, which takes as many bytes as there is `room`.
struct Narrow {
    stream: DuplexStream,
    room: Arc<AtomicUsize>,
}

impl AsyncRead for Narrow {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let len = bytes.len().min(self.room.load(Relaxed));
        if len == 0 {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..len]);
        if let Poll::Ready(Ok(len)) = written {
            self.room.fetch_sub(len, Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client that the test plays.
struct Speaker(WebSocketStream<Box<dyn Stream>>);

impl Speaker {
    async fn say(&mut self, control: &str) {
        self.0.send(Message::text(format!("\u{10}{control}"))).await.unwrap();
    }

    async fn heard(&mut self) -> String {
        loop {
            if let Message::Text(text) = self.0.next().await.unwrap().unwrap() {
                return text.strip_prefix('\u{10}').expect("a control message").to_owned();
            }
        }
    }
}

/// A resumable server, and a session that waits for its client.
struct Site {
    network: TestNetwork,
    server: RxWsServer<WsStr>,
    tls: Option<TlsConnector>,
    room: usize,
    token: String,
}

impl Site {
    async fn new(has_tls: bool, room: usize) -> Self {
        let network = TestNetwork::new();
        let builder = RxWsServer::unbound(WsStr).resumable(Resume::new().park(PARK)).runtime(network.runtime());
        let (builder, tls) = if has_tls { with_tls(builder) } else { (builder, None) };
        let site = Self { network, server: builder.build().unwrap(), tls, room, token: String::new() };
        let (mut client, token, _) = site.client().await;
        client.say("new").await;
        assert_eq!(client.heard().await, "ack 0");
        Self { token, ..site }
    }

    /// A client that has heard `hello`, the token that it is offered, and the room on its stream.
    async fn client(&self) -> (Speaker, String, Arc<AtomicUsize>) {
        let ((near, stream), room) = (duplex(4096), Arc::new(AtomicUsize::new(usize::MAX)));
        self.server.accept(Narrow { stream, room: room.clone() });
        let mut request = "ws://robot/".into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "rxplus.resume.1".parse().unwrap());
        let (stream, _) = client_async(request, self.over_tls(near).await).await.unwrap();
        let mut client = Speaker(stream);
        let hello = client.heard().await;
        (client, hello.split(' ').nth(1).unwrap().to_owned(), room)
    }

    async fn over_tls(&self, stream: DuplexStream) -> Box<dyn Stream> {
        let Some(tls) = &self.tls else { return Box::new(stream) };
        Box::new(tls.connect(ServerName::try_from("robot").unwrap(), stream).await.unwrap())
    }

    async fn resume(&self, link: u64) -> Speaker {
        let (mut client, ..) = self.client().await;
        client.say(&format!("resume {} {link} 0", self.token)).await;
        client
    }

    /// A client that is to be refused.
    async fn resume_beyond_the_end(&self, link: u64) -> Speaker {
        let (mut client, _, room) = self.client().await;
        room.store(self.room, Relaxed);
        client.say(&format!("resume {} {link} 99", self.token)).await;
        client
    }
}

fn with_tls(builder: ServerBuilder<WsStr>) -> (ServerBuilder<WsStr>, Option<TlsConnector>) {
    let made = rcgen::generate_simple_self_signed(["robot".into()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let of_client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let of_client = of_client.with_safe_default_protocol_versions().unwrap();
    let of_client = Arc::new(of_client.with_root_certificates(roots).with_no_client_auth());
    (builder.tls(ServerTls::from_pem(&certificate, &key).unwrap()), Some(of_client.into()))
}

async fn sites(test: impl AsyncFn(Site)) {
    for has_tls in [false, true] {
        for room in ROOMS {
            let test = async { test(Site::new(has_tls, room).await).await };
            timeout(HOUR, test).await.unwrap_or_else(|_| panic!("with a room of {room}, with TLS: {has_tls}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_why_it_is_refused_leaves_its_session_to_the_next_link() {
    sites(async |site| {
        let _refused = site.resume_beyond_the_end(2).await;
        let mut next = site.resume(3).await;
        let since = site.network.elapsed();
        assert_eq!(next.heard().await, "resumed 0 0");
        assert!(site.network.elapsed() - since <= SECOND);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_why_it_is_refused_is_parked_no_longer_than_others() {
    sites(async |site| {
        let ends =
            site.network.record(site.server.events().filter(|event| matches!(event, ServerEvent::Disconnected { .. })));
        site.network.advance(PARK / 2).await;
        let _refused = site.resume_beyond_the_end(2).await;
        site.network.advance(PARK / 2 + SECOND).await;
        assert_eq!((site.server.stats().connections, site.server.stats().parked), (0, 0));
        assert_eq!(names(ends.take()), ["120s Disconnected"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_why_it_is_refused_does_not_keep_its_server() {
    sites(async |site| {
        let _refused = site.resume_beyond_the_end(2).await;
        let since = site.network.elapsed();
        site.server.clone().complete();
        site.server.closed().await;
        assert!(site.network.elapsed() - since <= SECOND);
    })
    .await;
}
