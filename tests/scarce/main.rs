//! What happens when the system has no thread to give, as under a container's limit. The limit is the process's, so this
//! has one to itself.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use rlimit::Resource;
use rxplus::prelude::*;
use support::{PATIENCE, Recorder, echo_server, until};

/// For as long as it lives there is no room for the stack of another thread, though for a little else.
struct NoMoreThreads {
    limits: (u64, u64),
    hogs: Option<Hogs>,
}

impl NoMoreThreads {
    fn begin() -> Self {
        Self::but_for(1 << 20)
    }

    /// There is room for the stacks of some, in `len` bytes.
    fn but_for(len: u64) -> Self {
        let limits = Resource::AS.get().unwrap();
        let hogs = Hogs::begin();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let used = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        let used: u64 = used.trim().trim_end_matches(" kB").parse().unwrap();
        Resource::AS.set(used * 1024 + len, limits.1).unwrap();
        Self { limits, hogs: Some(hogs) }
    }
}

impl Drop for NoMoreThreads {
    fn drop(&mut self) {
        let (soft, hard) = self.limits;
        Resource::AS.set(soft, hard).unwrap();
        self.hogs.take().into_iter().for_each(Hogs::end);
    }
}

/// Threads that have the stacks of those which have ended: the C library keeps 40 MiB of them for others.
struct Hogs {
    hold: mpsc::Sender<()>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Hogs {
    fn begin() -> Self {
        let ((hold, held), (tell, begun)) = (mpsc::channel::<()>(), mpsc::channel());
        let held = Arc::new(Mutex::new(held));
        let hog = |_| {
            let (held, tell) = (held.clone(), tell.clone());
            let wait = move || {
                tell.send(()).unwrap();
                _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
            };
            thread::Builder::new().stack_size(16 << 20).spawn(wait).unwrap()
        };
        let threads: Vec<_> = (0..8).map(hog).collect();
        // What a thread allocates when it begins is allocated now.
        threads.iter().for_each(|_| begun.recv_timeout(PATIENCE).unwrap());
        Self { hold, threads }
    }

    fn end(self) {
        drop(self.hold);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

// One test, since a test has a thread of its own, which could not begin beside another one.
#[test]
fn what_needs_a_thread_that_the_system_refuses_is_an_error_and_no_panic() {
    runtime_whose_threads_are_refused_is_an_error();
    runtime_that_gets_some_of_its_threads_is_an_error_and_leaves_none();
    // Last, for the threads of others that end in it leave their stacks behind.
    attempt_that_panics_has_failed_and_is_made_again();
}

// A name is looked up on a thread for blocking work, and tokio panics when it cannot have one.
fn attempt_that_panics_has_failed_and_is_made_again() {
    let server = echo_server(WsStr);
    let url = format!("ws://localhost:{}/", server.local_addr().port().unwrap());
    let runtime = IoRuntime::new("io").unwrap();
    let builder = RxWsClient::builder(url, WsStr).conn_retry_timeout(std::time::Duration::from_millis(20));
    let scarcity = NoMoreThreads::begin();
    let client = builder.runtime(&runtime).connect().unwrap();
    let events = Recorder::on(client.events());
    let error = events.find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    });
    drop(scarcity);
    let said = error.to_string();
    assert!(said.contains("an attempt to connect to ws://localhost") && said.contains("refuse threads"), "{said}");
    client.wait_connected(PATIENCE).unwrap();
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");
}

fn runtime_whose_threads_are_refused_is_an_error() {
    let _scarcity = NoMoreThreads::begin();
    for runtime in [IoRuntime::new("refused"), IoRuntime::with_threads("refused", 3)] {
        let error = runtime.map(drop).unwrap_err();
        assert!(matches!(error, WsError::Runtime(_)), "{error:?}");
    }
    let client = RxWsClient::connect("ws://127.0.0.1:1", WsStr).map(drop);
    assert!(matches!(client, Err(WsError::Runtime(_))), "{client:?}");
}

// The stacks of so many threads that there is room for some of them.
fn runtime_that_gets_some_of_its_threads_is_an_error_and_leaves_none() {
    for megabytes in [20, 40, 60] {
        let scarcity = NoMoreThreads::but_for(megabytes << 20);
        let runtime = IoRuntime::with_threads("a few", 4).map(drop);
        drop(scarcity);
        assert!(matches!(runtime, Err(WsError::Runtime(_))), "{runtime:?}");
        until("all of its threads have ended", || threads_named("a few") == 0);
    }
}

fn threads_named(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim() == name).count()
}
