//! Rule 16: in which order a client tells of what happens to it.

use super::*;

/// What a client emits, on whichever of its observables.
#[derive(Debug, PartialEq)]
enum Told {
    State(ConnectionState),
    Event(&'static str),
    Item(WsText),
    EndOfStates,
    EndOfEvents,
    End,
}

fn name(event: &ClientEvent) -> &'static str {
    match event {
        ClientEvent::Connected { .. } => "connected",
        ClientEvent::Disconnected { .. } => "disconnected",
        ClientEvent::Reconnecting { .. } => "reconnecting",
        ClientEvent::Closed(_) => "closed",
        other => panic!("{other:?}"),
    }
}

/// Everything that `client` tells, in one list; each entry with whether it was told on the I/O thread.
fn everything_of(client: &RxWsClient<WsStr>) -> mpsc::Receiver<(Told, bool)> {
    let (send, told) = mpsc::channel();
    let tell = move |told| {
        let on_io_thread = thread::current().name() == Some("rxplus-client");
        send.send((told, on_io_thread)).unwrap_or(());
    };
    let [a, b, c, d, e, f] = [(); 6].map(|()| tell.clone());
    client.state().on_complete(move || a(Told::EndOfStates)).subscribe(move |state| b(Told::State(state)));
    client.events().on_complete(move || c(Told::EndOfEvents)).subscribe(move |event| d(Told::Event(name(&event))));
    client.clone().log_errors().on_complete(move || e(Told::End)).subscribe(move |item| f(Told::Item(item)));
    told
}

#[test]
fn state_changes_before_its_event_and_messages_lie_between() {
    use ConnectionState::*;
    let (open, may_open) = mpsc::channel::<()>();
    let may_open = Arc::new(Mutex::new(may_open));
    let server = raw_server(move |number, stream| {
        if number == 0 {
            may_open.lock().unwrap().recv().unwrap();
        }
        let mut peer = tungstenite::accept(stream).unwrap();
        peer.send(format!("message {number}").into()).unwrap();
        if number == 1 {
            while peer.read().is_ok() {}
        }
    });
    let delay = Duration::from_millis(1);
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).conn_retry_timeout(delay).connect().unwrap();
    let told = everything_of(&client);
    // From now on nothing is missed.
    open.send(()).unwrap();
    let message = |number| Told::Item(format!("message {number}").into());
    let mut expected = vec![
        Told::State(Connected),
        Told::Event("connected"),
        message(0),
        Told::State(Disconnected),
        Told::Event("disconnected"),
        Told::State(Reconnecting { attempt: 1, delay }),
        Told::Event("reconnecting"),
        Told::State(Connecting),
        Told::State(Connected),
        Told::Event("connected"),
        message(1),
    ];
    let hear = || told.recv_timeout(PATIENCE).unwrap();
    let mut all = Vec::new();
    while all.last() != Some(&message(1)) {
        let (told, on_io_thread) = hear();
        assert!(on_io_thread, "{told:?}");
        all.push(told);
    }
    // Where it was when the test subscribed is up to chance.
    all.drain(..all.iter().position(|told| *told == Told::State(Connected)).unwrap());
    assert_eq!(all, expected);

    client.complete();
    expected = vec![
        Told::State(Disconnected),
        Told::Event("disconnected"),
        Told::State(Closed),
        Told::EndOfStates,
        Told::Event("closed"),
        Told::EndOfEvents,
        Told::End,
    ];
    assert_eq!(told.iter().map(|(told, _)| told).collect::<Vec<_>>(), expected);
}

#[test]
fn state_begins_with_the_current_one_at_any_time() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    assert_eq!(Recorder::on(client.state()).item(), ConnectionState::Connected);
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    assert_eq!(Recorder::<ConnectionState>::on(client.state()).to_the_end().1, Heard::Complete);
    server.complete();
}

#[test]
fn loss_is_told_after_the_last_message_on_several_threads() {
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Arc::new(Mutex::new(may_go));
    let server = foreign_server(move |_, mut peer| {
        (0..1000).for_each(|_| peer.send("early".into()).unwrap());
        may_go.lock().unwrap().recv().unwrap();
        (0..10).for_each(|_| peer.send("late".into()).unwrap());
    });
    let runtime = IoRuntime::with_threads("several", 2).unwrap();
    for _ in 0..50 {
        // A ping that the server has not read would make its system reset the connection, and lose what was not sent yet.
        let builder = RxWsClient::builder(format!("ws://{server}"), WsStr).ping_interval(None).runtime(&runtime);
        let client = builder.conn_retry_timeout(Duration::from_secs(3600)).connect().unwrap();
        let (send, told) = mpsc::channel();
        let tell = send.clone();
        client.state().subscribe(move |state| tell.send(Told::State(state)).unwrap_or(()));
        until_settled("the early ones", &client, |client| client.stats().received.messages == 1000);
        // One thread delivers what was kept, while on another the rest comes and the connection ends.
        client.clone().log_errors().subscribe(move |item| send.send(Told::Item(item)).unwrap_or(()));
        go.send(()).unwrap();
        let mut all = Vec::new();
        while !matches!(all.last(), Some(Told::State(ConnectionState::Reconnecting { .. }))) {
            all.push(told.recv_timeout(PATIENCE).unwrap());
        }
        let lost = all.iter().rposition(|told| *told == Told::State(ConnectionState::Disconnected)).unwrap();
        assert_eq!(all[..lost].iter().filter(|told| matches!(told, Told::Item(_))).count(), 1010);
        client.complete();
    }
}

#[test]
fn state_and_events_tell_the_same_story() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    let events = Recorder::on(client.events());
    client.wait_connected(PATIENCE).unwrap();
    assert_eq!(Recorder::on(client.state()).item(), ConnectionState::Connected);
    client.complete();
    assert!(matches!(events.item(), ClientEvent::Connected { attempt: 0, .. }));
    assert!(matches!(events.item(), ClientEvent::Disconnected { code: 1000, error: None, .. }));
    assert!(matches!(events.item(), ClientEvent::Closed(report) if report == CloseReport::default()));
    assert!(matches!(events.hear(), Heard::Complete));
}
