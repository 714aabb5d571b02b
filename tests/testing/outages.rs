//! Long outages, in a moment.

use std::time::Instant;

use super::*;

/// What 100 clients tell of an outage of an hour, and how they come back.
async fn outage(seed: u64) -> Vec<String> {
    let network = TestNetwork::seeded(seed);
    let server = echo_on(&network);
    let client = |n: usize| network.client(&format!("{ROBOT}/{n}"), WsStr).connect().unwrap();
    let clients: Vec<_> = (0..100).map(client).collect();
    let recordings: Vec<_> = clients.iter().map(|client| network.record(client.events())).collect();
    network.advance(MINUTE).await;
    assert_eq!(server.connection_count(), 100);
    network.refuse(ROBOT, u32::MAX);
    network.cut(ROBOT);
    network.advance(HOUR).await;
    network.refuse(ROBOT, 0);
    network.advance(MINUTE).await;
    assert_eq!(server.connection_count(), 100);
    recordings.iter().flat_map(|recording| names(recording.take())).collect()
}

#[tokio::test(start_paused = true)]
async fn hour_with_100_clients_is_the_same_each_time() {
    let begun = Instant::now();
    let first = outage(7).await;
    let took = begun.elapsed();
    assert_eq!(outage(7).await, first);
    assert_ne!(outage(8).await, first, "the jitter follows from the seed");
    println!("{} events of an hour in {took:?}", first.len());
    assert!(first.len() > 100 * 60, "they try at least twice a minute");
}
