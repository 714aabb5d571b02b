//! Sends back what comes through subjects of RxRust, as an endpoint does, with no more than that takes: what is received is emitted, what
//! is pushed waits in a queue until it is written, and any thread may push.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    convert::Infallible,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rxplus::prelude::*;
use tokio::{net::TcpStream, sync::Notify};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    Shared as Memory, fan_out::listen, incoming::Incoming, open, outgoing::Outgoing, output::Output, protocol::Next,
};
use crate::competitor::SPEAKER;

type Subject<T> = SharedSubject<'static, T, Infallible>;

/// Each connection has a subject, and what it emits is pushed into the connection.
pub(super) async fn serve(socket: TcpStream, memory: Rc<Memory>) {
    let (outbox, mut received) = (Arc::<Outbox>::default(), Shared::subject::<Utf8Bytes, Infallible>());
    let own = outbox.clone();
    received.clone().subscribe(move |text| own.push(text));
    serve_with(socket, &memory, &outbox, |_, text| received.next(text)).await;
}

/// One subject for all connections. What it emits is pushed into the connection on the path of its tag.
pub(super) struct Tagged {
    subject: Subject<TaggedData<Utf8Bytes>>,
    outboxes: Arc<Mutex<HashMap<Tag, Arc<Outbox>>>>,
}

impl Default for Tagged {
    fn default() -> Self {
        let (subject, outboxes) = (Shared::subject(), Arc::<Mutex<HashMap<Tag, Arc<Outbox>>>>::default());
        let routes = outboxes.clone();
        subject.clone().subscribe(move |TaggedData { tag, data, .. }: TaggedData<Utf8Bytes>| {
            if let Some(outbox) = routes.lock().expect("no panic").get(&tag) {
                outbox.push(data);
            }
        });
        Self { subject, outboxes }
    }
}

impl Tagged {
    pub(super) async fn serve(self: Rc<Self>, socket: TcpStream, memory: Rc<Memory>) {
        let (outbox, mut subject, mut tag) = (Arc::<Outbox>::default(), self.subject.clone(), None);
        let emit = |path: &str, text| {
            let tag = tag.get_or_insert_with(|| {
                let tag = Tag::from(path);
                self.outboxes.lock().expect("no panic").insert(tag.clone(), outbox.clone());
                tag
            });
            subject.next(TaggedData::new(tag.clone(), text));
        };
        serve_with(socket, &memory, &outbox, emit).await;
    }
}

/// One subject for what the speaker says. What it emits is pushed into all listeners, which are then written.
pub(super) struct Audience {
    subject: Subject<Utf8Bytes>,
    outboxes: Arc<Mutex<Vec<Arc<Outbox>>>>,
    listeners: RefCell<Vec<(Arc<Outbox>, Rc<Outgoing>)>>,
}

impl Default for Audience {
    fn default() -> Self {
        let (subject, outboxes) = (Shared::subject(), Arc::<Mutex<Vec<Arc<Outbox>>>>::default());
        let all = outboxes.clone();
        subject.clone().subscribe(move |text: Utf8Bytes| {
            all.lock().expect("no panic").iter().for_each(|outbox| outbox.push(text.clone()));
        });
        Self { subject, outboxes, listeners: RefCell::default() }
    }
}

impl Audience {
    pub(super) async fn serve(self: Rc<Self>, socket: TcpStream, memory: Rc<Memory>) {
        let Some((incoming, outgoing, path)) = open(socket).await else { return };
        if path == SPEAKER {
            return self.speak(incoming, &memory).await;
        }
        let (outbox, outgoing) = (Arc::<Outbox>::default(), Rc::new(outgoing));
        self.outboxes.lock().expect("no panic").push(outbox.clone());
        self.listeners.borrow_mut().push((outbox, outgoing.clone()));
        // Who leaves stays in the lists: here nobody does before the end.
        tokio::select! {
            () = listen(incoming, &memory, &outgoing) => {}
            () = outgoing.write_unsent() => {}
        }
    }

    async fn speak(&self, mut incoming: Incoming, memory: &Memory) {
        let mut subject = self.subject.clone();
        while incoming.read(memory, |text, _| subject.next(text)).await == Next::Read {
            for (outbox, outgoing) in &*self.listeners.borrow() {
                let mut output = memory.output.borrow_mut();
                output.clear();
                let taken = outbox.take(&mut output);
                outgoing.send(&output);
                outbox.confirm(taken);
            }
        }
    }
}

async fn serve_with(socket: TcpStream, memory: &Memory, outbox: &Outbox, mut emit: impl FnMut(&str, Utf8Bytes)) {
    let Some((mut incoming, outgoing, path)) = open(socket).await else { return };
    loop {
        let emit = |text, _: &mut Output| {
            outbox.is_asleep.store(false, Relaxed);
            emit(&path, text);
        };
        let next = tokio::select! {
            biased;
            next = incoming.read(memory, emit) => next,
            () = outbox.pushed.notified() => {
                memory.output.borrow_mut().clear();
                Next::Read
            }
        };
        let taken = outbox.take(&mut memory.output.borrow_mut());
        outgoing.write(&memory.output).await;
        outbox.confirm(taken);
        if next == Next::End {
            return;
        }
    }
}

/// What waits to be written.
#[derive(Default)]
struct Outbox {
    queue: Mutex<Queue>,
    /// The connection looks into the queue only once it is told to.
    is_asleep: AtomicBool,
    pushed: Notify,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Utf8Bytes>,
    len: usize,
}

impl Outbox {
    const MAX_MESSAGES: usize = 65_536;
    const MAX_LEN: usize = 64 * 1024 * 1024;

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic")
    }

    fn push(&self, text: Utf8Bytes) {
        let mut queue = self.lock();
        assert!(queue.messages.len() < Self::MAX_MESSAGES && queue.len + text.len() <= Self::MAX_LEN, "a slow reader");
        queue.len += text.len();
        queue.messages.push_back(text);
        drop(queue);
        if self.is_asleep.load(Relaxed) && self.is_asleep.swap(false, Relaxed) {
            self.pushed.notify_one();
        }
    }

    /// Appends what waits, and returns how much that is.
    fn take(&self, output: &mut Output) -> usize {
        let queue = self.lock();
        queue.messages.iter().for_each(|text| output.append_text(text.clone()));
        queue.messages.len()
    }

    /// Drops what was written.
    fn confirm(&self, count: usize) {
        let mut queue = self.lock();
        let written: Vec<_> = queue.messages.drain(..count).collect();
        queue.len -= written.iter().map(|text| text.len()).sum::<usize>();
        self.is_asleep.store(queue.messages.is_empty(), Relaxed);
    }
}
