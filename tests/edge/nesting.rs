//! Messages that nest as deep as they may, of a type that takes much stack. Too little of it ends the process.

use rxplus::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    alone,
    raw::{Raw, Side::Client, frame},
    support::Recorder,
};

/// As many levels as are allowed.
const LEVELS: usize = 64;

const STACK_LEN: usize = 16 << 20;

const BINARY: u8 = 0x82;

type Matrix = [f64; 32];

/// A node of a scene: 4 KiB, beside what is below it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Node {
    matrices: [[Matrix; 4]; 4],
    child: Option<Box<Node>>,
    label: Vec<u8>,
}

impl Node {
    fn levels(&self) -> usize {
        let (mut node, mut levels) = (self, 1);
        while let Some(child) = &node.child {
            (node, levels) = (child, levels + 1);
        }
        levels
    }
}

/// With bytes in the innermost node, since those are looked after on the way.
fn msgpack(levels: usize) -> Vec<u8> {
    [&b"\x81\xa5child".repeat(levels - 1)[..], b"\x81\xa5label\xc4\x01x"].concat()
}

/// A server on the default runtime and one on each kind of shared one.
fn servers<D: WsDatatype + Clone>(datatype: D) -> Vec<RxWsServer<D>> {
    let builder = || RxWsServer::builder("ws://127.0.0.1:0", datatype.clone());
    let own =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_stack_size(STACK_LEN).enable_all().build();
    let shared = [
        IoRuntime::new("one").unwrap(),
        IoRuntime::with_threads("two", 2).unwrap(),
        IoRuntime::from_tokio(own.as_ref().unwrap().handle().clone()),
    ];
    // Until the end of the process, as a program's own runtime is.
    std::mem::forget(own);
    let shared = shared.iter().map(|runtime| builder().runtime(runtime).bind().unwrap());
    shared.chain([builder().bind().unwrap()]).collect()
}

fn deepest_message_is_decoded<D: WsDatatype<Item = Node> + Clone>(
    datatype: D,
    first: u8,
    message: &[u8],
    deeper: &[u8],
) {
    let _alone = alone();
    for server in servers(datatype) {
        let (heard, events) = (Recorder::on(server.clone()), Recorder::on(server.events()));
        let mut peer = Raw::upgraded(server.local_addr());
        peer.send(&frame(Client, first, message));
        assert_eq!(heard.item().data.levels(), LEVELS);
        peer.send(&frame(Client, first, deeper));
        let refusal = events.find(|event| match event {
            ServerEvent::Undecodable { error, .. } => Some(error.to_string()),
            _ => None,
        });
        assert!(refusal.contains("nests deeper than 64 levels"), "{refusal}");
    }
}

#[test]
fn message_pack_of_the_deepest_nesting_fits_the_stack() {
    deepest_message_is_decoded(WsObject::<Node>::new(), BINARY, &msgpack(LEVELS), &msgpack(LEVELS + 1));
}

#[cfg(feature = "json")]
#[test]
fn json_of_the_deepest_nesting_fits_the_stack() {
    let json = |levels| [r#"{"child":"#.repeat(levels - 1), "{}".into(), "}".repeat(levels - 1)].concat().into_bytes();
    deepest_message_is_decoded(WsJson::<Node>::new(), crate::raw::TEXT, &json(LEVELS), &json(LEVELS + 1));
}

#[test]
fn payload_of_the_deepest_nesting_is_decoded_on_an_event_loop() {
    let _alone = alone();
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsByPath::new(|_| WsKind::Object)).unwrap();
    let worker = EventLoopScheduler::new("worker");
    let levels = server.clone().deliver_on(&worker).map(|td| td.data.decode::<Node>().unwrap().levels());
    let heard = Recorder::on(levels);
    let mut peer = Raw::upgraded(server.local_addr());
    peer.send(&frame(Client, BINARY, &msgpack(LEVELS)));
    assert_eq!(heard.item(), LEVELS);
}
