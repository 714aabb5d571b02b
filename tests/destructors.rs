//! Values of the program whose destructors panic, and wakers that do: functions given to builders, futures, errors, messages. They
//! harm nobody, also when several of them go together: a second panic while the first one unwinds would end the process.

#[path = "support/mod.rs"]
mod support;

use std::{
    error::Error,
    fmt,
    future::{pending, ready},
    hash::{Hash, Hasher},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use rxplus::prelude::*;
use support::*;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

const AT_ONCE: Duration = Duration::from_millis(1);

/// An error that panics in drop.
#[derive(Debug)]
struct Cause;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cause")
    }
}

impl Error for Cause {}

impl Drop for Cause {
    fn drop(&mut self) {
        panic!("a bug of an error's");
    }
}

/// Texts that panic in drop if they are bombs.
#[derive(Clone)]
struct Text(WsText);

impl Drop for Text {
    fn drop(&mut self) {
        assert_ne!(self.0, "bomb");
    }
}

/// Texts of which some are bombs, and some cannot be had for a [`Cause`].
struct Faulty(#[expect(dead_code, reason = "it has a destructor")] Option<Bomb>);

fn unless_bad(text: WsText) -> Result<WsText, DatatypeError> {
    if text == "bad" { Err(DatatypeError::with_source("bad", Cause)) } else { Ok(text) }
}

impl WsDatatype for Faulty {
    type Item = Text;
    type Outgoing = WsText;

    fn encode(&self, path: &str, item: &WsText) -> Result<Frame, DatatypeError> {
        WsStr.encode(path, &unless_bad(item.clone())?)
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<Text, DatatypeError> {
        WsStr.decode(path, frame).and_then(unless_bad).map(Text)
    }
}

/// A client's end of a stream in memory, which breaks with a [`Cause`] when it is told to.
struct Breaking(DuplexStream, Arc<AtomicBool>);

impl Breaking {
    fn stream(&mut self) -> io::Result<Pin<&mut DuplexStream>> {
        if self.1.load(SeqCst) { Err(io::Error::other(Cause)) } else { Ok(Pin::new(&mut self.0)) }
    }
}

impl AsyncRead for Breaking {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, space)
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

/// A function's capture.
fn bomb() -> impl Fn() {
    let bomb = Bomb;
    move || hold(&bomb)
}

/// A future that is never ready, and panics in drop.
async fn endless<T>() -> T {
    let _bomb = Bomb;
    pending().await
}

/// A server with functions that panic in drop, and a client of it.
fn with_explosive_functions(builder: ServerBuilder<WsStr>) -> (RxWsServer<WsStr>, RxWsClient<WsStr>) {
    let [authorize, owner, member, key] = [(); 4].map(|()| bomb());
    let resume = Resume::new().owner(move |_, _| {
        owner();
        "ann".into()
    });
    let builder = builder.resumable(resume).member(move |_| {
        member();
        Some("ann".to_owned())
    });
    let builder = builder.conflate(move |_, _| {
        key();
        Some(0)
    });
    let builder = builder.authorize(move |_| {
        authorize();
        ready(Ok::<_, Refuse>(()))
    });
    let server = builder.bind().unwrap();
    let client = connected(&server, "/", WsStr);
    (server, client)
}

#[test]
fn functions_of_a_server_that_panic_in_drop_reach_nobody() {
    let (runtimes, tokio) = each_runtime(2);
    let builder = || RxWsServer::builder("ws://127.0.0.1:0", WsStr);
    let own = [builder(), builder().threads(2)].into_iter();
    for builder in own.chain(runtimes.iter().map(|runtime| builder().runtime(runtime))) {
        let (server, client) = with_explosive_functions(builder);
        client.complete();
        server.clone().complete();
        server.wait_closed(PATIENCE).unwrap();
    }
    let (server, _client) = with_explosive_functions(builder().runtime(&runtimes[2]));
    tokio.shutdown_timeout(PATIENCE);
    server.wait_closed(PATIENCE).unwrap();
}

#[test]
fn functions_of_a_client_that_panic_in_drop_reach_nobody() {
    let server = echo_server(WsStr);
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let [request, on_close, greeting, key, number] = [(); 5].map(|()| bomb());
        let builder = RxWsClient::builder(url(&server, "/"), Faulty(Some(Bomb))).runtime(runtime);
        let builder = builder.request(move |asked| {
            request();
            asked
        });
        let builder = builder.on_close(move |_, _| {
            on_close();
            OnClose::Retry
        });
        let builder = builder.greeting(move |_| {
            greeting();
            None::<&str>
        });
        let builder = builder.conflate(move |_, _| {
            key();
            Some(0)
        });
        let client = builder.connect().unwrap();
        client.wait_connected(PATIENCE).unwrap();
        let calls = client.calls(move |_| {
            number();
            None
        });
        client.clone().complete();
        client.wait_closed(PATIENCE).unwrap();
        drop(calls);
    }
}

#[test]
fn future_of_a_connector_that_is_given_up_and_panics_in_drop_ends_no_client() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let (begin, begun) = mpsc::channel();
        let connector = move |_| {
            begin.send(()).unwrap();
            endless::<io::Result<DuplexStream>>()
        };
        let builder = RxWsClient::builder("ws://robot/", WsStr).runtime(runtime).retry(RetryPolicy::fixed(AT_ONCE));
        let client = builder.connect_timeout(Duration::from_millis(50)).connector(connector).connect().unwrap();
        let heard = Recorder::on(client.clone());
        // The second one comes when the first one has timed out.
        (0..2).for_each(|_| begun.recv_timeout(PATIENCE).unwrap());
        client.clone().complete();
        client.wait_closed(PATIENCE).unwrap();
        assert!(heard.to_the_end().1.is_complete());
    }
}

