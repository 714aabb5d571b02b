//! [`Connector`]: a way to a server that the program has, instead of TCP.

use std::{fmt, io, pin::Pin, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    ConnConfig,
    runtime::{UserValue, callback, guard::isolated},
    transport::raw::{Given, Raw},
};

type Connecting = Pin<Box<dyn Future<Output = io::Result<Given>> + Send>>;

/// Makes the stream below TLS, for each attempt to connect.
#[derive(Clone)]
pub(crate) struct Connector(Arc<dyn Fn(ConnConfig) -> Connecting + Send + Sync>);

impl Connector {
    pub(crate) fn new<F, R, S>(connect: F) -> Self
    where
        F: Fn(ConnConfig) -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connect = UserValue::new(connect);
        Self(Arc::new(move |endpoint| {
            let connecting = connect(endpoint);
            Box::pin(async { connecting.await.map(Given::new) })
        }))
    }

    /// Runs the program's code in isolation. On the runtime of the client, to which the stream moves.
    pub(super) async fn connect(&self, endpoint: &ConnConfig) -> io::Result<Raw> {
        let panicked = |panic| io::Error::other(format!("the connector panicked: {panic}"));
        let connecting = callback::attempt("a connector", || (self.0)(endpoint.clone())).map_err(panicked)?;
        isolated("a connector", UserValue::new(connecting)).await.map_err(panicked)??.into_raw()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
