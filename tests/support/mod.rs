//! What the tests over sockets share: peers, and somebody who writes down what is heard.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod foreign;
pub(crate) mod proxy;

use std::{
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use rxplus::prelude::*;

/// Only fails a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a subject emitted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard<T> {
    Item(T),
    Error(String),
    Complete,
}

impl<T> Heard<T> {
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }
}

/// Writes down what it hears, for the test's own thread.
pub(crate) struct Recorder<T>(Receiver<Heard<T>>);

#[derive(Clone)]
pub(crate) struct Pen<T>(mpsc::Sender<Heard<T>>);

impl<T, E: std::fmt::Display> Observer<T, E> for Pen<T> {
    fn next(&mut self, item: T) {
        // The test may be over.
        let _ = self.0.send(Heard::Item(item));
    }

    fn error(self, error: E) {
        let _ = self.0.send(Heard::Error(error.to_string()));
    }

    fn complete(self) {
        let _ = self.0.send(Heard::Complete);
    }

    fn is_closed(&self) -> bool {
        false
    }
}

impl<T: Send + 'static> Recorder<T> {
    /// Subscribes to any observable of rxplus's; the subscription lasts as long as its source.
    pub(crate) fn on<C>(source: C) -> Self
    where
        C: Observable,
        C::Inner: CoreObservable<C::With<Pen<T>>>,
    {
        let (pen, heard) = mpsc::channel();
        source.subscribe_with(Pen(pen));
        Self(heard)
    }

    /// Waits for whatever comes next.
    pub(crate) fn hear(&self) -> Heard<T> {
        self.0.recv_timeout(PATIENCE).expect("something is heard in time")
    }

    /// Waits for the next item.
    pub(crate) fn item(&self) -> T {
        match self.hear() {
            Heard::Item(item) => item,
            Heard::Error(error) => panic!("an error instead of an item: {error}"),
            Heard::Complete => panic!("completion instead of an item"),
        }
    }

    /// Waits for the first item that `wanted` finds something in, and returns that.
    pub(crate) fn find<R>(&self, mut wanted: impl FnMut(T) -> Option<R>) -> R {
        loop {
            if let Some(found) = wanted(self.item()) {
                return found;
            }
        }
    }

    /// The next `count` items.
    pub(crate) fn items(&self, count: usize) -> Vec<T> {
        (0..count).map(|_| self.item()).collect()
    }

    /// The items up to the one that is `last`.
    pub(crate) fn items_until(&self, last: &str) -> Vec<T>
    where
        T: PartialEq<str>,
    {
        let mut items = Vec::new();
        self.note_until(&mut items, |item| item == last);
        items
    }

    /// Notes the items up to the first that is `wanted`.
    pub(crate) fn note_until(&self, noted: &mut Vec<T>, wanted: impl Fn(&T) -> bool) {
        loop {
            noted.push(self.item());
            if noted.last().is_some_and(&wanted) {
                return;
            }
        }
    }

    /// Everything up to the terminal event, and that.
    pub(crate) fn to_the_end(&self) -> (Vec<T>, Heard<T>) {
        let mut items = Vec::new();
        loop {
            match self.hear() {
                Heard::Item(item) => items.push(item),
                end => return (items, end),
            }
        }
    }

    /// What has come and was not waited for.
    pub(crate) fn rest(&self) -> Vec<Heard<T>> {
        self.0.try_iter().collect()
    }
}

/// Checks `condition` until it holds. For what has no event to wait for, such as the threads of the process.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// As [`until`], and then waits until the thread of `component` is done with what it was doing: counts change in the middle
/// of that.
pub(crate) fn until_settled<C>(what: &str, component: &C, condition: impl Fn(&C) -> bool)
where
    C: Context<Scheduler = IoScheduler>,
{
    until(what, || condition(component));
    let (done, settled) = mpsc::channel();
    component.scheduler().schedule(async move { done.send(()).expect("the test waits") }, None);
    settled.recv_timeout(PATIENCE).expect("the thread comes to rest");
}

/// A server that sends back what it receives, on a port of its own.
pub(crate) fn echo_server<D: WsDatatype<Item: Into<D::Outgoing>>>(datatype: D) -> RxWsServer<D> {
    echo_server_at("ws://127.0.0.1:0", datatype)
}

/// A server that sends back what it receives.
pub(crate) fn echo_server_at<D: WsDatatype<Item: Into<D::Outgoing>>>(
    address: impl AsRef<str>,
    datatype: D,
) -> RxWsServer<D> {
    echo_server_with(RxWsServer::builder(address.as_ref(), datatype))
}

/// A server with options of its own that sends back what it receives.
pub(crate) fn echo_server_with<D: WsDatatype<Item: Into<D::Outgoing>>>(options: ServerBuilder<D>) -> RxWsServer<D> {
    let server = options.bind().expect("the address is free");
    server.connections().subscribe(|connection| {
        connection.clone().subscribe_with(connection);
    });
    server
}

/// The address of a path of `server`.
pub(crate) fn url<D: WsDatatype>(server: &RxWsServer<D>, path: &str) -> String {
    format!("ws://{}{path}", server.local_addr())
}

/// A client that is connected.
pub(crate) fn connected<S, D>(server: &RxWsServer<S>, path: &str, datatype: D) -> RxWsClient<D>
where
    S: WsDatatype,
    D: WsDatatype,
{
    let client = RxWsClient::connect(url(server, path), datatype).expect("the address is one");
    client.wait_connected(PATIENCE).expect("the server is there");
    client
}
