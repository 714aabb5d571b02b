//! Servers on a bus that compress for some of their clients.

use super::*;

over_both! {
    message_of_the_bus_reaches_each_client_once_in_the_form_that_it_has_agreed_on,
}

fn text(len: usize) -> WsText {
    "compressible ".chars().cycle().take(len).collect::<String>().into()
}

/// A server with so many clients on `/a` that compress and so many that do not, and what those hear.
struct Site {
    server: RxWsServer<WsStr>,
    _clients: Vec<RxWsClient<WsStr>>,
    heard: Vec<Recorder<WsText>>,
}

impl Site {
    fn on(bus: &RxBus<WsStr>, compressing: usize, plain: usize) -> Self {
        let server =
            RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(bus).compression(Deflate::new()).bind().unwrap();
        let client = |wants: bool| {
            let builder = RxWsClient::builder(url(&server, "/a"), WsStr);
            let builder = if wants { builder.compression(Deflate::new()) } else { builder };
            let client = builder.connect().unwrap();
            client.wait_connected(PATIENCE).unwrap();
            assert_eq!(client.is_compressed(), wants);
            client
        };
        let clients: Vec<_> = (0..compressing + plain).map(|number| client(number < compressing)).collect();
        let heard = clients.iter().map(|client| Recorder::on(client.clone())).collect();
        Self { server, _clients: clients, heard }
    }
}

fn message_of_the_bus_reaches_each_client_once_in_the_form_that_it_has_agreed_on(joint: &Joint) {
    let buses = [(); 3].map(|()| joint.bus());
    // The first one pushes; the last one has nobody to compress for.
    let sites = [Site::on(&buses[0], 1, 2), Site::on(&buses[1], 3, 1), Site::on(&buses[2], 0, 2)];
    buses.iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    let lens = [2000, 100, 5000, 511, 512, 100_000];
    lens.iter().for_each(|&len| sites[0].server.next(TaggedData::new("/a", text(len))));
    sites[0].server.send(TaggedData::new("/a", "end")).unwrap();
    for heard in sites.iter().flat_map(|site| &site.heard) {
        let items = heard.items(lens.len() + 1);
        assert!(items.iter().zip(lens).all(|(item, len)| *item == text(len)) && items.last().unwrap() == "end");
        assert!(heard.rest().is_empty());
    }
    let all = lens.iter().sum::<usize>() as u64 + 3;
    let sent = sites.each_ref().map(|site| {
        until("all is counted", || site.server.stats().sent.written.messages == 7 * site.heard.len() as u64);
        site.server.stats().sent
    });
    sent.iter().for_each(|&sent| assert_accounted(sent));
    assert_eq!(sent.map(|sent| sent.written), [3, 4, 2].map(|clients| tally(7 * clients, all * clients)));
    // Those of 512 bytes and more.
    let long = 2000 + 5000 + 512 + 100_000;
    assert_eq!(sent.map(|sent| sent.compressed), [1, 3, 0].map(|clients| tally(4 * clients, long * clients)));
    let each = sent[0].compressed_to;
    assert!(each > 0 && each < 2000);
    assert_eq!(sent.map(|sent| sent.compressed_to), [each, 3 * each, 0]);
}
