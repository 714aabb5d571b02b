//! `cargo run --example gui_loop`
//!
//! A server beside a loop that `main` drives, as a GUI would: the model is an `Rc<RefCell<..>>` that no other thread may
//! touch, the server's messages come to it by `deliver_local`, and a clock ticks into the same model. Stops by itself once
//! everything expected has been shown, and fails if it has not been within ten seconds.

use std::{
    cell::RefCell,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use rxplus::prelude::*;

const FRAME: Duration = Duration::from_millis(16);
const PATIENCE: Duration = Duration::from_secs(10);

/// The contents of the window.
#[derive(Default)]
struct Model {
    messages: Vec<String>,
    ticks: usize,
}

impl Model {
    fn is_complete(&self) -> bool {
        self.messages == ["[/chat] hello", "[/chat] are you there?", "[/log] started"] && self.ticks >= 3
    }
}

fn main() -> Result<ExitCode, WsError> {
    let run_loop = RunLoop::new();
    let model = Rc::new(RefCell::new(Model::default()));

    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    let shown = model.clone();
    server.clone().log_errors().deliver_local(&run_loop).subscribe(move |td| {
        shown.borrow_mut().messages.push(format!("[{}] {}", td.tag, td.data));
    });
    let shown = model.clone();
    let clock = Io::interval(Duration::from_millis(50)).deliver_local(&run_loop);
    let ticking = clock.subscribe(move |_| shown.borrow_mut().ticks += 1);

    let visitor = visit(&server)?;
    let deadline = Instant::now() + PATIENCE;
    while !model.borrow().is_complete() && Instant::now() < deadline {
        run_loop.run_for(FRAME); // a toolkit with a loop of its own calls `run_pending` once per frame instead
    }
    ticking.unsubscribe();
    visitor.complete();
    server.clone().complete();
    run_loop.run_until(server.closed());

    let model = model.borrow();
    println!("{} ticks, and {:#?}", model.ticks, model.messages);
    Ok(if model.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sends the messages for the window: two on one path, and when those have arrived, one on another.
fn visit(server: &RxWsServer<WsStr>) -> Result<RxWsClientGroup<WsStr>, WsError> {
    let group = RxWsClientGroup::new(format!("ws://{}", server.local_addr()), WsStr)?;
    group.next(TaggedData::new("/chat", "hello"));
    group.next(TaggedData::new("/chat", "are you there?"));
    let log = group.clone();
    let second = server.clone().log_errors().untag().filter(|text| *text == "are you there?");
    second.take(1).subscribe(move |_| log.next(TaggedData::new("/log", "started")));
    Ok(group)
}
