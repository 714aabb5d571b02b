//! `cargo run --example cookbook_in_tokio`
//!
//! A tokio program that copies what one server says to another, in capitals: as a loop that awaits, and as a stream that is
//! forwarded. Neither is faster than the archive takes it; what the source says meanwhile waits in a bounded stream.

use futures::StreamExt;
use rxplus::prelude::*;

type News = IoBoxedObservable<'static, WsText, WsError>;

async fn copy(news: News, archive: &RxWsClient<WsStr>) -> Result<(), Box<dyn std::error::Error>> {
    let mut texts = news.into_bounded_stream(1024, Lossy::DropOldest);
    while let Some(text) = texts.next().await {
        archive.send_when_ready(text?.to_uppercase()).await?; // waits for room, where `send` would say `Full`
    }
    Ok(())
}

async fn forward(news: News, archive: RxWsClient<WsStr>) -> Result<(), WsError> {
    let capitals = news.map(|text| text.to_uppercase());
    capitals.into_bounded_stream(1024, Lossy::DropOldest).forward(archive.sink()).await // and closes the archive's client
}

/// A try of both, on the threads of this program.
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = IoRuntime::from_tokio(tokio::runtime::Handle::current());
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind()?;
    let ticking = server.clone();
    Io::interval(Duration::from_millis(10)).map(|n| TaggedData::new("/news", format!("item {n}"))).merge_into(&ticking);
    let connect = |path| {
        let builder = RxWsClient::builder(format!("ws://{}{path}", server.local_addr()), WsStr);
        builder.outbox(2, 1 << 16, Overflow::DropLatest).runtime(&runtime).connect()
    };
    let mut archived = server.clone().tag_filter("/archive").untag().into_bounded_stream(16, Lossy::DropOldest);

    let archive = connect("/archive")?;
    copy(connect("/news")?.take(3).box_it(), &archive).await?;
    forward(connect("/news")?.take(3).box_it(), archive).await?;
    for _ in 0..6 {
        println!("{}", archived.next().await.ok_or("the server has ended")??);
    }

    server.clone().complete();
    server.closed().await;
    Ok(())
}
