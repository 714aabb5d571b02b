//! Servers that send back what they receive, and clients of a server.

use rxplus::prelude::*;

use super::PATIENCE;

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
    echoing(options.bind().expect("the address is free"))
}

/// Makes a server send back what it receives.
pub(crate) fn echoing<D: WsDatatype<Item: Into<D::Outgoing>>>(server: RxWsServer<D>) -> RxWsServer<D> {
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
