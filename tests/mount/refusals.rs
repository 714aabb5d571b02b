//! Requests that get no connection: each gets the answer and the event that it gets on the server's own listener.

use std::io::{Read, Write};

use super::{support::foreign::tcp, *};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// The head of a request for a connection, with some lines replaced or added.
fn request(first: &str, changes: &[(&str, &str)]) -> String {
    let usual = [
        ("Host", "Host: h"),
        ("Connection", "Connection: Upgrade"),
        ("Upgrade", "Upgrade: websocket"),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13"),
        ("Sec-WebSocket-Key", KEY),
    ];
    let changed = |name| changes.iter().find(|(other, _)| *other == name).map(|(_, line)| *line);
    let lines = usual.iter().map(|(name, line)| changed(*name).unwrap_or(line));
    let added = changes.iter().filter(|(name, _)| usual.iter().all(|(other, _)| other != name)).map(|(_, line)| *line);
    let lines: Vec<_> = std::iter::once(first).chain(lines.chain(added).filter(|line| !line.is_empty())).collect();
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

/// The status and the text of an answer.
fn answer(addr: SocketAddr, request: &str) -> (String, String) {
    let mut stream = tcp(addr);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    let len = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut text = vec![0; len.unwrap_or(0)];
    stream.read_exact(&mut text).unwrap();
    (head.split(' ').nth(1).unwrap_or_default().to_owned(), String::from_utf8(text).unwrap())
}

fn rejection(event: ServerEvent) -> Option<(Option<u16>, String)> {
    match event {
        ServerEvent::Rejected { status, reason, .. } => Some((status, reason.to_string())),
        _ => None,
    }
}

fn options(builder: rxplus::ServerBuilder<WsStr>) -> rxplus::ServerBuilder<WsStr> {
    builder.paths(["/x", "/full"]).origins(["https://h.example"]).limits(Limits::server().connections_per_path(1))
}

#[test]
fn bad_requests_get_the_answer_and_the_event_of_the_servers_own_listener() {
    let own = options(RxWsServer::builder("ws://127.0.0.1:0", WsStr)).bind().unwrap();
    let mounted = options(RxWsServer::unbound(WsStr)).build().unwrap();
    let (own_events, mounted_events) = (Recorder::on(own.events()), Recorder::on(mounted.events()));
    let addrs = [own.local_addr().as_tcp().unwrap(), serve(Router::new().fallback_service(mounted.service()))];
    // The only place on that path is taken. Origins do not bind programs.
    let taken = addrs.map(|addr| RxWsClient::connect(format!("ws://{addr}/full"), WsStr).unwrap());
    taken.iter().for_each(|client| client.wait_connected(PATIENCE).unwrap());
    let get = "GET /x HTTP/1.1";
    for request in [
        request(get, &[("Upgrade", ""), ("Connection", "")]),
        request("GET /x HTTP/1.0", &[]),
        request("POST /x HTTP/1.1", &[]),
        request("GET /none HTTP/1.1", &[]),
        request(get, &[("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8")]),
        request(get, &[("Sec-WebSocket-Key", "")]),
        request(get, &[("Sec-WebSocket-Key", "Sec-WebSocket-Key: short")]),
        request(get, &[("Content-Length", "Content-Length: 3")]),
        request(get, &[("Origin", "Origin: https://other.example")]),
        request("GET /full HTTP/1.1", &[]),
    ] {
        let [expected, found] = addrs.map(|addr| answer(addr, &request));
        assert_eq!(found, expected, "{request}");
        let [expected, found] = [&own_events, &mounted_events].map(|events| events.find(rejection));
        assert_eq!(found, expected, "{request}");
    }
}

#[test]
fn server_without_room_for_a_handshake_answers_503_and_tells_it() {
    let server = RxWsServer::unbound(WsStr).limits(Limits::server().handshakes(1)).build().unwrap();
    let events = Recorder::on(server.events());
    let (_silent, stream) = tokio::io::duplex(64);
    server.accept(stream);
    let addr = serve(Router::new().fallback_service(server.service()));
    let (status, text) = answer(addr, &request("GET / HTTP/1.1", &[]));
    assert!(status == "503" && text.contains("Limits::handshakes"), "{status} {text}");
    assert_eq!(events.find(rejection).0, Some(503));
}

#[test]
fn limits_hold_for_mounted_connections_and_their_places_are_given_back() {
    let server = RxWsServer::unbound(WsStr).max_connections(1).build().unwrap();
    server.clone().log_errors().subscribe_with(server.clone());
    let addr = serve(Router::new().fallback_service(server.service()));
    for _ in 0..3 {
        let client = assert_echoes(format!("ws://{addr}/"));
        assert_eq!(answer(addr, &request("GET / HTTP/1.1", &[])).0, "503");
        client.complete();
        until("leaving", || server.connection_count() == 0);
    }
}

#[test]
fn head_over_the_limits_is_refused_as_on_the_servers_own_listener() {
    let limits = || Limits::server().header_len(8192).headers(16);
    let own = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits()).bind().unwrap();
    let mounted = RxWsServer::unbound(WsStr).limits(limits()).build().unwrap();
    let addrs = [own.local_addr().as_tcp().unwrap(), serve(Router::new().fallback_service(mounted.service()))];
    let long = format!("X: {}", "x".repeat(20_000));
    let many: Vec<_> = (0..20).map(|n| format!("X-{n}: x")).collect();
    for line in [long, many.join("\r\n")] {
        let request = request("GET /x HTTP/1.1", &[("X", &line)]);
        let statuses = addrs.map(|addr| answer(addr, &request).0);
        assert_eq!(statuses, ["431", "431"]);
    }
}

#[test]
fn place_of_a_request_that_is_given_up_is_given_back_at_once() {
    let (say, asked) = std::sync::mpsc::channel();
    let authorize = move |_| {
        say.send(()).unwrap();
        std::future::pending::<Result<(), Refuse>>()
    };
    let server = RxWsServer::unbound(WsStr).authorize(authorize).build().unwrap();
    let events = Recorder::on(server.events());
    let addr = serve(Router::new().fallback_service(server.service()));
    let mut stream = tcp(addr);
    stream.write_all(request("GET / HTTP/1.1", &[]).as_bytes()).unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    drop(stream);
    // The handshake may last as long as the test is patient.
    let began = std::time::Instant::now();
    assert_eq!(events.find(rejection).0, None);
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn authorize_that_panics_or_never_decides_harms_nobody_else() {
    let authorize = async |request: UpgradeRequest| match request.path() {
        "/panics" => panic!("on purpose"),
        "/waits" => std::future::pending().await,
        _ => Ok::<_, Refuse>(()),
    };
    let limits = Limits::server().handshake(Duration::from_millis(100));
    let server = RxWsServer::unbound(WsStr).authorize(authorize).limits(limits).build().unwrap();
    server.clone().log_errors().subscribe_with(server.clone());
    let addr = serve(Router::new().fallback_service(server.service()));
    assert_eq!(answer(addr, &request("GET /panics HTTP/1.1", &[])).0, "500");
    assert_eq!(answer(addr, &request("GET /waits HTTP/1.1", &[])).0, "503");
    assert_echoes(format!("ws://{addr}/"));
}