/// A client whose connector fails three times with a [`Cause`], and whose streams then break.
struct Fragile {
    client: RxWsClient<WsStr>,
    server: Arc<Mutex<RxWsServer<WsStr>>>,
    breaks: Arc<AtomicBool>,
    attempts: Arc<AtomicUsize>,
}

impl Fragile {
    fn new(runtime: &IoRuntime, is_resumable: bool) -> Self {
        let server = Arc::new(Mutex::new(Self::server(is_resumable)));
        let (breaks, attempts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (accepting, broken, counted) = (server.clone(), breaks.clone(), attempts.clone());
        let builder = RxWsClient::builder("ws://robot/", WsStr).runtime(runtime).retry(RetryPolicy::fixed(AT_ONCE));
        let builder = if is_resumable { builder.resumable(Resume::new()) } else { builder };
        let builder = builder.connector(move |_| {
            let (near, far) = duplex(1024);
            accepting.lock().unwrap().accept(far);
            let fails = counted.fetch_add(1, SeqCst) < 3;
            ready(if fails { Err(io::Error::other(Cause)) } else { Ok(Breaking(near, broken.clone())) })
        });
        Self { client: builder.connect().unwrap(), server, breaks, attempts }
    }

    fn server(is_resumable: bool) -> RxWsServer<WsStr> {
        let builder = RxWsServer::unbound(WsStr);
        let builder = if is_resumable { builder.resumable(Resume::new()) } else { builder };
        builder.build().unwrap()
    }

    /// Breaks a link while messages go both ways. The next one may go to `another` server.
    fn break_link(&self, another: Option<RxWsServer<WsStr>>) {
        self.client.wait_connected(PATIENCE).unwrap();
        let before = self.attempts.load(SeqCst);
        let server = self.server.lock().unwrap().clone();
        if let Some(another) = another {
            *self.server.lock().unwrap() = another;
        }
        self.breaks.store(true, SeqCst);
        self.client.next("x");
        server.next(TaggedData::new("/", "y"));
        until("another attempt", || self.attempts.load(SeqCst) > before);
        self.breaks.store(false, SeqCst);
    }
}

#[test]
fn errors_of_the_program_that_panic_in_drop_cost_one_connection() {
    let (runtimes, _tokio) = each_runtime(2);
    for (runtime, is_resumable) in runtimes.iter().flat_map(|runtime| [(runtime, false), (runtime, true)]) {
        let fragile = Fragile::new(runtime, is_resumable);
        let client = fragile.client.clone();
        // Without a subscriber, the events would keep the errors.
        client.events().subscribe(|_| {});
        let heard = Recorder::on(client.clone());
        (0..3).for_each(|_| fragile.break_link(None));
        client.wait_connected(PATIENCE).unwrap();
        client.clone().complete();
        client.wait_closed(PATIENCE).unwrap();
        assert!(heard.to_the_end().1.is_complete());
    }
}

/// Its last link broke with an error that panics in drop.
#[test]
fn loss_of_a_session_is_told_whatever_ended_its_last_link() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let fragile = Fragile::new(runtime, true);
        let (tell, lost) = mpsc::channel();
        fragile.client.events().subscribe(move |event| {
            if matches!(event, ClientEvent::Session(SessionEvent::Lost { .. })) {
                tell.send(()).unwrap();
            }
        });
        fragile.break_link(Some(Fragile::server(true)));
        lost.recv_timeout(PATIENCE).unwrap();
        fragile.client.wait_connected(PATIENCE).unwrap();
    }
}

