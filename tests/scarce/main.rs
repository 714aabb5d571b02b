//! What happens when the system has no thread to give, as under a container's limit. The limit is the process's, so these
//! tests have one to themselves.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rlimit::Resource;
use rxplus::prelude::*;
use support::{PATIENCE, Recorder, echo_server};

/// The limit is everybody's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// For as long as it lives there is no room for the stack of another thread, though for a little else.
struct NoMoreThreads {
    limits: (u64, u64),
    _alone: MutexGuard<'static, ()>,
}

impl NoMoreThreads {
    fn begin(alone: MutexGuard<'static, ()>) -> Self {
        let limits = Resource::AS.get().unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let used = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        let used: u64 = used.trim().trim_end_matches(" kB").parse().unwrap();
        Resource::AS.set(used * 1024 + (1 << 20), limits.1).unwrap();
        Self { limits, _alone: alone }
    }
}

impl Drop for NoMoreThreads {
    fn drop(&mut self) {
        let (soft, hard) = self.limits;
        Resource::AS.set(soft, hard).unwrap();
    }
}

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

// A name is looked up on a thread for blocking work, and tokio panics when it cannot have one.
#[test]
fn attempt_that_panics_has_failed_and_is_made_again() {
    let alone = alone();
    let server = echo_server(WsStr);
    let url = format!("ws://localhost:{}/", server.local_addr().port());
    let runtime = IoRuntime::new("io").unwrap();
    let builder = RxWsClient::builder(url, WsStr).conn_retry_timeout(std::time::Duration::from_millis(20));
    let scarcity = NoMoreThreads::begin(alone);
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
