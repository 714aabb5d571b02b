//! A TCP proxy that breaks when it is asked to.

use std::{
    future, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::sleep,
};

/// How long bytes take, as to another continent: so that there is something under way when a link breaks.
const WAY: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(crate) struct Network {
    cut: Notify,
    is_unplugged: AtomicBool,
    swallows: AtomicBool,
}

impl Network {
    /// Cuts all links, and lets nobody through for so long.
    pub(crate) async fn unplug(&self, time: Duration) {
        self.is_unplugged.store(true, SeqCst);
        self.cut.notify_waiters();
        sleep(time).await;
        self.is_unplugged.store(false, SeqCst);
    }

    /// Swallows whatever is sent, so that both ends wait for nothing. At the end of the time they hear that the link is broken.
    pub(crate) async fn swallow(&self, time: Duration) {
        self.swallows.store(true, SeqCst);
        sleep(time).await;
        self.swallows.store(false, SeqCst);
        self.cut.notify_waiters();
    }

    /// Leads those who come to `listener` to `server`.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, server: SocketAddr) {
        while let Ok((near, _)) = listener.accept().await {
            let network = self.clone();
            tokio::spawn(async move { network.link(near, server).await });
        }
    }

    async fn link(&self, near: TcpStream, server: SocketAddr) -> io::Result<()> {
        // Before the look at the plug: a cut between the two would otherwise miss this link.
        let cut = self.cut.notified();
        if self.is_unplugged.load(SeqCst) {
            return Ok(());
        }
        let (near_reads, near_writes) = near.into_split();
        let (far_reads, far_writes) = TcpStream::connect(server).await?.into_split();
        tokio::select! {
            () = cut => Ok(()),
            ended = self.pass(near_reads, far_writes) => ended,
            ended = self.pass(far_reads, near_writes) => ended,
        }
    }

    async fn pass(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            let count = from.read(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            sleep(WAY).await;
            if self.swallows.load(SeqCst) {
                // For good: nothing can come behind bytes that are missing.
                return future::pending().await;
            }
            to.write_all(&bytes[..count]).await?;
        }
    }
}
