//! The client under test of an Autobahn fuzzing server: a connection for each case, which echoes.

use std::{error::Error, sync::mpsc, time::Duration};

use rxplus::{ClientBuilder, prelude::*};

/// Above the longest time that the suite gives a case: 480 s, for 1,000 messages of 4 KiB.
const LONGEST_CASE: Duration = Duration::from_secs(500);

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(url: &str) -> Result<(), Box<dyn Error>> {
    println!("{url}");
    for case in 1..=case_count(url)? {
        let client = once(&format!("{url}/runCase?case={case}&agent=rxplus")).connect()?;
        client.clone().subscribe_with(client.clone());
        client.wait_closed(LONGEST_CASE)?;
    }
    // Its end is what the suite waits for.
    once(&format!("{url}/updateReports?agent=rxplus")).connect()?.wait_closed(PATIENCE)?;
    Ok(())
}

fn case_count(url: &str) -> Result<usize, Box<dyn Error>> {
    let client = once(&format!("{url}/getCaseCount")).connect()?;
    let (sender, received) = mpsc::channel();
    client.clone().log_errors().subscribe(move |frame| _ = sender.send(frame));
    let count = received.recv_timeout(PATIENCE)?;
    Ok(count.into_text()?.parse()?)
}

/// A client that ends with its connection. The suite takes a ping for a failure, so it sends none.
fn once(url: &str) -> ClientBuilder<WsFrame> {
    let builder = RxWsClient::builder(url, WsFrame);
    crate::compression()
        .into_iter()
        .fold(builder, ClientBuilder::compression)
        .limits(crate::large(Limits::client()))
        .ping_interval(None)
        .retry(RetryPolicy::exponential().max_retries(0))
}
