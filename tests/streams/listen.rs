//! Listeners that are there before the server, and servers that have none.

use std::net::TcpListener;

use rxplus::{Addr, prelude::*};

use crate::support::{PATIENCE, connected, each_runtime, echoing};

/// The names of the errors matter less than what they tell to do.
fn mistake(server: Result<RxWsServer<WsStr>, WsError>) -> String {
    server.map(drop).expect_err("no server").to_string()
}

#[test]
fn listener_that_was_bound_before_is_served_whatever_its_mode() {
    let (runtimes, _tokio) = each_runtime(2);
    for (runtime, nonblocking) in runtimes.iter().flat_map(|runtime| [(runtime, true), (runtime, false)]) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(nonblocking).unwrap();
        let addr = listener.local_addr().unwrap();
        // One that comes before there is a server.
        let waiting = RxWsClient::connect(format!("ws://{addr}/early"), WsStr).unwrap();
        let server = echoing(RxWsServer::unbound(WsStr).runtime(runtime).listen_on(listener).unwrap());
        assert_eq!((server.local_addr(), server.local_addrs()), (Addr::Tcp(addr), vec![Addr::Tcp(addr)]));
        waiting.wait_connected(PATIENCE).unwrap();
        let client = connected(&server, "/late", WsStr);
        let heard = crate::Recorder::on(client.clone());
        client.next("hello");
        assert_eq!(heard.item(), "hello");
        client.complete();
        waiting.complete();
        server.clone().complete();
        server.wait_closed(PATIENCE).unwrap();
        // The port is free again.
        TcpListener::bind(addr).unwrap();
    }
}

/// As two processes do that share a port.
#[test]
fn two_servers_share_a_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = RxWsServer::unbound(WsStr).listen_on(listener.try_clone().unwrap()).unwrap();
    let second = RxWsServer::unbound(WsStr).listen_on(listener).unwrap();
    assert_eq!(first.local_addr(), second.local_addr());
    first.clone().complete();
    first.wait_closed(PATIENCE).unwrap();
    let client = connected(&second, "/", WsStr);
    client.complete();
    second.complete();
}

#[test]
fn bind_without_an_address_says_what_to_do_instead() {
    let text = mistake(RxWsServer::unbound(WsStr).bind());
    assert!(text.contains("no address") && text.contains("build()") && text.contains("listen_on()"), "{text}");
}

#[test]
fn option_that_cannot_be_used_makes_no_server_without_an_address_either() {
    let builder = || RxWsServer::unbound(WsStr).origins(["nonsense/"]);
    for error in [builder().build().err(), builder().listen_on(TcpListener::bind("127.0.0.1:0").unwrap()).err()] {
        assert!(matches!(error, Some(WsError::InvalidOrigin(_))), "{error:?}");
    }
}

/// It would have been served in the clear.
#[test]
fn wss_address_without_a_certificate_makes_no_server_however_it_is_made() {
    let builder = || RxWsServer::builder("wss://127.0.0.1:0", WsStr);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for server in [builder().bind(), builder().build(), builder().listen_on(listener)] {
        let text = mistake(server);
        assert!(text.contains("certificate"), "{text}");
    }
    let text = mistake(RxWsServer::builder("nonsense", WsStr).build());
    assert!(text.contains("nonsense"), "{text}");
}
