//! A TCP proxy that does to a link what networks do to links, under the test's control and while it runs.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{oneshot, watch},
    time::sleep,
};

use super::until;

/// The proxy's own buffers are small, so that what it does to one side is soon felt on the other.
const BUFFER_LEN: u32 = 16 * 1024;

/// Stands between clients and a server. Dropping it ends all links.
pub(crate) struct Proxy {
    addr: SocketAddr,
    control: Arc<Control>,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

/// How a link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// Up is from the client to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    Up,
    Down,
}

struct Control {
    server: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Armed cuts, by direction.
    cuts: [Mutex<Option<Cut>>; 2],
    /// How the links that are open are to end. Each order is a change.
    end: watch::Sender<End>,
    refuses: watch::Sender<bool>,
    listens: AtomicBool,
    links: AtomicUsize,
}

/// What all links suffer.
#[derive(Clone, Copy, Default)]
struct Weather {
    silent: bool,
    delay: Duration,
    /// In bytes a second, from the server to the client.
    rate: Option<u32>,
    segment: Option<usize>,
}

struct Cut {
    bytes_left: usize,
    end: End,
}

/// A host of this machine's that no other proxy of this process has had: a client that is dropped with something unsent goes on
/// looking for its server for a while, and is not to come upon that of another test.
fn new_host() -> IpAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let first = Ipv4Addr::new(127, 0, 2, 1).to_bits();
    // Other systems have 127.0.0.1 alone.
    let host =
        if cfg!(target_os = "linux") { first + COUNT.fetch_add(1, SeqCst) } else { Ipv4Addr::LOCALHOST.to_bits() };
    Ipv4Addr::from_bits(host).into()
}

impl Proxy {
    pub(crate) fn to(server: impl Into<rxplus::Addr>) -> Self {
        Self::on(new_host(), server)
    }

    /// On a host, as the certificate of a server has it.
    pub(crate) fn on(host: IpAddr, server: impl Into<rxplus::Addr>) -> Self {
        let server = server.into().as_tcp().unwrap();
        let control = Arc::new(Control {
            server,
            weather: watch::Sender::default(),
            cuts: [Mutex::default(), Mutex::default()],
            end: watch::Sender::new(End::Fin),
            refuses: watch::Sender::new(false),
            listens: AtomicBool::new(true),
            links: AtomicUsize::new(0),
        });
        let (running, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(async { listen(bound((host, 0).into())) });
        let addr = listener.local_addr().unwrap();
        let serving = serve(listener, control.clone());
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = ended => {}
                }
            });
        });
        Self { addr, control, _running: running }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// How many links there have been.
    pub(crate) fn links(&self) -> usize {
        self.control.links.load(SeqCst)
    }

    /// Ends the links that are open.
    pub(crate) fn end(&self, end: End) {
        self.control.end.send_replace(end);
    }

    /// Ends a link once `bytes` more bytes have passed in a direction.
    pub(crate) fn cut_after(&self, direction: Direction, bytes: usize, end: End) {
        *self.control.cuts[direction as usize].lock().unwrap() = Some(Cut { bytes_left: bytes, end });
    }

    /// Passes nothing on, and closes nothing.
    pub(crate) fn silence(&self, silent: bool) {
        self.control.weather.send_modify(|weather| weather.silent = silent);
    }

    /// Holds up what passes.
    pub(crate) fn delay(&self, delay: Duration) {
        self.control.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Lets this many bytes a second pass from the server to the client.
    pub(crate) fn throttle(&self, rate: impl Into<Option<u32>>) {
        self.control.weather.send_modify(|weather| weather.rate = rate.into());
    }

    /// Passes everything on in pieces of this many bytes.
    pub(crate) fn segment(&self, len: usize) {
        self.control.weather.send_modify(|weather| weather.segment = Some(len));
    }

    /// Refuses connections, or takes them again; what it does is so when this returns.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.control.refuses.send_replace(refuses);
        until("changing its mind", || self.control.listens.load(SeqCst) != refuses);
    }
}

/// A socket that has an address and refuses connections to it until it listens.
fn bound(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_recv_buffer_size(BUFFER_LEN).unwrap();
    socket.bind(addr).unwrap();
    socket
}

fn listen(socket: TcpSocket) -> TcpListener {
    socket.listen(1024).unwrap()
}

