//! What is below a mounted connection.

use std::io::Write;

use super::{support::foreign::tcp, *};

#[test]
fn frames_that_come_with_the_request_are_heard() {
    let server = RxWsServer::unbound(WsStr).build().unwrap();
    let heard = Recorder::on(server.clone());
    let addr = serve(Router::new().fallback_service(server.service()));
    let request = "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // A text frame with the mask 0 (RFC 6455, section 5.2).
    let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    let mut stream = tcp(addr);
    stream.write_all(&[request.as_bytes(), &frame, &frame].concat()).unwrap();
    assert_eq!(heard.items(2).iter().map(|item| item.data.to_string()).collect::<Vec<_>>(), ["hi", "hi"]);
}

#[cfg(unix)]
#[test]
fn unix_socket_below_axum_is_served() {
    let path = std::env::temp_dir().join(format!("rxplus-mount-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let server = unbound_echo();
    let bound = std::os::unix::net::UnixListener::bind(&path).unwrap();
    bound.set_nonblocking(true).unwrap();
    let app = Router::new().fallback_service(server.service());
    serve_on(app, || tokio::net::UnixListener::from_std(bound).unwrap());
    let socket = path.clone();
    let builder = RxWsClient::builder("ws://robot/x", WsStr);
    let client = builder.connector(move |_| tokio::net::UnixStream::connect(socket.clone())).connect().unwrap();
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn large_messages_pass_whole_over_each_runtime() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in runtimes {
        let server = RxWsServer::unbound(WsBytes).runtime(&runtime).build().unwrap();
        server.clone().log_errors().subscribe_with(server.clone());
        let addr = serve(Router::new().fallback_service(server.service()));
        let client = RxWsClient::connect(format!("ws://{addr}/"), WsBytes).unwrap();
        let heard = Recorder::on(client.clone());
        let message: Vec<u8> = (0..1_000_000).map(|n: usize| (n % 251) as u8).collect();
        for _ in 0..3 {
            client.next(message.clone());
            assert!(heard.item() == message);
        }
    }
}

#[test]
fn mounted_connections_are_spread_over_the_threads_of_the_server() {
    let server = RxWsServer::unbound(WsStr).name("spread").threads(2).resumable(Resume::new()).build().unwrap();
    let (on_message, threads) = std::sync::mpsc::channel();
    server.connections().subscribe(move |connection| {
        let on_message = on_message.clone();
        connection.clone().log_errors().subscribe(move |_| on_message.send(thread_name()).unwrap());
        connection.clone().subscribe_with(connection);
    });
    let addr = serve(Router::new().fallback_service(server.service()));
    let plain = [(); 2].map(|()| assert_echoes(format!("ws://{addr}/")));
    let resumable = [(); 2].map(|()| {
        let builder = RxWsClient::builder(format!("ws://{addr}/"), WsStr).resumable(Resume::new());
        let client = builder.connect().unwrap();
        let heard = Recorder::on(client.clone());
        client.next("hello");
        assert_eq!(heard.item(), "hello");
        client
    });
    let mut threads: Vec<_> = (0..4).map(|_| threads.recv_timeout(PATIENCE).unwrap()).collect();
    threads.sort_unstable();
    assert_eq!(threads, ["rxplus-spread", "rxplus-spread", "rxplus-spread-2", "rxplus-spread-2"]);
    server.clone().complete();
    assert_eq!(server.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    drop((plain, resumable));
}
