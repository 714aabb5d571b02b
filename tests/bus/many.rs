//! Many messages, paths and publishers at once.

use std::thread;

use super::*;

over_both! { every_client_hears_its_path_once_and_in_order }

const PATHS: usize = 16;
const PUBLISHERS: usize = 4;
/// As many on each path from each publisher.
const MESSAGES: usize = 1_563 * PATHS * PUBLISHERS;

/// Publishers in one process each, as far as the bus can tell: two servers and two programs without one.
fn every_client_hears_its_path_once_and_in_order(joint: &Joint) {
    let buses = [0, 1, 2, 3].map(|_| joint.bus());
    let servers = [joint.server(&buses[0]), joint.server(&buses[1])];
    let paths: Vec<_> = (0..PATHS).map(|path| format!("/{path}")).collect();
    let clients: Vec<_> =
        servers.iter().flat_map(|server| paths.iter().map(|path| connected(server, path, WsStr))).collect();
    let heard: Vec<_> = clients.iter().map(|client| Recorder::on(client.clone())).collect();
    buses.iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    thread::scope(|scope| {
        for (publisher, bus) in buses.iter().enumerate() {
            let (server, paths) = (servers.get(publisher), &paths);
            scope.spawn(move || {
                for n in 0..MESSAGES / PUBLISHERS {
                    let item = TaggedData::new(paths[n % PATHS].as_str(), WsText::from(format!("{publisher} {n}")));
                    match server {
                        Some(server) => server.send(item).unwrap(),
                        None => bus.send(item).unwrap(),
                    }
                }
            });
        }
    });
    for (at, heard) in heard.iter().enumerate() {
        let mut next = [at % PATHS; PUBLISHERS];
        for _ in 0..MESSAGES / PATHS {
            let text = heard.item();
            let (publisher, n) = text.split_once(' ').unwrap();
            let (publisher, n): (usize, usize) = (publisher.parse().unwrap(), n.parse().unwrap());
            assert_eq!(n, next[publisher]);
            next[publisher] += PATHS;
        }
    }
    buses.iter().for_each(|bus| until("confirmation", || bus.stats().sent.queued.messages == 0));
    assert!(heard.iter().all(|heard| heard.rest().is_empty()));
}
