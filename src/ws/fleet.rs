//! The clients of a group: opened by path, and closed together.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rxrust::observable::Observable;
use tokio::sync::Notify;

use crate::{
    ConnConfig, IoScheduler, ObservableExt, RxWsClient, SendError, Tag, TaggedData, WsDatatype, WsError,
    ws::{
        component::{Component, Received},
        dialer::Dialing,
        event::{ClientEvent, CloseReport},
        inlet::EarlyLost,
        options::Options,
        outbox::Refusal,
        stats::{GroupStats, Stats},
        switchboard::{Line, Switchboard},
    },
};

/// A group, as its handles and its task share it.
pub(crate) struct Fleet<D: WsDatatype> {
    pub(crate) component: Component<TaggedData<Received<D::Item>>, TaggedData<ClientEvent>>,
    switchboard: Switchboard,
    endpoint: ConnConfig,
    datatype: Arc<D>,
    options: Options,
    dialing: Dialing<D>,
    children: Mutex<Children<D>>,
    ending: Notify,
    early_lost: Arc<EarlyLost>,
    rejected: AtomicU64,
}

struct Children<D: WsDatatype> {
    /// Those that take messages, by path.
    current: HashMap<Tag, Current>,
    /// Those and the ones that are closing, by number.
    clients: HashMap<u64, RxWsClient<D>>,
    opened: u64,
    closing: bool,
    /// The sums over those that are gone.
    past: Stats,
}

/// The client that takes a path's messages.
struct Current {
    number: u64,
    /// Its outbox's place on the switchboard.
    line: Line,
}

