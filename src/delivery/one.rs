//! [`Delivery`]: the fate of one message.

use std::{
    fmt,
    future::IntoFuture,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Io, IoScheduler, SerializedSubject, WsError,
    endpoint::Feed,
    fate::{Delivered, DeliveryStatus, Fate},
    runtime::waiters::Waiters,
    subject::replay::Replay,
    time,
};

/// The fate of one message, from [`send_tracked`](crate::RxWsClient::send_tracked). Clones are handles of the same. Dropping it
/// changes nothing.
///
/// ```no_run
/// use rxplus::prelude::*;
///
/// let client = RxWsClient::builder("wss://example.org/orders", WsStr).resumable(Resume::new()).connect()?;
/// let delivery = client.send_tracked("pay 5").expect("a place in the outbox");
/// match delivery.wait(Duration::from_secs(30))? {
///     Delivered::Acknowledged => println!("arrived"),
///     Delivered::Dropped(DropReason::Unconfirmed) => println!("written, and nobody can know"),
///     Delivered::Dropped(reason) => println!("never arrived: {reason:?}"),
///     _ => {}
/// }
/// # Ok::<(), WsError>(())
/// ```
///
/// It can be awaited as well: `delivery.await`.
#[derive(Clone)]
pub struct Delivery {
    one: Arc<One>,
}

/// A message whose fate somebody wants to know.
pub(crate) struct One {
    course: Mutex<Course>,
    /// Those who wait for the end.
    waiters: Waiters,
    home: IoScheduler,
}

struct Course {
    status: DeliveryStatus,
    /// Made when the changes are first asked for.
    changes: Option<SerializedSubject<DeliveryStatus>>,
}

impl Delivery {
    pub(crate) fn new(home: IoScheduler) -> Self {
        let course = Mutex::new(Course { status: DeliveryStatus::Queued, changes: None });
        Self { one: Arc::new(One { course, waiters: Waiters::default(), home }) }
    }

    pub(crate) fn fate(&self) -> Arc<dyn Fate> {
        self.one.clone()
    }

    /// How far the message has come.
    #[must_use]
    pub fn status(&self) -> DeliveryStatus {
        self.one.lock().status
    }

    /// How far the message has come: the present status first, then each change; completes at the end. Emits on the I/O
    /// thread of the endpoint.
    #[must_use]
    pub fn changes(&self) -> Io<Feed<DeliveryStatus>> {
        let mut course = self.one.lock();
        let status = course.status;
        let new = || {
            let changes = SerializedSubject::at_home(self.one.home.clone(), Replay::latest(status), None);
            if status.end().is_some() {
                // Nobody hears it: it has no subscriber yet.
                changes.relay_end(None);
            }
            changes
        };
        let changes = course.changes.get_or_insert_with(new).clone();
        drop(course);
        Feed::of(&changes, &self.one.home)
    }

    /// Blocks until the end. `Duration::MAX` means no limit.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the I/O thread of the endpoint, or the only one of its tokio runtime, at once.
    pub fn wait(&self, timeout: Duration) -> Result<Delivered, WsError> {
        if self.one.home.waits_for() {
            return Err(WsError::WouldDeadlock("Delivery::wait"));
        }
        let what = "the end of a message";
        time::block_on(self.one.end(), timeout).ok_or(WsError::TimedOut { what, after: timeout })
    }
}

impl IntoFuture for Delivery {
    type Output = Delivered;
    type IntoFuture = Pin<Box<dyn Future<Output = Delivered> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.one.end().await })
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl One {
    fn lock(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn end(&self) -> Delivered {
        self.waiters.until(|| self.lock().status.end()).await
    }
}

impl Fate for One {
    fn queued(&self) {}

    fn moved(&self, from: DeliveryStatus, to: DeliveryStatus) {
        let mut course = self.lock();
        if rank(to) <= rank(course.status) {
            // Overtaken: what comes later is known already.
            return;
        }
        let skipped = (course.status != from).then_some(from);
        course.status = to;
        let changes = course.changes.clone();
        // Inside the lock, so that they come in order; this calls nobody.
        if let Some(changes) = &changes {
            skipped.into_iter().chain([to]).for_each(|status| changes.enqueue(status));
            if to.end().is_some() {
                changes.enqueue_end();
            }
        }
        drop(course);
        if let Some(changes) = changes {
            changes.wake_home();
        }
        if to.end().is_some() {
            self.waiters.wake_all();
        }
    }
}

fn rank(status: DeliveryStatus) -> u8 {
    match status {
        DeliveryStatus::Queued => 0,
        DeliveryStatus::Written => 1,
        DeliveryStatus::Acknowledged | DeliveryStatus::Dropped(_) => 2,
    }
}
