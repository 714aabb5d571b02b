//! `cargo run --example unix_socket`
//!
//! A server and a client that meet at a socket of the file system, with no port between them: for programs on one machine.
//! Ends by itself, and with an error if the answer did not come.

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    println!("this system has no Unix sockets");
}

#[cfg(unix)]
mod unix {
    use std::{error::Error, fs, sync::mpsc, time::Duration};

    use rxplus::prelude::*;
    use tokio::net::{UnixListener, UnixStream};

    const PATIENCE: Duration = Duration::from_secs(5);

    pub(crate) fn main() -> Result<(), Box<dyn Error>> {
        let path = std::env::temp_dir().join(format!("rxplus-example-{}.sock", std::process::id()));
        // A server without a port of its own is given its connections.
        let server = RxWsServer::unbound(WsStr).build()?;
        server.clone().map(|td| td.map(|text| text.to_uppercase())).subscribe_with(server.clone());

        // Who may connect is what the permissions of the file say.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(async { UnixListener::bind(&path) })?;
        let accepting = server.clone();
        let accept_loop = runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.accept(stream);
            }
        });

        // The client reconnects as over TCP: each attempt calls the connector. The host in the address is for the `Host` header.
        let to = path.clone();
        let client = RxWsClient::builder("ws://localhost/control", WsStr)
            .connector(move |_| UnixStream::connect(to.clone()))
            .connect()?;
        let (sender, received) = mpsc::channel();
        client.clone().subscribe(move |text| _ = sender.send(text));
        client.next("hello");
        println!("{} came over {}", received.recv_timeout(PATIENCE)?, path.display());

        accept_loop.abort();
        client.clone().complete();
        server.clone().complete();
        client.wait_closed(PATIENCE)?;
        server.wait_closed(PATIENCE)?;
        fs::remove_file(&path)?;
        Ok(())
    }
}