async fn serve(listener: TcpListener, control: Arc<Control>) {
    let addr = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    // Keeps the port while connections are refused: nobody else is to get it, nor a client that connects to itself.
    let mut refusing = None;
    let mut refuses = control.refuses.subscribe();
    loop {
        tokio::select! {
            Some(accepted) = accept(listener.as_ref()) => {
                // Before it counts as a link: whoever has seen it may order its end.
                let ordered = control.end.subscribe();
                control.links.fetch_add(1, SeqCst);
                tokio::spawn(link(accepted, control.clone(), ordered));
            }
            Ok(()) = refuses.changed() => {
                let refuses = *refuses.borrow_and_update();
                match (refuses, listener.take(), refusing.take()) {
                    (true, Some(listening), _) => {
                        drop(listening);
                        refusing = Some(bound(addr));
                    }
                    (false, _, Some(socket)) => listener = Some(listen(socket)),
                    as_before => (_, listener, refusing) = as_before,
                }
                control.listens.store(!refuses, SeqCst);
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    Some(listener?.accept().await.ok()?.0)
}

async fn link(mut client: TcpStream, control: Arc<Control>, mut ordered: watch::Receiver<End>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(BUFFER_LEN).unwrap();
    let Ok(mut server) = socket.connect(control.server).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = pump(from_client, to_server, Direction::Up, &control);
    let down = pump(from_server, to_client, Direction::Down, &control);
    let end = tokio::select! {
        ended = async { tokio::try_join!(up, down) } => ended.err().unwrap_or(End::Fin),
        Ok(()) = ordered.changed() => *ordered.borrow_and_update(),
    };
    match end {
        End::Fin => hang_up(client, server).await,
        End::Reset => {
            for socket in [client, server] {
                socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    }
}

/// Closes both sides in an orderly way: a socket that is dropped with something unread in it sends a reset.
async fn hang_up(mut client: TcpStream, mut server: TcpStream) {
    // Errors are those of a side that has gone by itself.
    let _ = tokio::join!(client.shutdown(), server.shutdown());
    let _ = tokio::join!(drain(client), drain(server));
}

async fn drain(mut socket: TcpStream) -> io::Result<u64> {
    tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
}

/// Passes on one direction of a link until its end, or until both directions are to end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    control: &Control,
) -> Result<(), End> {
    let mut buffer = [0; 4096];
    loop {
        let weather = control.fair_weather().await;
        let space = weather.segment.unwrap_or(buffer.len());
        let count = from.read(&mut buffer[..space]).await.map_err(|_| End::Reset)?;
        if count == 0 {
            return to.shutdown().await.map_err(|_| End::Reset);
        }
        let weather = control.fair_weather().await;
        sleep(weather.delay).await;
        let (count, end) = control.cut(direction, count);
        to.write_all(&buffer[..count]).await.map_err(|_| End::Reset)?;
        if let Some(end) = end {
            return Err(end);
        }
        if let (Direction::Down, Some(_)) = (direction, weather.rate) {
            control.hold_back(count).await;
        }
    }
}

impl Control {
    /// Waits for the silence to end.
    async fn fair_weather(&self) -> Weather {
        *self.weather.subscribe().wait_for(|weather| !weather.silent).await.unwrap()
    }

    /// Waits until the throttled rate allows for more than `count` bytes, or is lifted.
    async fn hold_back(&self, count: usize) {
        let mut weather = self.weather.subscribe();
        let Some(rate) = weather.borrow().rate else { return };
        tokio::select! {
            () = sleep(Duration::from_secs_f64(count as f64 / f64::from(rate))) => {}
            _ = weather.wait_for(|weather| weather.rate.is_none()) => {}
        }
    }

    /// How many of `count` bytes still pass, and how the link ends after them if it does.
    fn cut(&self, direction: Direction, count: usize) -> (usize, Option<End>) {
        let mut armed = self.cuts[direction as usize].lock().unwrap();
        match &mut *armed {
            None => (count, None),
            Some(cut) if cut.bytes_left > count => {
                cut.bytes_left -= count;
                (count, None)
            }
            Some(cut) => {
                let last = (cut.bytes_left, Some(cut.end));
                *armed = None;
                last
            }
        }
    }
}
