//! Rule 13 where some listeners compress, some do not, and some leave.

use crate::{hostile::OFFER, peer::Peer, *};

/// So long that the system takes a few hundred for a peer that does not read, and no more.
const LEN: usize = 100_000;

/// The numbers of the texts up to the last one, all of which are compressed or plain.
fn numbers(mut peer: Peer, last: usize, compressed: bool) -> Vec<usize> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let (text, is_compressed) = peer.text().unwrap();
        assert_eq!(is_compressed, compressed);
        numbers.push(number_of(&text));
    }
    numbers
}

#[test]
fn sums_are_exact_where_some_compress_and_others_do_not_and_messages_are_dropped_and_listeners_leave() {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).compression(Deflate::new().level(1));
    let server = builder.outbox(8, 1 << 30, Overflow::DropOldest).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut joined = Vec::new();
    let mut join = |offer| {
        let peer = Peer::connect(server.local_addr(), "/", offer);
        let connection: Connection<WsStr> = connections.item();
        joined.push(connection.clone());
        (peer, connection)
    };
    let offers = [(OFFER, true), ("x-none", false), (OFFER, true), ("x-none", false)];
    let stay: Vec<_> = offers.iter().map(|(offer, _)| join(offer)).collect();
    let mut leave: Vec<_> = offers.iter().map(|(offer, _)| join(offer)).collect();
    let (mut pushed, mut late) = (0, Vec::new());
    while stay.iter().any(|(_, connection)| connection.stats().sent.dropped.overflow.messages < 20) {
        assert!(pushed < 5000, "something is dropped at last");
        server.next(TaggedData::new("/", digits(pushed, LEN)));
        pushed += 1;
        match pushed {
            // They have read nothing, or the first one.
            30 => drop(leave.pop()),
            50 => assert_eq!(leave.pop().and_then(|(mut peer, _)| peer.text()).unwrap().0, digits(0, LEN)),
            70 => leave.clear(),
            90 => late = offers.iter().map(|(offer, _)| join(offer)).collect(),
            _ => {}
        }
    }
    server.next(TaggedData::new("/", digits(pushed, LEN)));
    let all = (pushed + 1) as u64;
    for ((peer, connection), (_, is_compressed)) in stay.into_iter().chain(late).zip(offers.iter().cycle()) {
        let numbers = numbers(peer, pushed, *is_compressed);
        until("all is written", || connection.stats().sent.queued == tally(0, 0));
        let (sent, heard) = (connection.stats().sent, numbers.len() as u64);
        assert!(numbers.is_sorted_by(|earlier, later| earlier < later));
        assert_eq!(sent.accepted.messages, all - if numbers[0] == 0 { 0 } else { 90 });
        assert_eq!(sent.written, tally(heard, heard * LEN as u64));
        assert_eq!(sent.compressed, if *is_compressed { sent.written } else { tally(0, 0) });
        assert_eq!(sent.compressed_to < sent.compressed.len, *is_compressed);
    }
    until("all have gone", || server.connection_count() == 0);
    let sums = joined.iter().fold(SendStats::default(), |mut sums, connection| {
        let sent = connection.stats().sent;
        assert_accounted(sent);
        assert_eq!(sent.queued, tally(0, 0));
        for (sum, part) in [
            (&mut sums.accepted, sent.accepted),
            (&mut sums.written, sent.written),
            (&mut sums.compressed, sent.compressed),
            (&mut sums.dropped.overflow, sent.dropped.total()),
        ] {
            add(sum, part);
        }
        sums.compressed_to += sent.compressed_to;
        sums
    });
    let sent = server.stats().sent;
    assert_accounted(sent);
    assert_eq!((sent.accepted, sent.written), (sums.accepted, sums.written));
    assert_eq!((sent.compressed, sent.compressed_to), (sums.compressed, sums.compressed_to));
    assert_eq!(sent.dropped.total(), sums.dropped.overflow);
}
