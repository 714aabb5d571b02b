//! Sends to all listeners what a speaker says: each batch is encoded once, and written straight to each socket.

use std::{cell::RefCell, rc::Rc};

use tokio::net::TcpStream;

use super::{Shared, incoming::Incoming, open, outgoing::Outgoing, output::Output, protocol::Next};
use crate::competitor::SPEAKER;

pub(super) type Listeners = RefCell<Vec<Rc<Outgoing>>>;

pub(super) async fn serve(socket: TcpStream, shared: Rc<Shared>, listeners: Rc<Listeners>) {
    let Some((incoming, outgoing, path)) = open(socket).await else { return };
    if path == SPEAKER {
        return speak(incoming, &shared, &listeners).await;
    }
    let outgoing = Rc::new(outgoing);
    listeners.borrow_mut().push(outgoing.clone());
    tokio::select! {
        () = listen(incoming, &shared, &outgoing) => {}
        () = outgoing.write_unsent() => {}
    }
    listeners.borrow_mut().retain(|listener| !Rc::ptr_eq(listener, &outgoing));
}

async fn speak(mut incoming: Incoming, shared: &Shared, listeners: &Listeners) {
    while incoming.read(shared, |text, output: &mut Output| output.append_text(text)).await == Next::Read {
        let frames = shared.output.borrow();
        listeners.borrow().iter().for_each(|listener| listener.send(&frames));
    }
}

/// A listener says nothing, but may ask by a ping or leave.
pub(super) async fn listen(mut incoming: Incoming, shared: &Shared, outgoing: &Outgoing) {
    loop {
        let next = incoming.read(shared, |_, _| {}).await;
        outgoing.send(&shared.output.borrow());
        if next == Next::End {
            return;
        }
    }
}
