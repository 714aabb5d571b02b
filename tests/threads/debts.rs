//! What a task owes has an end: nobody waits long for what its callbacks have caused, even where that goes on for good.

use std::{
    any::Any,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    task::{self, Wake, Waker},
};

use rxrust::scheduler::{Scheduler, TaskHandle};
use tungstenite::Message;

use super::*;
use crate::support::until;
use crate::turns::{Backlog, peer_of, runtimes, stuck_subject};

/// Shorter than one wait of a second for each of many, and longer than anything else takes.
const MUCH_SOONER: Duration = Duration::from_secs(10);

/// An observer goes on pushing until this is dropped.
struct Going(Arc<AtomicBool>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// A subject whose observer pushes what it hears into another one, whose observer pushes it back. Ends with the second part.
fn endless_pair() -> (Numbers, Going) {
    let (there, back, is_going) = (Numbers::new(), Numbers::new(), Arc::new(AtomicBool::new(true)));
    let (on, returned) = (is_going.clone(), there.clone());
    Io::new(back.clone()).subscribe(move |n| {
        if on.load(SeqCst) {
            returned.next(n);
        }
    });
    Io::new(there.clone()).merge_into(&back);
    (there, Going(is_going))
}

/// Sends each message once the one before has come back.
fn check_echo(server: &RxWsServer<WsStr>) {
    let mut peer = peer_of(server);
    peer.get_ref().set_read_timeout(Some(LONG_PATIENCE)).unwrap();
    for n in 0..20 {
        peer.send(Message::text(n.to_string())).unwrap();
        let mut answers = std::iter::from_fn(|| Some(peer.read().unwrap())).filter(|answer| !answer.is_ping());
        assert_eq!(answers.next(), Some(Message::text(n.to_string())));
    }
}

#[test]
fn server_whose_events_begin_something_endless_serves_and_ends() {
    for runtime in runtimes() {
        let (endless, _going) = endless_pair();
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        server.events().take(1).subscribe(move |_| endless.next(0));
        let echo = server.clone();
        server.clone().log_errors().subscribe(move |message| echo.next(message));
        check_echo(&server);
        check_echo(&server);
        server.clone().complete();
        server.wait_closed(LONG_PATIENCE).unwrap();
    }
}

#[test]
fn connection_that_pushes_into_what_never_rests_is_served() {
    const ONCE: usize = 0;
    const AGAIN: usize = 1;
    const ALL: usize = 2;
    for runtime in runtimes() {
        let (endless, is_going) = (Numbers::new(), Arc::new(AtomicBool::new(true)));
        let going = Going(is_going.clone());
        let (into, (begin, begun)) = (endless.clone(), mpsc::channel());
        Io::new(endless.clone()).subscribe(move |n| {
            match n {
                // More go round than a task may be ahead.
                ALL => (0..5_000).for_each(|_| into.next(AGAIN)),
                AGAIN if is_going.load(SeqCst) => into.next(AGAIN),
                _ => return,
            }
            begin.send(()).unwrap_or(());
        });
        let all = endless.clone();
        let emitting = thread::spawn(move || all.next(ALL));
        hear(&begun);
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        let echo = server.clone();
        server.clone().log_errors().subscribe(move |message| {
            endless.next(ONCE);
            echo.next(message);
        });
        check_echo(&server);
        drop(going);
        emitting.join().unwrap();
    }
}

#[test]
fn silent_peers_are_turned_away_at_once_beside_a_callback_that_blocks() {
    for runtime in runtimes() {
        let (subject, let_go, emitting) = stuck_subject();
        let limits = Limits::server().handshakes(1);
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).limits(limits).bind().unwrap();
        server.events().subscribe(move |_| subject.next(1));
        let began = Instant::now();
        let silent = TcpStream::connect(server.local_addr()).unwrap();
        for _ in 0..30 {
            let mut answer = [0; 12];
            let mut peer = TcpStream::connect(server.local_addr()).unwrap();
            peer.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 503");
        }
        assert!(began.elapsed() < MUCH_SOONER);
        drop((silent, let_go));
        emitting.join().unwrap();
    }
}

#[test]
fn loop_that_is_asked_not_to_wait_does_not_wait_for_another_thread() {
    let (stuck, let_go, emitting) = stuck_subject();
    let (run_loop, source) = (RunLoop::new(), Numbers::new());
    // Each of its items is for the subject that is stuck, and more of them wait than a turn delivers.
    let first = Numbers::new();
    Io::new(first.clone()).merge_into(&stuck);
    Io::new(source.clone()).deliver_local(&run_loop).subscribe(move |n| (0..2_000).for_each(|m| first.next(n + m + 1)));
    source.next(0);
    let began = Instant::now();
    (0..10).for_each(|_| run_loop.run_pending());
    let took = began.elapsed();
    drop(let_go);
    emitting.join().unwrap();
    // Once it waited for a second each time.
    assert!(took < Duration::from_millis(900), "it took {took:?}");
}

/// How many threads of this process have names that begin so.
#[cfg(target_os = "linux")]
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.starts_with(name)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn threads_of_an_endpoint_that_ended_in_debt_end() {
    for _ in 0..3 {
        let (subject, let_go, emitting) = stuck_subject();
        let runtime = IoRuntime::with_threads("debtor", 2).unwrap();
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        let (of_event, of_connection) = (subject.clone(), subject);
        server.events().subscribe(move |_| of_event.next(1));
        server.connections().subscribe(move |connection| {
            let into = of_connection.clone();
            connection.log_errors().subscribe(move |_| into.next(1));
        });
        let mut peer = peer_of(&server);
        peer.send(Message::text("")).unwrap();
        drop((server, runtime));
        while peer.read().is_ok() {}
        let_go.send(()).unwrap();
        emitting.join().unwrap();
    }
    // Once they went round for ever, since what had ended never paid.
    until("the end of their threads", || threads_named("debtor") == 0);
}

