//! Where an endpoint is, what it is called, and what is wrong with an address.

use std::net::SocketAddr;

use super::*;

#[test]
fn one_config_of_host_port_and_path_serves_both_sides() {
    let server = echo_server_at("ws://127.0.0.1:0/ignored", WsStr);
    let port = server.local_addr().port().unwrap();
    let config = ConnConfig::new("127.0.0.1", port).path("/chat");
    for address in [config.clone(), config.to_string().parse().unwrap()] {
        let client = RxWsClient::connect(address, WsStr).unwrap();
        let heard = Recorder::on(client.clone());
        client.next("hello");
        assert_eq!(heard.item(), "hello");
    }
    let paths = Recorder::on(server.connections().map(|connection| connection.path().clone()));
    assert_eq!(paths.items(2), ["/chat", "/chat"]);
}

#[test]
fn config_that_names_host_and_port_serves_a_server_too() {
    let server = echo_server_with(RxWsServer::builder(ConnConfig::new("127.0.0.1", 0), WsStr));
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");
}

#[test]
fn path_defaults_to_the_root() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let port = server.local_addr().port().unwrap();
    let by_config = RxWsClient::connect(ConnConfig::new("127.0.0.1", port), WsStr).unwrap();
    by_config.next("by config");
    assert_eq!(heard.item(), TaggedData::new("/", "by config".into()));
    let by_url = RxWsClient::connect(format!("ws://127.0.0.1:{port}"), WsStr).unwrap();
    by_url.next("by URL");
    assert_eq!(heard.item(), TaggedData::new("/", "by URL".into()));
}

#[test]
fn query_reaches_the_server_and_is_no_part_of_the_tag() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (heard, connections) = (Recorder::on(server.clone()), Recorder::on(server.connections()));
    let client = connected(&server, "/chat?room=7", WsStr);
    client.next("hello");
    assert_eq!(heard.item(), TaggedData::new("/chat", "hello".into()));
    let connection = connections.item();
    assert_eq!((connection.path().as_str(), connection.query()), ("/chat", Some("room=7")));
}

#[test]
fn parts_of_the_query_are_decoded() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let _clients = ["/?name=J%C3%B6rg+B%2B&empty=&bare&name=2&bad=%FF%zz&=x", "/?", "/"]
        .map(|path| connected(&server, path, WsStr));
    let pairs = |connection: Connection<WsStr>| {
        let pairs = connection.query_pairs().map(|(name, value)| format!("{name}: {value}"));
        pairs.collect::<Vec<_>>()
    };
    let decoded = ["name: Jörg B+", "empty: ", "bare: ", "name: 2", "bad: \u{FFFD}%zz", ": x"];
    assert_eq!(connections.items(3).into_iter().map(pairs).collect::<Vec<_>>(), [&decoded[..], &[], &[]]);
}

#[test]
fn ipv6_wildcard_is_reached_over_both_stacks() {
    let server = echo_server_at("ws://[::]:0", WsStr);
    let port = server.local_addr().port().unwrap();
    for host in ["127.0.0.1", "::1"] {
        let client = RxWsClient::connect(ConnConfig::new(host, port), WsStr).unwrap();
        let heard = Recorder::on(client.clone());
        client.next("hello");
        assert_eq!(heard.item(), "hello");
    }
}

/// An address of this machine on a local link, with its interface, where there is one.
fn link_local() -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let line = table.lines().find(|line| line.starts_with("fe80"))?;
    let groups: Vec<_> = (0..8).map(|n| &line[4 * n..4 * n + 4]).collect();
    Some(format!("{}%25{}", groups.join(":"), line.split_whitespace().last()?))
}

