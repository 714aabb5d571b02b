//! [`Resume`]: the options of the resumable mode.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use crate::{Tally, UpgradeRequest, runtime::UserValue};

/// Names the owner of a session.
type Owner = Arc<dyn Fn(&UpgradeRequest, Option<&(dyn Any + Send + Sync)>) -> String + Send + Sync>;

/// The resumable mode: sessions that outlive their link.
///
/// With a plain link, messages that are under way when it breaks are lost, and nobody knows which. In this mode both ends
/// count what arrives, keep what they have written until the other end has acknowledged it, and go on after a break where
/// they were: complete, or with a [gap](crate::SessionEvent::Gap) of a known size, and in order. Both ends ask for it with
/// `.resumable(Resume::new())`; with any other peer the messages go as plain frames, and
/// [an event](crate::SessionEvent::Plain) says so.
///
/// ```
/// use rxplus::prelude::*;
///
/// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).resumable(Resume::new()).bind()?;
/// let address = format!("ws://{}/orders", server.local_addr());
/// let client = RxWsClient::builder(address.as_str(), WsStr).resumable(Resume::new()).connect()?;
/// client.events().subscribe(|event| match event {
///     ClientEvent::Session(SessionEvent::Resumed { missed: 0, .. }) => println!("complete"),
///     ClientEvent::Session(SessionEvent::Gap { missed }) => println!("the server dropped {missed} here"),
///     _ => {}
/// });
/// # Ok::<(), WsError>(())
/// ```
#[must_use]
#[derive(Clone)]
pub struct Resume {
    pub(crate) window: Tally,
    pub(crate) park: Duration,
    pub(crate) owner: Option<Owner>,
    pub(crate) resends: bool,
}

impl Resume {
    /// The defaults: 4,096 messages or 4 MiB may be written and not acknowledged; a server waits for 2 minutes for a client.
    pub fn new() -> Self {
        let window = Tally { messages: 4096, len: 4 * 1024 * 1024 };
        Self { window, park: Duration::from_secs(120), owner: None, resends: false }
    }

    /// Sets how much may be written and not acknowledged, for each connection. The default is 4,096 messages or 4 MiB. Beyond
    /// that messages wait in the outbox, whose own bound and policy hold. An empty window takes one message of any length.
    ///
    /// # Panics
    ///
    /// If `max_messages` is zero.
    pub fn window(mut self, max_messages: usize, max_len: usize) -> Self {
        assert!(max_messages > 0, "a window must hold at least one message");
        self.window = Tally { messages: max_messages as u64, len: max_len as u64 };
        self
    }

    /// Sets for how long a server keeps the session of a client without a link. The default is 2 minutes. Meanwhile what is
    /// pushed for the client waits in the outbox of its connection. It has no effect on a client.
    pub fn park(mut self, time: Duration) -> Self {
        self.park = time;
        self
    }

    /// Names the owner of a session by its request and the value that `authorize` returned, such as the name of a user. Only
    /// the owner who began a session gets it back; without this it is whoever has its token, which only the client knows,
    /// and asks for the same path with the same `Origin`. Called on the server's I/O thread; if it panics, the request is
    /// refused. It has no effect on a client.
    pub fn owner(
        mut self,
        name: impl Fn(&UpgradeRequest, Option<&(dyn Any + Send + Sync)>) -> String + Send + Sync + 'static,
    ) -> Self {
        let name = UserValue::new(name);
        self.owner = Some(Arc::new(move |request, grant| name(request, grant)));
        self
    }

    /// Sends messages again of which nobody knows whether they have arrived, when a server has lost its session: they may then
    /// arrive twice. The default is to give them up, and to [count](crate::SessionEvent::Lost) them. It has no effect on a
    /// server.
    pub fn resend_unconfirmed(mut self) -> Self {
        self.resends = true;
        self
    }
}

impl Default for Resume {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume")
            .field("window", &self.window)
            .field("park", &self.park)
            .field("resends", &self.resends)
            .finish_non_exhaustive()
    }
}
