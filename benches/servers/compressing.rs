//! A load whose clients take messages compressed, and what that costs the server.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::{
    competitor::{Competitor, LISTENERS, SPEAKER},
    load::{Burst, Swarm},
    report::{COMPRESSED, COMPRESSED_PLAIN, Mode, Target},
    scenario::{Bench, Echo, audience, paths},
    wire::{self, connect_all_asking, masked, plain},
};

/// What a client offers, as rxplus does: each message of its own on its own.
const EXTENSION: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n";

/// What is compared, in this order.
const NAMES: [&str; 3] = ["ours", COMPRESSED, COMPRESSED_PLAIN];

const PEERS: usize = 64;
const LISTENING: usize = 500;
const IDLE: usize = 2000;

impl Bench {
    /// What compression costs those who agree on it, and those who do not.
    pub(crate) fn compressed(&mut self) {
        self.compressed_fan_out("2 KiB to 500, 1 at a time", 2048, (1, 30), 1.05);
        self.compressed_fan_out("2 KiB to 500, 16 at a time", 2048, (16, 4), 0.95);
        self.compressed_fan_out("16 KiB to 500, 4 at a time", 16 * 1024, (4, 4), 0.75);
        for (scenario, in_flight) in
            [("compressed: echo 128 B, 1 in flight", 1), ("compressed: echo 128 B, 16 in flight", 16)]
        {
            self.too_short_to_compress(scenario, in_flight);
        }
        self.compressed_memory();
    }

    /// A message that is compressed once, for all who hear it; and the system calls for that alone.
    fn compressed_fan_out(&mut self, what: &str, len: usize, (at_a_time, rounds): (usize, usize), most: f64) {
        let text = telemetry(len);
        let (frame, plain, compressed) = (masked(&text), plain(&text).len(), compressed_len(&text));
        let lens = [plain, compressed, plain];
        let bursts = lens.map(|len| Burst::of(&frame, at_a_time, len));
        let servers = || with_and_without(["ours-fan-out", "ours-compressed-fan-out"], || audience(LISTENING));
        self.fan_outs_of(&format!("compressed: fan-out of {what}"), servers, &bursts, rounds, most);
        let system_calls = || lens.map(|len| Echo::bare_fan_out(&Burst::of(&frame, at_a_time, len), LISTENING));
        self.fan_outs_of(&format!("compressed: only writing {what}"), system_calls, &bursts, rounds, most);
    }

    /// Measures fan-outs in turn: without compression, with it, and where it is not agreed on.
    fn fan_outs_of(
        &mut self,
        scenario: &str,
        start: impl Fn() -> [Echo; 3],
        bursts: &[Burst; 3],
        rounds: usize,
        most: f64,
    ) {
        if !self.wants(scenario, 3 * LISTENING) {
            return;
        }
        let mut contest = start();
        contest.iter_mut().zip(bursts).for_each(|(echo, burst)| echo.swarm.fan_out(burst, 2));
        for _ in 0..self.rounds() {
            for ((name, echo), burst) in NAMES.iter().zip(&mut contest).zip(bursts) {
                self.report.add(scenario, name, "ns", echo.cost_of_fan_out(burst, rounds));
            }
        }
        self.report.compare(scenario, COMPRESSED, "ours", Target::Used(Mode::Compressed, most));
    }

    /// Messages that go as they are, whatever was agreed on.
    fn too_short_to_compress(&mut self, scenario: &str, in_flight: usize) {
        if !self.wants(scenario, 3 * PEERS) {
            return;
        }
        let contest = NAMES.into_iter().zip(with_and_without(["ours", "ours-compressed"], || paths(PEERS)));
        self.contest(scenario, contest.collect(), &Burst::echoed(128, in_flight), 60);
        self.report.compare(scenario, COMPRESSED, "ours", Target::Used(Mode::Compressed, 1.03));
    }

    fn compressed_memory(&mut self) {
        let idle = "compressed: idle connection";
        self.idle_in_mode(
            idle,
            IDLE,
            [
                ("ours", "ours", |addr, count| Swarm::connect(addr, paths(count))),
                (COMPRESSED_PLAIN, "ours-compressed", |addr, count| Swarm::connect(addr, paths(count))),
                (COMPRESSED, "ours-compressed", |addr, count| Swarm::over(connect_all(addr, paths(count)))),
            ],
        );
        self.report.compare(idle, COMPRESSED, "ours", Target::More(Mode::Compressed, 0.3 * 1024.0));
    }
}

/// A server without compression, one with it, and one with it whose clients do not agree on it.
fn with_and_without<P: Iterator<Item = String>>([without, with]: [&str; 2], paths: impl Fn() -> P) -> [Echo; 3] {
    let [without, with, unused] = [without, with, with].map(|name| Competitor::start(name, &[]));
    [
        Echo { swarm: Swarm::connect(without.addr, paths()), server: without },
        Echo { swarm: Swarm::over(connect_all(with.addr, paths())), server: with },
        Echo { swarm: Swarm::connect(unused.addr, paths()), server: unused },
    ]
}

fn connect_all(addr: SocketAddr, paths: impl Iterator<Item = String>) -> Vec<TcpStream> {
    connect_all_asking(EXTENSION, |socket| socket, addr, paths)
}

/// How long the frame is in which a listener hears `text` compressed. It asks a server of its own.
fn compressed_len(text: &[u8]) -> usize {
    let server = Competitor::start("ours-compressed-fan-out", &[]);
    let mut listener = connect_all(server.addr, [LISTENERS.to_owned()].into_iter()).remove(0);
    let mut speaker = wire::connect_all(server.addr, [SPEAKER.to_owned()].into_iter()).remove(0);
    speaker.write_all(&masked(text)).expect("the server reads");
    let mut head = [0; 4];
    listener.read_exact(&mut head).expect("an answer in time");
    assert_eq!(head[..2], [0xc1, 126], "a whole message, compressed, of 126 B to 64 KiB");
    head.len() + usize::from(u16::from_be_bytes([head[2], head[3]]))
}

/// Readings of robots as JSON, of so many bytes, the same in each run: numbers that change, names that do not.
fn telemetry(len: usize) -> Vec<u8> {
    let mut seed = 1_u32;
    let mut number = move |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    let mut text = Vec::new();
    while text.len() < len {
        let (robot, x, y, battery) = (number(20), number(100_000), number(100_000), number(1000));
        let reading = format!(
            r#"{{"robot":"robot-{robot:02}","pose":{{"x":{}.{:03},"y":{}.{:03}}},"battery":{}.{},"state":"driving"}},"#,
            x / 1000,
            x % 1000,
            y / 1000,
            y % 1000,
            battery / 10,
            battery % 10,
        );
        text.extend(reading.bytes());
    }
    text.truncate(len);
    text
}
