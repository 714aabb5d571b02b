//! The task of a group: closes the clients that are idle, and at the end all of them.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use crate::{ClientEvent, CloseReport, TaggedData, WsDatatype, group::core::GroupCore, runtime::debts};

/// How many times within the idle timeout the group looks which clients are idle.
const LOOKS: u32 = 4;

/// Keeps the group's thread until the group is to end, and then waits until all its clients are closed.
pub(crate) async fn run<D: WsDatatype>(group: Arc<GroupCore<D>>) {
    tokio::select! {
        biased;
        () = group.ending.notified() => {}
        () = close_idle_ones(&group) => {}
    }
    let clients = group.lock().all();
    for client in &clients {
        match group.component.terminal() {
            Some(error) => client.clone().error(error),
            None => client.clone().complete(),
        }
    }
    let mut report = CloseReport::default();
    for client in clients {
        let own = client.closed().await;
        report.unsent += own.unsent;
        report.unsent_len += own.unsent_len;
    }
    group.report_refusals();
    group.component.end(report, || group.last(report), Vec::new()).await;
}

/// Closes the clients that have been idle for too long, as long as it is polled.
async fn close_idle_ones<D: WsDatatype>(group: &GroupCore<D>) {
    let Some(limit) = group.bounds.idle else { return std::future::pending().await };
    loop {
        sleep(limit / LOOKS).await;
        debts::paid().await;
        let idle = group.lock().release_idle(limit, Instant::now());
        for (path, client) in idle {
            group.component.events.next(TaggedData::with_key(path, ClientEvent::Idle));
            client.complete();
        }
    }
}
