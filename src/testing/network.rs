//! [`TestNetwork`]: names, and the connections between them.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rxrust::observable::{CoreObservable, Observable};
use tokio::{
    io::AsyncWriteExt,
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{
    TestListener, TestStream,
    host::{Accept, Host, Reached},
    recording::{Pen, Recording},
    wire::Condition,
};
use crate::{
    ClientBuilder, ConnConfig, GroupBuilder, IoRuntime, RxWsClient, RxWsClientGroup, RxWsServer, ServerBuilder,
    WsDatatype, WsError, random::seeded, runtime::go_on_in_test,
};

/// The first bytes of something that is no HTTP.
const GARBAGE: &[u8] = b"\x00\xff garbage \r\n\r\n";

/// A network in memory. Clones are handles of the same network. See the [module](super).
#[derive(Clone)]
pub struct TestNetwork {
    hosts: Arc<Mutex<BTreeMap<String, Host>>>,
    runtime: IoRuntime,
    begun: Instant,
}

impl TestNetwork {
    /// Makes a network on the runtime that this is called in, which is the test's own: of one thread, on a paused clock
    /// (`#[tokio::test(start_paused = true)]`).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// As [`new`](Self::new). Whatever is random on the test's thread from now on, such as the jitter of a retry, follows from
    /// `seed`: the same seed gives the same log.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        seeded::seed(Some(seed));
        let runtime = Handle::current();
        go_on_in_test(&runtime);
        let runtime = IoRuntime::from_tokio(runtime);
        Self { hosts: Arc::default(), runtime, begun: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a host, which is there from the first time that it is named.
    fn at<R>(&self, url: &str, change: impl FnOnce(&mut Host) -> R) -> R {
        let name = name(&url.parse().unwrap_or_else(|error| panic!("{error}")));
        change(self.lock().entry(name).or_default())
    }

    /// The runtime that all of it runs on, for schedulers and for endpoints that are built by hand.
    #[must_use]
    pub fn runtime(&self) -> &IoRuntime {
        &self.runtime
    }

    /// Makes a server, and lets it listen at the host of `url`, in place of what listened there before.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::build`].
    pub fn server<D: WsDatatype>(&self, url: &str, builder: ServerBuilder<D>) -> Result<RxWsServer<D>, WsError> {
        let server = builder.runtime(&self.runtime).build()?;
        let serving = server.clone();
        self.listen(url, Arc::new(move |stream| serving.accept(stream)));
        Ok(server)
    }

    /// Lets the test itself be the server at the host of `url`, frame by frame.
    pub fn listener(&self, url: &str) -> TestListener {
        let (accept, listener) = TestListener::new();
        self.listen(url, accept);
        listener
    }

    fn listen(&self, url: &str, accept: Accept) {
        self.at(url, |host| host.accept = Some(accept));
    }

    /// Takes what listens at the host of `url` away: connections are refused from then on, and those that there are stay.
    pub fn silence(&self, url: &str) {
        let gone = self.at(url, |host| host.accept.take());
        // With the last handle of a server it begins to close: not under the lock.
        drop(gone);
    }

    /// Starts making a client on this network, with all its options.
    pub fn client<D: WsDatatype>(&self, url: &str, datatype: D) -> ClientBuilder<D> {
        let network = self.clone();
        let builder = RxWsClient::builder(url, datatype).runtime(&self.runtime);
        builder.connector(move |endpoint| std::future::ready(network.connect(&endpoint)))
    }

    /// Starts making a group on this network, with all its options.
    pub fn group<D: WsDatatype + Clone>(&self, url: &str, datatype: D) -> GroupBuilder<D> {
        let network = self.clone();
        let builder = RxWsClientGroup::builder(url, datatype).runtime(&self.runtime);
        builder.connector(move |endpoint| std::future::ready(network.connect(&endpoint)))
    }

    /// A connection to a host, as a client's connector makes it.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` where nothing listens, or the test has it [refuse](Self::refuse).
    pub fn connect(&self, endpoint: &ConnConfig) -> io::Result<TestStream> {
        let reached = self.lock().entry(name(endpoint)).or_default().reach();
        match reached? {
            Reached::Host(accept, client, server) => {
                accept(server);
                Ok(client)
            }
            Reached::Garbage(client, mut server) => {
                self.runtime.spawn(async move { drop(server.write_all(GARBAGE).await) });
                Ok(client)
            }
        }
    }

    /// Refuses the next `times` connections to the host of `url`: `u32::MAX` begins an outage, and 0 ends it. The connections
    /// that there are stay.
    pub fn refuse(&self, url: &str, times: u32) {
        self.at(url, |host| host.refusals = times);
    }

    /// Answers the next `times` connections to the host of `url` with something that is no HTTP, and hangs up.
    pub fn garble(&self, url: &str, times: u32) {
        self.at(url, |host| host.garbage = times);
    }

    /// Lets everything from and to the host of `url` arrive so much later.
    pub fn delay(&self, url: &str, latency: Duration) {
        self.at(url, |host| host.set_latency(latency));
    }

    /// Resets all connections to the host of `url`.
    pub fn cut(&self, url: &str) {
        self.at(url, Host::cut);
    }

    /// Holds back everything from and to the host of `url`, until it is [mended](Self::mend).
    pub fn stall(&self, url: &str) {
        self.at(url, |host| host.set_condition(Condition::Stalled));
    }

    /// Lets everything from and to the host of `url` vanish, without a word, until it is [mended](Self::mend): a cable is
    /// unplugged, or a router has forgotten the connection.
    pub fn half_open(&self, url: &str) {
        self.at(url, |host| host.set_condition(Condition::HalfOpen));
    }

    /// Lets the connections to the host of `url` carry bytes again.
    pub fn mend(&self, url: &str) {
        self.at(url, |host| host.set_condition(Condition::Sound));
    }

    /// Lets so much time pass, with everything that happens meanwhile.
    pub async fn advance(&self, time: Duration) {
        sleep(time).await;
    }

    /// How much time has passed since the network was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Writes down what an observable emits from now on, and when.
    pub fn record<C>(&self, source: C) -> Recording<C::Item<'static>>
    where
        C: Observable,
        C::Item<'static>: Send + 'static,
        C::Inner: CoreObservable<C::With<Pen<C::Item<'static>>>>,
    {
        let recording = Recording::new();
        source.subscribe_with(recording.pen(self.begun));
        recording
    }
}

impl Default for TestNetwork {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.lock().keys().cloned().collect();
        f.debug_struct("TestNetwork").field("hosts", &hosts).field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}

fn name(endpoint: &ConnConfig) -> String {
    format!("{}:{}", endpoint.host(), endpoint.port())
}
