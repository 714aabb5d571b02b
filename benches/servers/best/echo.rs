//! Sends back what comes.

use std::rc::Rc;

use tokio::net::TcpStream;

use super::{Shared, frame::append_text, incoming::Next, open};

pub(super) async fn serve(socket: TcpStream, shared: Rc<Shared>) {
    let Some((mut incoming, outgoing, _)) = open(socket, &shared).await else { return };
    loop {
        let next = incoming.read(&shared, |text, output| append_text(output, text.as_bytes())).await;
        outgoing.send(&shared.output.borrow());
        outgoing.flush().await;
        if next == Next::End {
            return;
        }
    }
}
