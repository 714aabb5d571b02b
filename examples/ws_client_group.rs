//! `cargo run --example ws_client_group -- --port 8765`
//!
//! Pings two paths each second, `/a` and `/b` or those below `--path`, and prints the answers. Ctrl-C ends it.

mod support;

use rxplus::prelude::*;

fn main() -> Result<(), WsError> {
    let options = support::Options::from_args("Pings two paths of a server each second.");
    let below = options.path.unwrap_or_default();
    let paths = ["a", "b"].map(|name| Tag::from(format!("{}/{name}", below.trim_end_matches('/'))));
    let group = RxWsClientGroup::new(options.address, WsStr)?;
    group.clone().subscribe(|td| println!("[{}] {}", td.tag, td.data));

    // The end of its source ends the group.
    Io::interval(Duration::from_secs(1))
        .flat_map(move |n| Io::from_iter(paths.clone()).map(move |path| TaggedData::new(path, format!("ping {n}"))))
        .take_until(Io::from_future(tokio::signal::ctrl_c()))
        .subscribe_with(group.clone());
    let report = group.wait_closed(Duration::MAX)?;
    println!("closed, {} messages unsent", report.unsent);
    Ok(())
}
