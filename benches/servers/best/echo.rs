//! Sends back what comes.

use std::rc::Rc;

use tokio::net::TcpStream;

use super::{Shared, open, output::Output, protocol::Next};

pub(super) async fn serve(socket: TcpStream, shared: Rc<Shared>) {
    let Some((mut incoming, outgoing, _)) = open(socket).await else { return };
    loop {
        let next = incoming.read(&shared, |text, output: &mut Output| output.append_text(text)).await;
        outgoing.write(&shared.output).await;
        if next == Next::End {
            return;
        }
    }
}
