//! A nats-server of a test.

use std::{
    env, fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Instant,
};

use super::{support::foreign::host_of_its_own, *};

/// A process of its own, in a folder of its own. It ends with this value.
pub(crate) struct NatsServer {
    folder: PathBuf,
    process: Option<Child>,
    host: String,
    pub(crate) port: u16,
    monitoring: u16,
}

impl NatsServer {
    /// Starts a server on a free port, with `config` in its configuration file.
    pub(crate) fn start(config: &str) -> Self {
        Self::on("127.0.0.1".into(), config)
    }

    /// As [`start`](Self::start), on a host whose ports nobody else takes while the server is [down](Self::kill).
    pub(crate) fn that_goes_down() -> Self {
        static LAST: AtomicU8 = AtomicU8::new(20);
        Self::on(host_of_its_own(LAST.fetch_add(1, Relaxed)), "")
    }

    fn on(host: String, config: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("rxplus-nats-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let mut server = Self { folder, process: None, host, port: 0, monitoring: 0 };
        server.configure(config);
        server.run(-1);
        (server.port, server.monitoring) = server.ports();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}:{}", self.host, self.port)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("config")
    }

    fn configure(&self, config: &str) {
        fs::write(self.config(), config).unwrap();
    }

    fn run(&mut self, port: i32) {
        let program = env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let mut command = Command::new(&program);
        command.args(["--addr", &self.host, "--port", &port.to_string()]);
        match self.monitoring {
            0 => command.args(["--http_port", "-1"]),
            port => command.args(["--http_port", &port.to_string()]),
        };
        command.arg("--config").arg(self.config()).arg("--ports_file_dir").arg(&self.folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display())));
    }

    /// Reads the file in which the server tells its ports.
    fn ports(&self) -> (u16, u16) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "nats-server does not tell its ports");
            if let Some(ports) = ports_in(&self.folder) {
                return ports;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the process at once.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts the process again, on the same ports.
    pub(crate) fn restart(&mut self) {
        self.run(self.port.into());
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Makes the process read another configuration.
    pub(crate) fn reload(&self, config: &str) {
        self.configure(config);
        self.signal("-HUP");
    }

    /// The subjects that clients have subscribed to, but for those of answers.
    pub(crate) fn subscriptions(&self) -> Vec<String> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.monitoring)).unwrap();
        stream.write_all(b"GET /connz?subs=1 HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let lists = body["connections"].as_array().unwrap().iter();
        let lists = lists.filter_map(|connection| connection["subscriptions_list"].as_array());
        let subjects = lists.flatten().map(|subject| subject.as_str().unwrap().to_owned());
        let mut subjects: Vec<_> = subjects.filter(|subject| !subject.starts_with("_INBOX")).collect();
        subjects.sort();
        subjects
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn ports_in(folder: &Path) -> Option<(u16, u16)> {
    let files = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files = files.filter(|path| path.extension().is_some_and(|extension| extension == "ports"));
    let ports: serde_json::Value = serde_json::from_str(&fs::read_to_string(files.next()?).ok()?).ok()?;
    let port = |kind: &str| ports[kind][0].as_str()?.rsplit(':').next()?.parse().ok();
    Some((port("nats")?, port("monitoring")?))
}