impl<D: WsDatatype> Fleet<D> {
    pub(crate) fn new(
        endpoint: ConnConfig,
        datatype: D,
        options: Options,
        dialing: Dialing<D>,
        home: IoScheduler,
    ) -> Result<Self, WsError> {
        // What is wrong with a header, say, is told when the group is made, not when a path is opened.
        dialing.ask(endpoint.clone())?;
        let early_lost = Arc::new(EarlyLost::default());
        let lost = early_lost.clone();
        let component = Component::keeping_early(
            options.name.clone(),
            home.clone(),
            |tagged: &TaggedData<Received<D::Item>>| tagged.data.len,
            [|| TaggedData::new("", ClientEvent::EarlyLost), || TaggedData::new("", ClientEvent::SubscriberPanicked)],
            move |len| lost.count(len),
        );
        Ok(Self {
            switchboard: Switchboard::default(),
            endpoint,
            datatype: Arc::new(datatype),
            options,
            dialing: dialing.feeding(component.inbound.backlog()),
            component,
            children: Mutex::new(Children {
                current: HashMap::new(),
                clients: HashMap::new(),
                opened: 0,
                closing: false,
                past: Stats::default(),
            }),
            ending: Notify::new(),
            early_lost,
            rejected: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Children<D>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes a message and queues it with the client for its path, opened if need be; or says why not.
    pub(crate) fn send(self: &Arc<Self>, tagged: TaggedData<D::Item>) -> Result<(), SendError<TaggedData<D::Item>>> {
        self.offer(&tagged).map_err(|error| error.map(|()| tagged))
    }

    /// As [`send`](Self::send), with an event instead of an answer.
    pub(crate) fn next(self: &Arc<Self>, tagged: TaggedData<D::Item>) {
        // The client tells of what it drops, and a closed group ignores what is pushed.
        if let Err(SendError::Encode((), error)) = self.offer(&tagged) {
            let event = ClientEvent::Unencodable { error };
            self.component.events.post(TaggedData::with_key(tagged.tag, event));
        }
    }

    fn offer(self: &Arc<Self>, tagged: &TaggedData<D::Item>) -> Result<(), SendError<()>> {
        if self.is_closing() {
            return Err(SendError::Closed(()));
        }
        let frame = self.datatype.encode(&tagged.tag, &tagged.data).map_err(|error| {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            SendError::Encode((), error)
        })?;
        loop {
            let (number, _) = self.open(&tagged.tag).map_err(|_| SendError::Closed(()))?;
            match self.switchboard.push(&tagged.tag, frame.clone()) {
                // It is ending, or its line has just gone: the next one is opened in its place.
                Some(Err(Refusal::Closed)) | None => self.release(&tagged.tag, number),
                Some(Err(Refusal::Full)) => return Err(SendError::Full(())),
                Some(Ok(())) => return Ok(()),
            }
        }
    }

    /// The client for `path`, made if there is none.
    pub(crate) fn open(self: &Arc<Self>, path: &Tag) -> Result<(u64, RxWsClient<D>), WsError> {
        let mut children = self.lock();
        if children.closing {
            return Err(WsError::Closed(self.component.name.to_string()));
        }
        if let Some(Current { number, .. }) = children.current.get(path)
            && let Some(client) = children.clients.get(number)
        {
            return Ok((*number, client.clone()));
        }
        children.opened += 1;
        let number = children.opened;
        let client = self.start(path)?;
        // Outbound: what is pushed for this path goes into its outbox. Before anybody else can see the client: a message
        // pushed by another thread would find nobody.
        let line = self.switchboard.connect(path.clone(), client.dialer().outbox.clone());
        children.current.insert(path.clone(), Current { number, line });
        children.clients.insert(number, client.clone());
        drop(children);
        self.listen_to(path, number, &client);
        Ok((number, client))
    }

    fn start(&self, path: &Tag) -> Result<RxWsClient<D>, WsError> {
        let options = Options { name: format!("{}:{path}", self.component.name).into(), ..self.options.clone() };
        let runtime = self.component.home.runtime();
        RxWsClient::start(self.endpoint.with_path(path), self.datatype.clone(), options, self.dialing.clone(), &runtime)
    }

    fn listen_to(self: &Arc<Self>, path: &Tag, number: u64, client: &RxWsClient<D>) {
        // Inbound: what it receives flows into the group's subject, tagged with its path; its end does not.
        client.dialer().received().tag(path.clone()).merge_into(&self.component.inbound.fed());
        let (fleet, ended) = (Arc::downgrade(self), path.clone());
        let retire = move || {
            if let Some(fleet) = fleet.upgrade() {
                fleet.retire(&ended, number);
            }
        };
        client.events().tag(path.clone()).on_complete(retire).merge_into(&self.component.events);
    }

    /// Frees the path of a client that is ending: the next message for it opens another one.
    fn release(&self, path: &Tag, number: u64) {
        let mut children = self.lock();
        if children.current.get(path).is_some_and(|current| current.number == number)
            && let Some(current) = children.current.remove(path)
        {
            drop(children);
            self.switchboard.disconnect(&current.line);
        }
    }

    /// Forgets a client that has ended.
    fn retire(&self, path: &Tag, number: u64) {
        self.release(path, number);
        let mut children = self.lock();
        if let Some(client) = children.clients.remove(&number) {
            children.past += client.stats();
            drop(children);
            drop(client);
        }
    }

    /// Has the client for `path` send what is queued and close.
    pub(crate) fn close(&self, path: &Tag) {
        let children = self.lock();
        let number = children.current.get(path).map(|current| current.number);
        let found = number.and_then(|number| Some((number, children.clients.get(&number)?.clone())));
        drop(children);
        if let Some((number, client)) = found {
            client.complete();
            self.release(path, number);
        }
    }

    pub(crate) fn paths(&self) -> Vec<Tag> {
        let mut paths: Vec<_> = self.lock().current.keys().cloned().collect();
        paths.sort_unstable();
        paths
    }

    pub(crate) fn stats(&self) -> GroupStats {
        let children = self.lock();
        let mut all = children.past;
        for client in children.clients.values() {
            all += client.stats();
        }
        all.rejected += self.rejected.load(Ordering::Relaxed);
        all.early_lost += self.early_lost.tally();
        GroupStats { clients: children.current.len(), all }
    }

    /// Has the group end, and its subscribers with it, once all its clients are closed. The first call counts.
    pub(crate) fn finish(&self, how: Result<(), WsError>) {
        if self.component.ask_to_end(how) {
            self.lock().closing = true;
            self.ending.notify_one();
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Keeps the group's thread until the group is to end, and then sees all its clients closed.
    pub(crate) async fn run(self: Arc<Self>) {
        self.ending.notified().await;
        let clients: Vec<_> = self.lock().clients.values().cloned().collect();
        for client in &clients {
            match self.component.terminal() {
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
        self.component.end(TaggedData::new("", ClientEvent::Closed(report)), report).await;
    }
}
