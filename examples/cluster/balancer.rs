//! Spreads connections over servers in turn, and leaves out those that are away.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

pub(crate) async fn run(listener: TcpListener, servers: [String; 2]) {
    let mut turn = 0;
    while let Ok((near, _)) = listener.accept().await {
        turn += 1;
        let mut order = servers.clone();
        order.rotate_left(turn % servers.len());
        tokio::spawn(lead(near, order));
    }
}

/// Leads a client to the first server that is there.
async fn lead(mut near: TcpStream, servers: [String; 2]) {
    for server in servers {
        if let Ok(mut far) = TcpStream::connect(server).await {
            let _ = copy_bidirectional(&mut near, &mut far).await;
            return;
        }
    }
}
