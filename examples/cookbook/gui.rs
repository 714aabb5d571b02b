//! `cargo run --example cookbook_gui`
//!
//! The window of a chat: a loop that this thread runs, with a model that no other thread may touch. It shows what is said and
//! whether there is a connection, sixty times a second.

use std::{cell::RefCell, rc::Rc, time::Instant};

use rxplus::prelude::*;

const FRAME: Duration = Duration::from_millis(16);

#[derive(Default)]
struct Window {
    is_online: bool,
    lines: Vec<String>,
}

fn window(chat: &RxWsClient<WsStr>, ui: &RunLoop) -> Rc<RefCell<Window>> {
    let window = Rc::new(RefCell::new(Window::default())); // neither `Send` nor locked: all callbacks run in this loop
    let shown = window.clone();
    chat.state().deliver_local(ui).subscribe(move |state| {
        shown.borrow_mut().is_online = state == ConnectionState::Connected;
    });
    let shown = window.clone();
    chat.clone().deliver_local(ui).log_errors().subscribe(move |text| shown.borrow_mut().lines.push(text.to_string()));
    window
}

/// A try of it, against a server that repeats everything.
fn main() -> Result<(), WsError> {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    server.clone().subscribe_with(server.clone());

    let chat = RxWsClient::connect(server.local_addr(), WsStr)?;
    let ui = RunLoop::new();
    let window = window(&chat, &ui);
    chat.next("hello"); // a key was pressed
    let began = Instant::now();
    while window.borrow().lines.is_empty() && began.elapsed() < Duration::from_secs(10) {
        ui.run_for(FRAME); // a toolkit with a loop of its own calls `ui.run_pending()` in each frame
    }
    println!("online: {}, {:?}", window.borrow().is_online, window.borrow().lines);
    let is_shown = window.borrow().is_online && window.borrow().lines == ["hello"];

    chat.clone().complete();
    ui.run_until(chat.closed());
    server.clone().complete();
    ui.run_until(server.closed());
    if is_shown { Ok(()) } else { Err(WsError::application("the window does not show what was said")) }
}
