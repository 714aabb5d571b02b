//! Messages there and back.

mod support;

use rxplus::prelude::*;
use support::{Recorder, connected, echo_server};

#[test]
fn text_comes_back_from_an_echo_server() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");
}
