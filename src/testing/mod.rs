//! A network in memory, on the paused clock of a test (feature `test`).
//!
//! ```text
//! TestNetwork -> TestHost: its listener, its faults -> Wire of each connection <- TestStream at both ends
//! client -> connector -> TestStream | Wire | TestStream -> RxWsServer::accept, or a TestPeer that the test plays by hand
//! ```
//!
//! Everything runs on the one thread of the test, on tokio's paused clock: when nothing is left to do, time goes on to the next
//! timer at once. So an outage of an hour takes a moment, and the same test gives the same log each time, also in the order of what
//! several endpoints do at the same instant. Servers, clients and groups are the real ones; the network in between is not.
//!
//! ```
//! use rxplus::{prelude::*, testing::TestNetwork};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
//! // In a test: #[tokio::test(start_paused = true)]
//! let network = TestNetwork::new();
//! let server = network.server("ws://robot", RxWsServer::unbound(WsStr))?;
//! server.clone().subscribe_with(server.clone());
//!
//! network.refuse("ws://robot", 2);
//! let retry = RetryPolicy::fixed(Duration::from_secs(60)).jitter(false);
//! let client = network.client("ws://robot/x", WsStr).retry(retry).connect()?;
//! let heard = network.record(client.clone());
//! client.next("hello");
//!
//! network.advance(Duration::from_secs(3600)).await;
//! assert_eq!(heard.log(), ["120s next \"hello\""]);
//! # Ok::<(), WsError>(())
//! # }).unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```

mod host;
mod network;
mod peer;
mod recording;
mod stream;
mod wire;

pub use network::TestNetwork;
pub use peer::{TestListener, TestPeer};
pub use recording::{Noted, Recording};
pub use stream::TestStream;