#[test]
fn error_that_ends_a_client_and_panics_in_drop_does_not_reach_who_drops_it() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let builder = RxWsClient::builder("ws://robot/", WsStr).runtime(runtime);
        let builder = builder.retry(RetryPolicy::fixed(AT_ONCE).max_retries(0));
        let builder = builder.connector(|_| ready(Err::<DuplexStream, _>(io::Error::other(Cause))));
        let client = builder.connect().unwrap();
        // Without a subscriber, the events would keep the error.
        client.events().subscribe(|_| {});
        let calls = client.calls(|_| Some(0));
        client.wait_closed(PATIENCE).unwrap();
        drop((client, calls));
    }
}

#[test]
fn causes_that_panic_in_drop_do_not_reach_who_pushes() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", Faulty(None));
    let heard = Recorder::on(client.clone().map(|text| text.0.clone()));
    drop(client.send("bad"));
    client.next("bad");
    server.next(TaggedData::new("/", "bad"));
    server.next(TaggedData::new("/", "good"));
    assert_eq!(heard.item(), "good");
    let subject = SerializedSubject::<(), Arc<Cause>>::new();
    subject.clone().error(Arc::new(Cause));
    drop(subject);
}

/// The observers of a topic and of calls are rxplus's own: nobody would hear of anything after them.
#[test]
fn message_that_panics_in_drop_ends_no_topic_and_no_calls() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", Faulty(None));
    let topic = client.multiplex(|| "+a", || "-a", |text| text.0 == "a");
    let heard = Recorder::on(topic.map(|text| text.0.clone()));
    let calls = client.calls(|text| text.0.parse().ok()).timeout(PATIENCE);
    server.next(TaggedData::new("/", "bomb"));
    server.next(TaggedData::new("/", "a"));
    assert_eq!(heard.item(), "a");
    calls.call(|number| number.to_string()).wait().unwrap();
}

/// Operators that hand items to another thread, with functions of the program and items that wait there.
mod operators {
    use super::*;

    type Items = SerializedSubject<(usize, Arc<Bomb>)>;

    /// Whether items still reach observers there.
    fn lives(worker: &EventLoopScheduler) -> bool {
        let (numbers, (sender, heard)) = (SerializedSubject::<usize>::new(), mpsc::channel());
        Io::new(numbers.clone()).deliver_on(worker).subscribe(move |n| _ = sender.send(n));
        numbers.next(1);
        heard.recv_timeout(PATIENCE) == Ok(1)
    }

    #[test]
    fn items_that_wait_for_a_slow_observer_and_its_functions_go_together() {
        let (worker, items, (go, wait)) = (EventLoopScheduler::new("worker"), Items::new(), mpsc::channel::<()>());
        let (begun, begins) = mpsc::channel();
        let bombs = [Bomb, Bomb, Bomb];
        let [in_key, in_skipped, in_observer] = bombs;
        let key_of = move |item: &(usize, Arc<Bomb>)| {
            hold(&in_key);
            item.0
        };
        let conflated = Io::new(items.clone()).conflate_by_counting(key_of, &worker, move |_| hold(&in_skipped));
        let subscription = conflated.subscribe(move |item| {
            hold(&in_observer);
            std::mem::forget(item);
            begun.send(()).unwrap();
            _ = wait.recv();
        });
        (0..4).for_each(|n| items.next((n, Arc::new(Bomb))));
        begins.recv_timeout(PATIENCE).unwrap();
        subscription.unsubscribe();
        drop(go);
        assert!(lives(&worker));
    }