#[test]
fn address_of_a_local_link_is_reached_by_its_zone() {
    let Some(host) = link_local() else { return };
    let server = echo_server_at(format!("ws://[{host}]:0"), WsStr);
    let address = server.local_addr();
    let Some(SocketAddr::V6(socket)) = address.as_tcp() else { panic!("{address} is no IPv6 address") };
    let by_number = format!("ws://[{}%25{}]:{}", socket.ip(), socket.scope_id(), socket.port());
    let by_name = format!("ws://[{host}]:{}", socket.port());
    let requests = Recorder::on(server.connections());
    for config in [by_name, by_number, format!("ws://{address}")]
        .map(|url| url.parse().unwrap())
        .into_iter()
        .chain([ConnConfig::try_from(address.clone()).unwrap()])
    {
        let client = RxWsClient::connect(config, WsStr).unwrap();
        let heard = Recorder::on(client.clone());
        client.next("hello");
        assert_eq!(heard.item(), "hello");
        let host = requests.item().headers()["host"].clone();
        assert_eq!(host.to_str().unwrap(), format!("[{}]:{}", socket.ip(), socket.port()));
    }
}

#[test]
fn zone_that_is_none_of_this_machine_is_an_error_that_repeats_it() {
    let error = RxWsServer::bind("ws://[fe80::1%25nowhere]:0", WsStr).unwrap_err();
    assert!(matches!(error, WsError::Bind { .. }) && error.to_string().contains("%25nowhere]"), "{error:?}");
}

#[test]
fn bad_url_is_an_error_that_says_what_to_write() {
    let server = RxWsServer::bind("http://127.0.0.1:0", WsStr).map(drop);
    let client = RxWsClient::connect("127.0.0.1:8765", WsStr).map(drop);
    let group = RxWsClientGroup::new("ws://:8765", WsStr).map(drop);
    let faults = ["its counterpart is ws://", "it does not begin with ws://", "the host is missing"];
    for (made, fault) in [server, client, group].into_iter().zip(faults) {
        let error = made.unwrap_err();
        assert!(matches!(error, WsError::InvalidUrl { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(fault) && text.contains("write it as ws://host:port/path"), "{text}");
    }
}

#[test]
fn port_in_use_is_an_error_that_names_it_and_its_holder_goes_on() {
    let server = echo_server(WsStr);
    let address = url(&server, "/");
    let error = RxWsServer::bind(&address, WsStr).unwrap_err();
    assert!(matches!(error, WsError::Bind { .. }), "{error:?}");
    let advice = format!("address in use: is another server listening on {}?", server.local_addr());
    assert!(error.to_string().contains(&advice), "{error}");
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::on(client.clone());
    client.next("still here");
    assert_eq!(heard.item(), "still here");
}

#[test]
fn header_that_is_no_http_is_an_error_when_the_endpoint_is_made() {
    let client = RxWsClient::builder("ws://127.0.0.1:1", WsStr).header("a\nb", "c").connect().map(drop);
    let group = RxWsClientGroup::builder("ws://127.0.0.1:1", WsStr).header("a", "b\nc").build().map(drop);
    for made in [client, group] {
        assert!(matches!(made, Err(WsError::InvalidHeader(_))), "{made:?}");
    }
}

#[test]
fn names_are_the_given_ones_and_those_of_children_carry_their_path() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("hub").bind().unwrap();
    let connections = Recorder::on(server.connections());
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr).name("robot").build().unwrap();
    let child = group.open("/audio").unwrap();
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("chat").connect().unwrap();
    assert_eq!((server.name(), group.name(), client.name()), ("hub", "robot", "chat"));
    assert_eq!(child.name(), "robot:/audio");
    let mut names: Vec<_> = connections.items(2).iter().map(|connection| connection.name().to_owned()).collect();
    names.iter_mut().for_each(|name| name.truncate(name.find('#').unwrap()));
    names.sort();
    assert_eq!(names, ["hub:/", "hub:/audio"]);
}

#[test]
fn names_default_to_what_the_endpoint_is() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let client = connected(&server, "/", WsStr);
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    assert_eq!((server.name(), client.name(), group.name()), ("server", "client", "group"));
}