/// A scheduler of the program's own, which polls a task once, with a waker that panics, and gives it away.
#[derive(Clone)]
struct PolledOnce(Sender<Box<dyn Any + Send>>);

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("of the waker");
    }
}

impl<F: Future<Output = ()> + Send + 'static> Scheduler<F> for PolledOnce {
    fn schedule(&self, task: F, _delay: Option<Duration>) -> TaskHandle {
        let mut task = Box::pin(task);
        let _pending = task.as_mut().poll(&mut task::Context::from_waker(&Waker::from(Arc::new(Panicking))));
        self.0.send(Box::new(task)).unwrap();
        TaskHandle::finished()
    }
}

#[test]
fn subject_goes_on_though_the_waker_of_a_task_panics() {
    let (subject, let_go, emitting) = stuck_subject();
    let (give, given) = mpsc::channel();
    let pushed = subject.clone();
    Io::of(1).deliver_on(&PolledOnce(give)).subscribe(move |n| pushed.next(n));
    let _task = hear(&given);
    let (say, heard) = mpsc::channel();
    Io::new(subject.clone()).subscribe(move |n| say.send(n).unwrap_or(()));
    drop(let_go);
    emitting.join().unwrap();
    subject.next(5_000);
    while hear(&heard) != 5_000 {}
}

/// How many connections are made and ended, one after the other.
const ENDED: usize = 40;

/// How many items the callback of each pushes.
const ITEMS: usize = 500;

/// Checks that what a callback pushes does not pile up, on each kind of runtime. `rush` makes the callback be called
/// [`ENDED`] times, as fast as it can, and returns what must live meanwhile.
fn check_that_nothing_piles_up<T>(rush: impl Fn(&IoRuntime, Box<dyn FnMut() + Send>) -> T) {
    let two = IoRuntime::with_threads("two", 2).unwrap();
    for runtime in runtimes().into_iter().chain([two]) {
        let (backlog, subject) = Backlog::of_slow_subject(Duration::from_micros(20));
        let (pushing, mut calls) = (backlog.clone(), 0..ENDED);
        let push = move || _ = calls.next().map(|_| pushing.push(&subject, ITEMS));
        let _going = rush(&runtime, Box::new(push));
        backlog.check(ENDED * ITEMS);
    }
}

/// Peers come and go.
fn rush_to(server: RxWsServer<WsStr>) -> RxWsServer<WsStr> {
    for _ in 0..ENDED {
        let mut peer = peer_of(&server);
        peer.close(None).unwrap();
        while peer.read().is_ok() {}
    }
    server
}

#[test]
fn what_the_events_of_connections_that_end_cause_does_not_pile_up() {
    check_that_nothing_piles_up(|runtime, mut push| {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(runtime).bind().unwrap();
        server.events().filter(|event| matches!(event, ServerEvent::Disconnected { .. })).subscribe(move |_| push());
        rush_to(server)
    });
}

#[test]
fn what_the_ends_of_connections_cause_does_not_pile_up() {
    check_that_nothing_piles_up(|runtime, push| {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(runtime).bind().unwrap();
        let push = Arc::new(Mutex::new(push));
        server.connections().subscribe(move |connection| {
            let push = push.clone();
            connection.log_errors().on_complete(move || (push.lock().unwrap())()).subscribe(|_| {});
        });
        rush_to(server)
    });
}

/// A client whose server refuses it, again and again.
fn refused_client(runtime: &IoRuntime) -> RxWsClient<WsStr> {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let retry = RetryPolicy::fixed(Duration::from_millis(1));
    RxWsClient::builder(format!("ws://{free}"), WsStr).runtime(runtime).retry(retry).connect().unwrap()
}

#[test]
fn what_the_events_of_a_client_without_a_server_cause_does_not_pile_up() {
    check_that_nothing_piles_up(|runtime, mut push| {
        let client = refused_client(runtime);
        client.events().subscribe(move |_| push());
        client
    });
}

#[test]
fn what_the_states_of_a_client_without_a_server_cause_does_not_pile_up() {
    check_that_nothing_piles_up(|runtime, mut push| {
        let client = refused_client(runtime);
        client.state().subscribe(move |_| push());
        client
    });
}

/// A subject whose observers take half a minute for what `push` pushes, which says when it has.
fn half_a_minute() -> (impl Fn() + Send + 'static, mpsc::Receiver<()>) {
    let (subject, (say, pushed)) = (Numbers::new(), mpsc::channel());
    Io::new(subject.clone()).subscribe(|_| thread::sleep(Duration::from_millis(1)));
    let push = move || {
        (0..30_000).for_each(|n| subject.next(n));
        say.send(()).unwrap_or(());
    };
    (push, pushed)
}

#[test]
fn server_ends_in_time_though_the_end_of_a_connection_causes_much() {
    for runtime in runtimes() {
        let (push, pushed) = half_a_minute();
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        server.events().filter(|event| matches!(event, ServerEvent::Disconnected { .. })).subscribe(move |_| push());
        peer_of(&server).close(None).unwrap();
        hear(&pushed);
        server.clone().complete();
        server.wait_closed(Duration::from_secs(15)).unwrap();
    }
}

#[test]
fn client_ends_in_time_though_its_events_cause_much() {
    for runtime in runtimes() {
        let (push, pushed) = half_a_minute();
        let client = refused_client(&runtime);
        client.events().take(1).subscribe(move |_| push());
        hear(&pushed);
        client.next("queued");
        client.clone().complete();
        client.wait_closed(Duration::from_secs(15)).unwrap();
    }
}
