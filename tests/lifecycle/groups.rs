//! Groups: what ends with them, what their sums say while paths come and go, and how many paths there may be.

use super::*;

/// Text that cannot be encoded if it is "unencodable".
struct Touchy;

impl WsDatatype for Touchy {
    type Item = WsText;

    fn encode(&self, path: &str, item: &WsText) -> Result<Frame, DatatypeError> {
        if item == "unencodable" { Err(DatatypeError::new("it has no encoding")) } else { WsStr.encode(path, item) }
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<WsText, DatatypeError> {
        WsStr.decode(path, frame)
    }
}

/// One of each kind of runtime, and what keeps them running.
fn each_runtime() -> (Vec<IoRuntime>, tokio::runtime::Runtime) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let foreign = IoRuntime::from_tokio(tokio.handle().clone());
    (vec![IoRuntime::new("one").unwrap(), IoRuntime::with_threads("several", 3).unwrap(), foreign], tokio)
}

// The one who tells a child's events may be another thread than the one on which the child ends.
#[test]
fn group_tells_the_last_events_of_all_its_children_before_its_own() {
    const PATHS: usize = 4;
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (runtimes, _tokio) = each_runtime();
    for runtime in runtimes.iter().flat_map(|runtime| [runtime; 30]) {
        let group = RxWsClientGroup::builder(url(&server, "/"), Touchy).runtime(runtime).build().unwrap();
        let (heard, told) = (Recorder::on(group.events()), mpsc::channel());
        let children: Vec<_> = (0..PATHS).map(|n| group.open(format!("/{n}")).unwrap()).collect();
        for child in &children {
            child.wait_connected(PATIENCE).unwrap();
            let told = told.0.clone();
            child.events().subscribe(move |event| {
                if matches!(event, ClientEvent::Unencodable { .. }) {
                    told.send(()).unwrap_or(());
                    std::thread::sleep(Duration::from_millis(1)); // a callback that takes its time
                }
            });
            child.next("unencodable");
        }
        told.1.recv_timeout(PATIENCE).unwrap();
        group.clone().complete();
        let (events, _) = heard.to_the_end();
        assert!(matches!(events.last(), Some(TaggedData { tag, data: ClientEvent::Closed(_), .. }) if tag.is_empty()));
        for child in (0..PATHS).map(|n| format!("/{n}")) {
            let last: Vec<_> = events.iter().filter(|event| event.tag == *child).rev().take(2).collect();
            assert!(matches!(last[0].data, ClientEvent::Closed(_)), "{child}: {last:?}");
            assert!(matches!(last[1].data, ClientEvent::Disconnected { .. }), "{child}: {last:?}");
        }
    }
}
