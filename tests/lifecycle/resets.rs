//! Numbered messages over a link that is reset every 500.

use super::*;

const MESSAGES: u64 = 20_000;
const RESET_EVERY: u64 = 500;
/// So that pongs confirm some of what is written on each link.
const PING_INTERVAL: Duration = Duration::from_millis(4);

/// Pushes the numbers, resets the link while they are on their way, and goes on when it is up again; some are pushed
/// while it is down.
fn push_through_resets(proxy: &Proxy, push: impl Fn(u64), mut until_connected: impl FnMut()) {
    until_connected();
    for number in 0..MESSAGES {
        push(number);
        match number % RESET_EVERY {
            400 => proxy.end(End::Reset),
            499 => until_connected(),
            _ => {}
        }
    }
}

fn eager_client(proxy: &Proxy) -> RxWsClient<WsStr> {
    let at_once = Duration::from_millis(1);
    let client = RxWsClient::builder(proxy.url("/"), WsStr).conn_retry_timeout(at_once).ping_interval(PING_INTERVAL);
    client.connect().unwrap()
}

#[test]
fn nothing_is_lost_untold_to_a_server_over_a_link_reset_every_500_messages() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let proxy = Proxy::to(server.local_addr());
    let client = eager_client(&proxy);
    let events = Recorder::on(client.events());
    let mut told = Vec::new();
    push_through_resets(
        &proxy,
        |number| client.send(number.to_string()).unwrap(),
        || events.note_until(&mut told, |event| matches!(event, ClientEvent::Connected { .. })),
    );
    client.clone().complete();
    let report = client.wait_closed(PATIENCE).unwrap();
    server.complete();

    let (delivered, end) = heard.to_the_end();
    let delivered: Vec<u64> = delivered.iter().map(|tagged| tagged.data.parse().unwrap()).collect();
    let (dropped, unconfirmed) = announced_by_client(told.iter().chain(&events.to_the_end().0));
    let sent = client.stats().sent;
    let lost = MESSAGES - delivered.len() as u64;
    println!(
        "to the server: {MESSAGES} pushed, {} delivered, {lost} lost, {unconfirmed} announced as unconfirmed; {} links",
        delivered.len(),
        proxy.links()
    );
    assert_eq!(end, Heard::Complete);
    assert_ascending(&delivered);
    assert_accounted(sent);
    assert_eq!((sent.accepted.messages, sent.written.messages), (MESSAGES, MESSAGES));
    assert_eq!((report, dropped), (CloseReport::default(), Tally::default()));
    assert!(lost <= unconfirmed);
    assert!(proxy.links() as u64 > MESSAGES / RESET_EVERY);
}

#[test]
fn nothing_is_lost_untold_to_a_client_over_a_link_reset_every_500_messages() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(PING_INTERVAL).bind().unwrap();
    let proxy = Proxy::to(server.local_addr());
    let events = Recorder::on(server.events());
    let mut told = Vec::new();
    let client = eager_client(&proxy);
    let heard = Recorder::on(client.clone());
    push_through_resets(
        &proxy,
        |number| server.send(TaggedData::new("/", number.to_string())).unwrap(),
        || events.note_until(&mut told, |event| matches!(event, ServerEvent::Connected { .. })),
    );
    // Closes when the server does, after it has heard everything.
    let closed = Recorder::on(client.events());
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    closed.find(|event| matches!(event, ClientEvent::Disconnected { code: 1001, .. }).then_some(()));
    client.complete();

    let (delivered, end) = heard.to_the_end();
    let delivered: Vec<u64> = delivered.iter().map(|text| text.parse().unwrap()).collect();
    let (dropped, unconfirmed) = announced_by_server(told.iter().chain(&events.to_the_end().0));
    let stats = server.stats();
    let lost = MESSAGES - delivered.len() as u64;
    println!(
        "to the client: {MESSAGES} pushed, {} delivered, {lost} lost; announced: {unconfirmed} unconfirmed, {} dropped, {} \
         unrouted; {} links",
        delivered.len(),
        dropped.messages,
        stats.unrouted,
        proxy.links()
    );
    assert_eq!(end, Heard::Complete);
    assert_ascending(&delivered);
    assert_accounted(stats.sent);
    assert_eq!((stats.pushed, stats.sent.queued), (MESSAGES, Tally::default()));
    assert_eq!(stats.sent.dropped.total(), dropped);
    assert!(lost <= unconfirmed + dropped.messages + stats.unrouted);
    assert!(delivered.len() as u64 <= stats.sent.written.messages);
    assert!(proxy.links() as u64 > MESSAGES / RESET_EVERY);
}
