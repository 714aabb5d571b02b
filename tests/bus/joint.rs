//! What joins the buses of a test.

use super::*;

pub(crate) enum Joint {
    Local(LocalBroker),
    Nats(NatsServer),
}

impl Joint {
    /// The options of a bus that shares a subject with the others of the test.
    pub(crate) fn builder<T, D>(&self, datatype: D) -> BusBuilder<D>
    where
        T: Clone + Send + 'static,
        D: WsDatatype<Item = T, Outgoing = T>,
    {
        let retry = RetryPolicy::fixed(Duration::from_millis(50));
        let builder = match self {
            Self::Local(broker) => RxBus::builder(broker, datatype),
            Self::Nats(server) => RxBus::builder(server.url(), datatype),
        };
        builder.retry(retry)
    }

    pub(crate) fn bus(&self) -> RxBus<WsStr> {
        self.builder(WsStr).connect().expect("a bus can be made")
    }

    /// A server on `bus`.
    pub(crate) fn server(&self, bus: &RxBus<WsStr>) -> RxWsServer<WsStr> {
        RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(bus).bind().expect("the address is free")
    }
}

/// Makes a test of each function that takes a [`Joint`]: one in this process, and one over nats-server.
macro_rules! over_both {
    ($($name:ident),+ $(,)?) => {
        mod in_this_process {
            use super::*;
            $(
                #[test]
                fn $name() {
                    super::$name(&Joint::Local(LocalBroker::new()));
                }
            )+
        }

        mod over_nats {
            use super::*;
            $(
                #[test]
                #[ignore = "needs nats-server"]
                fn $name() {
                    super::$name(&Joint::Nats(NatsServer::start("")));
                }
            )+
        }
    };
}
pub(crate) use over_both;