    /// A key that panics in drop; the last one also where it is hashed.
    #[derive(PartialEq, Eq)]
    struct Key(usize);

    const LAST: usize = 3;

    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            assert!(self.0 != LAST, "a bug of a hash");
            self.0.hash(state);
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            panic!("a bug of a key");
        }
    }

    #[test]
    fn keys_and_items_of_conflate_by_panic_together_in_the_pipeline_alone() {
        let (worker, items, (go, wait)) = (EventLoopScheduler::new("worker"), Items::new(), mpsc::channel::<()>());
        let (beside, heard) = mpsc::channel();
        let conflated = Io::new(items.clone()).conflate_by(|item| Key(item.0), &worker);
        let subscription = conflated.subscribe(move |item| {
            std::mem::forget(item);
            _ = wait.recv();
        });
        Io::new(items.clone()).subscribe(move |item| beside.send(item).unwrap());
        // The second of a key takes the place of the first, and both keys go.
        for n in [0, 1, 1, 2, 2, LAST, 4] {
            items.next((n, Arc::new(Bomb)));
        }
        subscription.unsubscribe();
        drop(go);
        assert!(lives(&worker));
        heard.try_iter().take(7).for_each(std::mem::forget);
        items.next((5, Arc::new(Bomb)));
        std::mem::forget(heard.recv_timeout(PATIENCE).unwrap());
    }

    #[test]
    fn runtime_that_ends_before_a_delivery_drops_it_in_peace() {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let worker = IoScheduler::on(&IoRuntime::from_tokio(tokio.handle().clone()));
        let (items, (in_lost, in_observer)) = (Items::new(), (Bomb, Bomb));
        let on_lost = move |_| hold(&in_lost);
        let delivered = Io::new(items.clone()).deliver_on_bounded(&worker, 4, Lossy::DropOldest, on_lost);
        delivered.subscribe(move |_| hold(&in_observer));
        tokio.shutdown_timeout(PATIENCE);
        items.next((1, Arc::new(Bomb)));
    }
}

#[cfg(feature = "mount")]
mod mounted {
    use http::Request;
    use rxplus::Upgrade;

    use super::*;

    /// A request to open a connection, given to `server`, whose waker panics.
    fn asked(server: &RxWsServer<WsStr>) -> Pin<Box<impl Future + use<>>> {
        let headers = [
            ("host", "h"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let request = headers.into_iter().fold(Request::get("/"), |request, (name, value)| request.header(name, value));
        let (server, request) = (server.clone(), request.body(()).unwrap());
        poll_with_waker_that_panics(async move { server.upgrade(request, Upgrade::new()).await })
    }

    #[test]
    fn waker_that_panics_at_its_answer_costs_its_request_alone() {
        let (runtimes, _tokio) = each_runtime(2);
        for runtime in &runtimes {
            let authorize = |_| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, Refuse>(())
            };
            let server = RxWsServer::unbound(WsStr).runtime(runtime).authorize(authorize).build().unwrap();
            let asked = [(); 3].map(|()| asked(&server));
            // Events of the same kind may be told together.
            until("three refusals", || server.stats().rejected.total() == 3);
            drop(asked);
            server.clone().complete();
            server.wait_closed(PATIENCE).unwrap();
        }
    }

    /// The server's own task drops those that have not had their turn.
    #[test]
    fn wakers_that_panic_as_a_server_ends_do_not_keep_it_from_that() {
        let runtime = IoRuntime::new("stalled").unwrap();
        let server = RxWsServer::unbound(WsStr).runtime(&runtime).build().unwrap();
        let heard = Recorder::on(server.clone());
        let held = stall(&runtime);
        let asked = [(); 9].map(|()| asked(&server));
        server.clone().complete();
        drop(held);
        server.wait_closed(PATIENCE).unwrap();
        assert!(heard.to_the_end().1.is_complete());
        drop(asked);
    }
}
