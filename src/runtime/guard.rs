//! Tasks that do not die in silence: a panic inside one, or the end of its runtime, is reported.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::{
    WsError,
    runtime::{IoRuntime, callback, debts::Debts},
};

/// The cause that ended a task before its work was done.
#[derive(Clone, Debug)]
pub(crate) enum Death {
    /// A panic, with its message.
    Panic(Arc<str>),
    /// The shutdown of its runtime.
    Shutdown,
}

impl Death {
    /// The error of this death, for the component or connection named `whose`.
    pub(crate) fn of(&self, whose: &str) -> WsError {
        match self {
            Self::Panic(panic) => WsError::Panicked { what: format!("the task of {whose}"), panic: panic.clone() },
            Self::Shutdown => WsError::RuntimeEnded(whose.into()),
        }
    }
}

/// A component's task. Keeps the threads of its runtime running until it is done.
pub(crate) struct Guard<F, D: FnOnce(Death)> {
    /// `None` once it is over.
    work: Option<Pin<Box<F>>>,
    /// Its debts: all that it tells its subscribers is told in its work.
    debts: Debts,
    on_death: Option<D>,
    runtime: IoRuntime,
}

impl<F: Future<Output = ()>, D: FnOnce(Death)> Guard<F, D> {
    /// Runs `work`. If it does not end by itself, `on_death` receives the cause, on whatever thread that happens.
    pub(crate) fn new(runtime: IoRuntime, work: F, on_death: D) -> Self {
        Self { work: Some(Box::pin(work)), debts: Debts::default(), on_death: Some(on_death), runtime }
    }
}

impl<F, D: FnOnce(Death)> Guard<F, D> {
    /// Drops the work first: a socket is closed before anybody hears of it.
    fn end(&mut self, death: Option<Death>) {
        let work = self.work.take();
        callback::isolate("the end of a task", || drop(work));
        if let (Some(on_death), Some(death)) = (self.on_death.take(), death) {
            on_death(death);
        }
    }
}

impl<F: Future<Output = ()>, D: FnOnce(Death) + Unpin> Future for Guard<F, D> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { work, debts, runtime, .. } = &mut *self;
        runtime.note_thread();
        let Some(work) = work else { return Poll::Ready(()) };
        let death = match callback::attempt("a task", || debts.incur(|| work.as_mut().poll(cx))) {
            Ok(polled) => {
                ready!(polled);
                None
            }
            Err(panic) => Some(Death::Panic(panic.into())),
        };
        self.end(death);
        Poll::Ready(())
    }
}

impl<F, D: FnOnce(Death)> Drop for Guard<F, D> {
    fn drop(&mut self) {
        self.end(Some(Death::Shutdown));
    }
}

/// As `future`. If it panics, the result is the message of the panic.
pub(crate) fn isolated<F: Future + Unpin>(
    what: &'static str,
    mut future: F,
) -> impl Future<Output = Result<F::Output, String>> {
    poll_fn(move |cx| match callback::attempt(what, || Pin::new(&mut future).poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::mpsc,
        time::Duration,
    };

    use tokio::runtime::Builder;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Runs `work` on `runtime` and returns where its death is told.
    fn guarded(runtime: &IoRuntime, work: impl Future<Output = ()> + Send + 'static) -> mpsc::Receiver<Death> {
        let (tell, told) = mpsc::channel();
        runtime.serve(work, move |death| tell.send(death).unwrap());
        told
    }

    #[test]
    fn panic_of_a_task_is_told_with_what_it_said() {
        let runtime = IoRuntime::new("panics").unwrap();
        let told = guarded(&runtime, async { panic!("out of luck") });
        let death = told.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(&death, Death::Panic(panic) if &**panic == "out of luck"), "{death:?}");
        let error = death.of("client").to_string();
        assert!(error.starts_with("the task of client panicked: out of luck"), "{error}");
    }

    #[test]
    fn task_that_ends_by_itself_is_not_mourned() {
        let runtime = IoRuntime::new("ends").unwrap();
        let told = guarded(&runtime, ready(()));
        assert_eq!(told.recv_timeout(PATIENCE).unwrap_err(), mpsc::RecvTimeoutError::Disconnected);
    }

    #[test]
    fn end_of_the_runtime_is_told_behind_the_end_of_what_the_task_held() {
        struct Socket(mpsc::Sender<&'static str>);
        impl Drop for Socket {
            fn drop(&mut self) {
                self.0.send("closed").unwrap();
            }
        }
        for threads in [0, 1, 3] {
            let mut builder = if threads == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
            let tokio = builder.worker_threads(threads.max(1)).enable_all().build().unwrap();
            let runtime = IoRuntime::from_tokio(tokio.handle().clone());
            let (tell, told) = mpsc::channel();
            let socket = Socket(tell.clone());
            let work = async move {
                pending::<()>().await;
                drop(socket);
            };
            runtime.serve(work, move |death| {
                assert!(matches!(death, Death::Shutdown));
                tell.send("told").unwrap();
            });
            drop(tokio);
            assert_eq!(told.iter().collect::<Vec<_>>(), ["closed", "told"]);
            // And one that comes later dies at once.
            assert!(matches!(guarded(&runtime, pending()).try_recv(), Ok(Death::Shutdown)));
        }
    }

    #[test]
    fn thread_for_blocking_work_may_wait_for_the_only_thread_of_a_runtime_and_that_one_may_not() {
        let tokio = Builder::new_current_thread().enable_all().build().unwrap();
        let runtime = IoRuntime::from_tokio(tokio.handle().clone());
        let weak = runtime.downgrade();
        assert!(!weak.waits_for());
        tokio.block_on(async {
            assert!(weak.waits_for(), "nothing has run yet");
            let blocking = weak.clone();
            let _told = guarded(&runtime, pending());
            assert!(!tokio::task::spawn_blocking(move || blocking.waits_for()).await.unwrap());
            assert!(weak.waits_for(), "it is known now");
        });
    }
}
