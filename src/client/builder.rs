//! [`ClientBuilder`]: the options of a client.

use std::sync::Arc;

use crate::{
    ConnConfig, IoScheduler, RxWsClient, WsDatatype, WsError,
    client::{dialing::Dialing, options::client_options},
    endpoint::options::{Options, common_options},
    runtime::UserValue,
};

/// Builds a client with options: see [`RxWsClient::builder`].
#[must_use]
#[derive(Debug)]
pub struct ClientBuilder<D: WsDatatype> {
    endpoint: Result<ConnConfig, WsError>,
    datatype: UserValue<Arc<D>>,
    options: Options,
    dialing: Dialing<D>,
}

impl<D: WsDatatype> ClientBuilder<D> {
    pub(crate) fn new<A>(address: A, datatype: D) -> Self
    where
        A: TryInto<ConnConfig>,
        A::Error: Into<WsError>,
    {
        Self {
            endpoint: address.try_into().map_err(Into::into),
            datatype: UserValue::new(Arc::new(datatype)),
            options: Options::client("client"),
            dialing: Dialing::default(),
        }
    }

    common_options!(
        outbox: "and what happens when that is full. The default is 65,536 messages or 64 MiB; then the newest is refused.",
        name: "client",
        keys: dialing.key_of
    );
    client_options!();

    /// Makes the client, which connects in the background.
    ///
    /// # Errors
    ///
    /// As [`RxWsClient::connect`], and when a header or a subprotocol cannot be sent.
    pub fn connect(self) -> Result<RxWsClient<D>, WsError> {
        let endpoint = self.endpoint?;
        let runtime = self.options.runtime()?;
        let home = IoScheduler::on(&runtime);
        let client = RxWsClient::new(endpoint, self.datatype, self.options, self.dialing, home)?;
        client.start(&runtime);
        Ok(client)
    }
}
