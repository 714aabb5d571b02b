//! [`in_shares`]: many calls end at once, and other endpoints have their turns meanwhile.

use std::{sync::Arc, vec};

use crate::{
    IoScheduler, WsDatatype,
    calls::ask::Ask,
    runtime::callback::{self, SHARE},
};

/// Does `act` to each call, on the I/O thread, in order: to a [share](SHARE) of them at once, and to another one in each turn of a
/// task.
pub(super) fn in_shares<D: WsDatatype>(
    home: &IoScheduler,
    asks: Vec<Arc<Ask<D>>>,
    act: impl FnMut(&Arc<Ask<D>>) + Send + 'static,
) {
    let mut rest = Rest { asks: asks.into_iter(), act };
    if rest.take_share() == More::Yes {
        home.spawn(async move {
            let mut more = More::Yes;
            while more == More::Yes {
                tokio::task::yield_now().await;
                more = callback::task(|| rest.take_share());
            }
        });
    }
}

/// The calls that have not had their turn. When the task is dropped, as its runtime is gone, they have it at once: somebody waits
/// for them.
struct Rest<D: WsDatatype, F: FnMut(&Arc<Ask<D>>)> {
    asks: vec::IntoIter<Arc<Ask<D>>>,
    act: F,
}

#[derive(PartialEq)]
enum More {
    Yes,
    No,
}

impl<D: WsDatatype, F: FnMut(&Arc<Ask<D>>)> Rest<D, F> {
    fn take_share(&mut self) -> More {
        self.asks.by_ref().take(SHARE).for_each(|ask| (self.act)(&ask));
        if self.asks.len() > 0 { More::Yes } else { More::No }
    }
}

impl<D: WsDatatype, F: FnMut(&Arc<Ask<D>>)> Drop for Rest<D, F> {
    fn drop(&mut self) {
        while self.take_share() == More::Yes {}
    }
}
