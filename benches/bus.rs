//! Two servers on a bus: what a message from a client of one to the clients of the other costs each of them, and the broker.
//!
//! `cargo bench --bench bus --features nats`, on a machine that does nothing else. `nats-server` has to be in the `PATH`, or where
//! the variable `NATS_SERVER` says. The process that is started is the load; it starts the broker, and itself again for each
//! server.

#[cfg(target_os = "linux")]
#[path = "servers/wire.rs"]
mod wire;

#[cfg(target_os = "linux")]
mod bench {
    use std::{
        env, fs,
        io::{BufRead, BufReader, Read, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        process::{Child, ChildStdout, Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use rxplus::prelude::*;

    use crate::wire::{connect_all, masked_frame, plain_frame};

    const ROUNDS: usize = 5;
    const ROUND: Duration = Duration::from_secs(1);

    /// What is in the queues must never be too much.
    const ROOM: (usize, usize) = (1 << 20, 1 << 30);

    const SPEAKER: &str = "/speaker";
    const LISTENERS: &str = "/listeners";

    /// So that a server has no bus.
    const NO_BROKER: &str = "none";

    struct Scenario {
        name: &'static str,
        listeners: usize,
        /// How many messages the speaker sends at once, and then waits for.
        burst: usize,
        len: usize,
        ways: &'static [Way],
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Way {
        /// From a client of A to those of B.
        Across,
        /// From a client of A to those of A, where A has a bus.
        WithBus,
        /// The same, without a bus.
        Alone,
    }

    const SCENARIOS: [Scenario; 4] = [
        Scenario {
            name: "128 B, 1 listener",
            listeners: 1,
            burst: 1024,
            len: 128,
            ways: &[Way::Across, Way::WithBus, Way::Alone],
        },
        Scenario { name: "128 B, 1 listener, 1 at a time", listeners: 1, burst: 1, len: 128, ways: &[Way::Across] },
        Scenario { name: "128 B, 50 listeners", listeners: 50, burst: 64, len: 128, ways: &[Way::Across] },
        Scenario { name: "16 KiB, 1 listener", listeners: 1, burst: 16, len: 16 * 1024, ways: &[Way::Across] },
    ];

    /// A process that ends with this one.
    struct Part(Child);

    impl Part {
        /// CPU time so far, user and kernel, of all threads, in us.
        fn cpu(&self) -> f64 {
            let threads = fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("the process lives");
            let times = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
            times.filter_map(|time| time.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1000.0
        }
    }

    impl Drop for Part {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    struct Server {
        part: Part,
        addr: SocketAddr,
        _answers: BufReader<ChildStdout>,
    }

    impl Server {
        fn start(broker: &str) -> Self {
            let mut command = Command::new(env::current_exe().expect("a path to this program"));
            command.args(["serve", broker]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut part = Part(command.spawn().expect("a server starts"));
            let mut answers = BufReader::new(part.0.stdout.take().expect("a piped output"));
            let mut addr = String::new();
            answers.read_line(&mut addr).expect("a server says where it listens");
            Self { part, addr: addr.trim().parse().expect("an address"), _answers: answers }
        }
    }

    /// One of the servers: what a speaker says goes to all listeners.
    pub(crate) fn serve(broker: &str) {
        let runtime = IoRuntime::new("bench").expect("a thread");
        let (messages, bytes) = ROOM;
        let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).ping_interval(None);
        let builder = builder.outbox(messages, bytes, Overflow::DropLatest);
        let server = if broker == NO_BROKER {
            builder.bind()
        } else {
            let bus = RxBus::builder(broker, WsStr).runtime(&runtime).outbox(messages, bytes, Overflow::DropLatest);
            let bus = bus.connect().expect("an address");
            bus.wait_connected(Duration::from_secs(10)).expect("a broker");
            builder.bus(&bus).bind()
        };
        let server = server.expect("a free port");
        server.clone().map(|said| TaggedData::new(LISTENERS, said.data)).subscribe_with(server.clone());
        println!("{}", server.local_addr().as_tcp().expect("it listens on TCP"));
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }

    fn start_broker() -> (Part, String) {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let program = env::var("NATS_SERVER").unwrap_or("nats-server".into());
        let args = ["-a", "127.0.0.1", "-p", &port.to_string()];
        let broker = Command::new(program).args(args).stderr(Stdio::null()).spawn();
        let broker = Part(broker.expect("nats-server is there: see the head of this file"));
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        (broker, format!("nats://127.0.0.1:{port}"))
    }

    pub(crate) fn run() {
        println!("| scenario | way | messages/s | CPU of A | of B | of the broker |\n|---|---|--:|--:|--:|--:|");
        for scenario in &SCENARIOS {
            for way in scenario.ways {
                let (broker, url) = start_broker();
                let a = Server::start(if *way == Way::Alone { NO_BROKER } else { &url });
                let b = (*way == Way::Across).then(|| Server::start(&url));
                println!("{}", scenario.measured(*way, &a, b.as_ref(), &broker));
            }
        }
    }

    impl Scenario {
        /// The row of the table: medians of the rounds, CPU times in us a message; with several listeners also a delivery.
        fn measured(&self, way: Way, a: &Server, b: Option<&Server>, broker: &Part) -> String {
            let mut speaker = connect_all(a.addr, [SPEAKER.to_owned()].into_iter());
            let listening = b.unwrap_or(a).addr;
            let mut listeners = connect_all(listening, (0..self.listeners).map(|_| LISTENERS.to_owned()));
            // The broker hears of the first listener a moment after the listener does, and nobody says when.
            thread::sleep(Duration::from_millis(500));
            let cpu = || [Some(&a.part), b.map(|b| &b.part), Some(broker)].map(|part| part.map_or(0.0, Part::cpu));
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                let (before, began) = (cpu(), Instant::now());
                let count = self.round(&mut speaker[0], &mut listeners);
                let time = began.elapsed().as_secs_f64();
                let after = cpu();
                let cost = |part: usize| (after[part] - before[part]) / count;
                rounds.push([count / time, cost(0), cost(1), cost(2)]);
            }
            let [rate, a, b, broker] =
                [0, 1, 2, 3].map(|column| median(rounds.iter().map(|round| round[column]).collect()));
            let way = match way {
                Way::Across => "from A to B",
                Way::WithBus => "from A to A, with a bus",
                Way::Alone => "from A to A, without",
            };
            let delivery = match self.listeners {
                1 => String::new(),
                many => format!(", {:.2} a delivery", b / many as f64),
            };
            format!("| {} | {way} | {rate:.0} | {a:.2} us | {b:.2} us{delivery} | {broker:.2} us |", self.name)
        }

        /// Sends bursts, and waits until all listeners have each. Returns how many messages.
        fn round(&self, speaker: &mut TcpStream, listeners: &mut [TcpStream]) -> f64 {
            let (burst, mut count) = (masked_frame(self.len).repeat(self.burst), 0);
            let mut heard = vec![0; plain_frame(self.len).len() * self.burst];
            let began = Instant::now();
            while began.elapsed() < ROUND {
                speaker.write_all(&burst).expect("the server reads");
                for listener in &mut *listeners {
                    listener.read_exact(&mut heard).expect("a message to all listeners in time");
                }
                count += self.burst;
            }
            count as f64
        }
    }

    fn median(mut figures: Vec<f64>) -> f64 {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    }
}

#[cfg(target_os = "linux")]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", broker] => bench::serve(broker),
        _ => bench::run(),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this bench reads CPU times as Linux has them");
}
