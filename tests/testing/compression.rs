//! Compression on the network in memory.

use super::*;

fn text(len: usize) -> String {
    "compressible ".chars().cycle().take(len).collect()
}

/// What a client and its server tell of a talk in which the link breaks: the events of both, the echoes, and what was sent.
async fn talk(seed: u64, server_wants: bool, client_wants: bool) -> (Vec<String>, [SendStats; 2]) {
    let network = TestNetwork::seeded(seed);
    network.delay(ROBOT, SECOND / 10);
    let builder = RxWsServer::unbound(WsStr);
    let builder = if server_wants { builder.compression(Deflate::new()) } else { builder };
    let server = network.server(ROBOT, builder).unwrap();
    server.clone().log_errors().subscribe_with(server.clone());
    let builder = network.client(ROBOT, WsStr);
    let builder = if client_wants { builder.compression(Deflate::new()) } else { builder };
    let of_server = network.record(server.events());
    let client = builder.connect().unwrap();
    let (of_client, heard) = (network.record(client.events()), network.record(client.clone()));
    for round in 0..3 {
        client.next(text(2000 + round));
        client.next(text(9));
        network.advance(MINUTE).await;
        assert_eq!(client.is_compressed(), server_wants && client_wants);
        network.cut(ROBOT);
    }
    network.advance(MINUTE).await;
    assert_eq!(heard.items(), [2000, 9, 2001, 9, 2002, 9].map(text));
    let log = |name: &str, log: Vec<String>| log.into_iter().map(move |line| format!("{name} {line}")).collect();
    let logs: [Vec<_>; 3] = [
        log("server", names(of_server.take())),
        log("client", names(of_client.take())),
        log("heard", heard.take().into_iter().map(|(time, heard)| format!("{time:?} {heard:?}")).collect()),
    ];
    (logs.concat(), [server.stats().sent, client.stats().sent])
}

#[tokio::test(start_paused = true)]
async fn compression_is_agreed_on_in_memory_if_both_want_it_and_goes_both_ways() {
    for (server_wants, client_wants) in [(false, false), (false, true), (true, false), (true, true)] {
        let (_, sent) = talk(7, server_wants, client_wants).await;
        for sent in sent {
            assert_eq!(sent.written, Tally { messages: 6, len: 6003 + 27 });
            let compressed = if server_wants && client_wants { (3, 6003) } else { (0, 0) };
            assert_eq!((sent.compressed.messages, sent.compressed.len), compressed);
            assert_eq!(sent.compressed_to > 0, server_wants && client_wants);
            assert!(sent.compressed_to < 300);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn compression_changes_neither_what_happens_nor_when_and_is_the_same_each_time() {
    let (log, sent) = talk(7, true, true).await;
    assert_eq!(talk(7, true, true).await, (log.clone(), sent));
    assert_eq!(talk(7, false, false).await.0, log);
    assert_ne!(talk(8, true, true).await.0, log, "the jitter follows from the seed");
}
