//! Peers that get no connection: the same answer and the same event, whichever way they come.

use rxplus::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
};

use crate::{
    ROOM, refusal, rest, run,
    support::{Recorder, foreign::upgrade_request},
};

/// What a peer is told, without the date, and what the program is told.
#[derive(Debug, PartialEq)]
struct Refused {
    answer: String,
    status: Option<u16>,
    reason: String,
}

/// Each says something that opens no connection, and then ends its side.
fn sayings() -> Vec<(&'static str, String)> {
    let upgrade = upgrade_request("/chat");
    vec![
        ("nothing", String::new()),
        ("half a request", upgrade[..40].into()),
        ("no upgrade", "GET /chat HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("no upgrade, and only the head", "HEAD /chat HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("another method", "POST /chat HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi".into()),
        ("HTTP/1.0", upgrade.replace("HTTP/1.1", "HTTP/1.0")),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("another version of WebSocket", upgrade.replace("Version: 13", "Version: 8")),
        ("no key", upgrade.replace("Sec-WebSocket-Key", "X")),
        ("another path", upgrade_request("/other")),
        ("another origin", upgrade.replace("Host", "Origin: https://evil.example\r\nHost")),
        ("a head that is too long", upgrade.replace("Host", &format!("X: {}\r\nHost", "x".repeat(70_000)))),
        ("TLS", "\u{16}\u{3}\u{1}\u{0}\u{5}\u{1}\u{0}\u{0}\u{1}\u{3}".into()),
        ("garbage", "\u{0}\u{1}\u{2} nobody's protocol\r\n\r\n".into()),
        ("empty lines", "\r\n".repeat(100)),
    ]
}

async fn refused<S>(stream: S, saying: &str, events: &Recorder<ServerEvent>) -> Refused
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (read, mut write) = tokio::io::split(stream);
    let say = async {
        // A server that has heard enough may have answered and hung up.
        let _ = write.write_all(saying.as_bytes()).await;
        let _ = write.shutdown().await;
    };
    let ((), answer) = tokio::join!(say, rest(read));
    let answer = answer.lines().filter(|line| !line.starts_with("Date: ")).collect::<Vec<_>>().join("\n");
    let (status, reason) = refusal(events);
    Refused { answer, status, reason }
}

#[test]
fn peers_are_refused_as_on_the_servers_own_listener() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
        .paths(["/chat"])
        .origins(["https://example.org"])
        .bind()
        .unwrap();
    let events = Recorder::on(server.events());
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (what, saying) in sayings() {
            let addr = server.local_addr().as_tcp().unwrap();
            let expected = refused(TcpStream::connect(addr).await.unwrap(), &saying, &events).await;
            assert!(!expected.reason.is_empty(), "{what}");

            let (near, far) = duplex(ROOM);
            server.accept(far);
            assert_eq!(refused(near, &saying, &events).await, expected, "{what}, in memory");

            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            server.accept(listener.accept().await.unwrap().0);
            assert_eq!(refused(stream, &saying, &events).await, expected, "{what}, over TCP");

            #[cfg(unix)]
            {
                let (near, far) = tokio::net::UnixStream::pair().unwrap();
                server.accept(far);
                assert_eq!(refused(near, &saying, &events).await, expected, "{what}, over a Unix socket");
            }
        }
    });
    assert_eq!(server.stats().accepted, 0);
    server.complete();
}
