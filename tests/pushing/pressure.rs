//! `pressure()`.

use super::*;

#[test]
fn pressure_rises_at_three_quarters_and_falls_at_a_quarter() {
    let (client, _silent) = unanswered(8, 1 << 20);
    let pressure = Recorder::on(client.pressure());
    assert_eq!(pressure.item(), Pressure::Low);
    (0..5).for_each(|_| client.next("x"));
    until_settled("nothing", &client, |_| true);
    assert_eq!(pressure.rest(), []);
    client.next("x");
    assert_eq!(pressure.item(), Pressure::High);
    let late = Recorder::on(client.pressure());
    assert_eq!(late.item(), Pressure::High);
    client.clear_outbox();
    assert_eq!((pressure.item(), late.item()), (Pressure::Low, Pressure::Low));
    client.complete();
    assert!(pressure.to_the_end().1.is_complete());
}

#[test]
fn pressure_of_bytes_counts_as_well_and_comes_on_the_io_thread() {
    let (client, _silent) = unanswered(100, 1000);
    client.next("x".repeat(750));
    let (name, names) = mpsc::channel();
    client.pressure().subscribe(move |pressure| name.send((pressure, thread_name())).unwrap());
    assert_eq!(names.recv_timeout(PATIENCE).unwrap().0, Pressure::High);
    client.clear_outbox();
    assert_eq!(names.recv_timeout(PATIENCE).unwrap(), (Pressure::Low, "rxplus-client".into()));
    client.complete();
}

#[test]
fn pressure_falls_as_the_peer_reads() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).outbox(4, 1 << 30, Overflow::DropLatest);
    let server = server.ping_interval(None).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut peer = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    let pressure = Recorder::on(connection.pressure());
    assert_eq!(pressure.item(), Pressure::Low);
    (0..4).for_each(|_| connection.send(vec![7; 12 << 20]).unwrap());
    assert_eq!(pressure.item(), Pressure::High);
    (0..4).for_each(|_| _ = read(&mut peer));
    assert_eq!(pressure.item(), Pressure::Low);
    drop(peer);
    assert!(pressure.to_the_end().1.is_complete());
    // One who comes late hears the present one, and the end.
    let (items, end) = Recorder::on(connection.pressure()).to_the_end();
    assert_eq!((items, end.is_complete()), (vec![Pressure::Low], true));
    server.complete();
}

#[test]
fn changes_do_not_queue_up_while_the_thread_is_busy() {
    let runtime = IoRuntime::new("busy").unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let client = RxWsClient::builder(url, WsStr).outbox(4, 1000, Overflow::DropLatest).runtime(&runtime);
    let client = client.connect().unwrap();
    let pressure = Recorder::on(client.pressure());
    assert_eq!(pressure.item(), Pressure::Low);
    let release = stall(&runtime);
    for _ in 0..1000 {
        (0..4).for_each(|_| client.next("x"));
        client.clear_outbox();
    }
    (0..4).for_each(|_| client.next("x"));
    drop(release);
    assert_eq!(pressure.item(), Pressure::High);
    client.clear_outbox();
    client.complete();
    assert_eq!(pressure.to_the_end().0, [Pressure::Low]);
}

#[test]
fn subscriber_of_the_pressure_may_push_and_panic() {
    let (client, _silent) = unanswered(4, 1000);
    let pushed = client.clone();
    client.pressure().subscribe(move |pressure| {
        if pressure == Pressure::High {
            pushed.clear_outbox();
            panic!("a subscriber of the program");
        }
    });
    let pressure = Recorder::on(client.pressure());
    (0..3).for_each(|_| client.next("x"));
    assert_eq!([pressure.item(), pressure.item()], [Pressure::Low, Pressure::High]);
    assert_eq!(pressure.item(), Pressure::Low);
    client.complete();
}

#[test]
fn pressure_that_many_threads_change_ends_as_it_is() {
    for runtime in each_runtime(4).0 {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", silent.local_addr().unwrap());
        let client = RxWsClient::builder(url, WsStr).outbox(8, 1000, Overflow::DropLatest).runtime(&runtime);
        let client = client.connect().unwrap();
        let pressure = Recorder::on(client.pressure());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        (0..3).for_each(|_| client.next("x"));
                        client.clear_outbox();
                    }
                });
            }
        });
        (0..8).for_each(|_| client.next("x"));
        client.clear_outbox();
        client.clone().complete();
        let (all, end) = pressure.to_the_end();
        assert!(end.is_complete() && all.last() == Some(&Pressure::Low));
        assert!(all.windows(2).all(|two| two[0] != two[1]), "each is a change");
    }
}
