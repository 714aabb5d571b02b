//! [`BusBuilder`]: the options of a bus.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    BusAddress, ClientTls, IoRuntime, Overflow, RetryPolicy, RxBus, WsDatatype, WsError,
    bus::{
        broker::{
            address::Brokers,
            nats::{Credentials, Nats},
        },
        core::Options,
        subject_name,
        task::Settings,
    },
    outbox::OutboxBound,
};

/// The longest wait between two attempts, unless the program says otherwise.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Builds a bus with options: see [`RxBus::builder`].
#[must_use]
pub struct BusBuilder<D: WsDatatype> {
    address: Result<BusAddress, WsError>,
    datatype: D,
    options: Options,
    retry: RetryPolicy,
    credentials: Credentials,
    tls: Option<ClientTls>,
    runtime: Option<IoRuntime>,
}

impl<D: WsDatatype> BusBuilder<D> {
    pub(crate) fn new(address: Result<BusAddress, WsError>, datatype: D) -> Self {
        let outbox = OutboxBound::new(65_536, 64 * 1024 * 1024, Overflow::DropLatest);
        Self {
            address,
            datatype,
            options: Options { name: "bus".into(), prefix: "rx".into(), outbox },
            retry: RetryPolicy::exponential().max_delay(MAX_DELAY),
            credentials: Credentials::default(),
            tls: None,
            runtime: None,
        }
    }

    /// Names the bus, in logs, errors, as its thread, and to the broker. The default is `bus`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into().into();
        self
    }

    /// Sets what the subjects begin with: `/chat` is `rx.chat` by default, `prod.ws.chat` with `prod.ws`. Buses with different
    /// prefixes do not hear each other.
    ///
    /// It is made of letters, digits, `-` and `_`, with dots between, and has at most 64 bytes; others make
    /// [`connect`](Self::connect) fail.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.options.prefix = prefix.into();
        self
    }

    /// Shows this token to the broker. It is never logged or printed.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credentials.token = Some(token.into());
        self
    }

    /// Shows this user and password to the broker, instead of those in the address, which are taken as they stand there. They are
    /// never logged or printed.
    pub fn user_and_password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials.user = Some((user.into(), password.into()));
        self
    }

    /// Sets whom to trust, and which certificate to show, on `tls://` addresses, and makes `nats://` addresses use TLS. The
    /// default is to trust whom the system trusts.
    pub fn tls(mut self, tls: impl Into<ClientTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Sets when and how often to try again after the link was lost or could not be made. The default is
    /// [`RetryPolicy::exponential`] with a longest delay of 2 s: a broker has few buses, which wait for each other. A broker that
    /// refuses the credentials counts as a refusal.
    ///
    /// What was pushed while there was no broker is published once the others have had time for an attempt as well: after
    /// the longest delay that this policy has at that point, at most 2 s, and 0.25 s; if links break meanwhile, for no more
    /// than 10 s of them. So give all buses the same policy. See [the guide](crate::guide::bus).
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets how much may wait for the broker or for its confirmation, and what happens when that is full. The default is 65,536
    /// messages or 64 MiB; then the newest is refused. With `Disconnect` the bus ends with an error.
    ///
    /// `max_len` counts the bytes of payload. An empty outbox takes one message of any length.
    ///
    /// # Panics
    ///
    /// If `max_messages` is zero.
    pub fn outbox(mut self, max_messages: usize, max_len: usize, overflow: Overflow) -> Self {
        assert!(max_messages > 0, "an outbox must hold at least one message");
        self.options.outbox = OutboxBound::new(max_messages, max_len, overflow);
        self
    }

    /// Runs on the threads of `runtime` instead of its own thread: that of the server saves a change of threads per message.
    pub fn runtime(mut self, runtime: &IoRuntime) -> Self {
        self.runtime = Some(runtime.clone());
        self
    }
}

impl<T: Clone + Send + 'static, D: WsDatatype<Item = T, Outgoing = T>> BusBuilder<D> {
    /// Makes the bus, which connects in the background.
    ///
    /// # Errors
    ///
    /// As [`RxBus::connect`], and when an option cannot be used.
    pub fn connect(self) -> Result<RxBus<D>, WsError> {
        let BusAddress(brokers) = self.address?;
        if !subject_name::is_prefix(&self.options.prefix) {
            let reason = "use letters, digits, - and _, with dots between, and at most 64 bytes".into();
            return Err(WsError::InvalidBus { what: "the prefix", value: self.options.prefix, reason });
        }
        let runtime = match self.runtime {
            Some(runtime) => runtime.check(&self.options.name).map(|()| runtime)?,
            None => IoRuntime::new(&format!("rxplus-{}", self.options.name))?,
        };
        let (options, retry) = (self.options, self.retry);
        Ok(match brokers {
            Brokers::Local(connector) => RxBus::start(self.datatype, options, &runtime, Settings { connector, retry }),
            Brokers::Nats(servers) => {
                let connector = Nats::new(servers, Arc::clone(&options.name), self.credentials, self.tls)?;
                RxBus::start(self.datatype, options, &runtime, Settings { connector, retry })
            }
        })
    }
}

/// Without the credentials.
impl<D: WsDatatype> fmt::Debug for BusBuilder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.as_ref().ok();
        f.debug_struct("BusBuilder")
            .field("address", &address)
            .field("prefix", &self.options.prefix)
            .finish_non_exhaustive()
    }
}
