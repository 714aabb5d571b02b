//! The state that the handles, the subscribers, the clients and the task of a group share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rxrust::observable::Observable;
use tokio::sync::Notify;

use crate::{
    ConnConfig, DatatypeError, IoScheduler, ObservableExt, RxWsClient, SendError, Tag, TaggedData, Tally, WsDatatype,
    WsError,
    client::dialing::Dialing,
    endpoint::{
        Component, EndpointCore, Received,
        codec::Codec,
        event::{ClientEvent, CloseReport},
        inbound::Member,
        options::Options,
    },
    fate::Fate,
    group::children::{Children, PathBounds, Report, Taker},
    outbox::Refusal,
    runtime::{UserValue, guard::Death},
    sending::Outgoing,
    stats::GroupStats,
    subject::{audience::Audience, branch::Main},
};

/// The state that the handles, the subscribers, the clients and the task of a group share.
pub(crate) struct GroupCore<D: WsDatatype> {
    pub(crate) component: Component<TaggedData<Received<D::Item>>, TaggedData<ClientEvent>>,
    /// The subscribers of the group itself.
    pub(crate) audience: Audience,
    endpoint: ConnConfig,
    codec: Codec<D>,
    options: Options,
    dialing: Dialing<D>,
    pub(crate) bounds: PathBounds,
    children: Mutex<Children<D>>,
    pub(crate) ending: Notify,
}

impl<D: WsDatatype> EndpointCore for GroupCore<D> {
    type Item = TaggedData<D::Outgoing>;
    type Arrived = TaggedData<Received<D::Item>>;
    type Event = TaggedData<ClientEvent>;

    fn component(&self) -> &Component<Self::Arrived, Self::Event> {
        &self.component
    }

    /// Encodes a message and queues it with the client for its path, which is opened if need be.
    fn offer(
        self: &Arc<Self>,
        tagged: &TaggedData<D::Outgoing>,
        fate: Option<&Arc<dyn Fate>>,
    ) -> Result<(), SendError<()>> {
        let frame = self.codec.encode(&tagged.tag, &tagged.data, || self.is_closing())?;
        let key = self.codec.key(&tagged.tag, &tagged.data);
        loop {
            let mut children = self.lock();
            if children.closing {
                return Err(SendError::Closed(()));
            }
            let Some(Taker { number, client }) = children.taker(&tagged.tag) else {
                return self.open_with(children, &tagged.tag, Outgoing { frame, key }, fate);
            };
            drop(children);
            match client.core().outbox.push_with(frame.clone(), key, fate) {
                // It has just been closed: the next one is opened in its place.
                Err(Refusal::Closed) => self.lock().release(&tagged.tag, number),
                answer => return answer.map_err(|refusal| refusal.of(())),
            }
        }
    }

    fn unencodable(&self, tagged: TaggedData<D::Outgoing>, error: DatatypeError) -> TaggedData<ClientEvent> {
        TaggedData::with_key(tagged.tag, ClientEvent::Unencodable { error, count: 1 })
    }

    /// The subscribers end once all clients are closed.
    fn finish(&self, how: Result<(), WsError>) {
        if self.component.ask_to_end(how) {
            self.lock().closing = true;
            self.ending.notify_one();
        }
    }

    fn is_closing(&self) -> bool {
        self.lock().closing
    }
}

impl<D: WsDatatype> GroupCore<D> {
    pub(crate) fn new(
        endpoint: ConnConfig,
        datatype: D,
        options: Options,
        dialing: Dialing<D>,
        bounds: PathBounds,
        home: IoScheduler,
    ) -> Result<Self, WsError> {
        // A bad header, for example, is an error when the group is made, not when a path is opened.
        dialing.connect_ask(endpoint.clone())?;
        let component = Component::keeping_early(options.name.clone(), home);
        Ok(Self {
            endpoint,
            codec: Codec::new(UserValue::new(Arc::new(datatype)), dialing.key_of.clone()),
            options,
            dialing,
            bounds,
            component,
            audience: Audience::default(),
            children: Mutex::default(),
            ending: Notify::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Children<D>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the client for `path` with its first message.
    fn open_with(
        self: &Arc<Self>,
        mut children: MutexGuard<'_, Children<D>>,
        path: &Tag,
        first: Outgoing,
        fate: Option<&Arc<dyn Fate>>,
    ) -> Result<(), SendError<()>> {
        if !children.have_room(self.bounds.max) {
            let report = children.refuse(path, Tally::of(&first.frame));
            drop(children);
            if report == Report::Due {
                let core = self.clone();
                self.component.home.spawn(async move { core.report_refusals() });
            }
            return Err(SendError::TooManyPaths(()));
        }
        match self.add(&mut children, path) {
            Ok(client) => {
                // Queued before any other thread can close it.
                let answer = client.core().outbox.push_with(first.frame, first.key, fate);
                drop(children);
                client.start(&self.component.home.runtime());
                answer.map_err(|refusal| refusal.of(()))
            }
            Err(error) => {
                drop(children);
                self.component.events.post(TaggedData::with_key(path.clone(), ClientEvent::Failed { error }));
                Err(SendError::Closed(()))
            }
        }
    }

    /// The client for `path`, made if there is none, which stays open however long it is idle.
    pub(crate) fn open(self: &Arc<Self>, path: &Tag) -> Result<RxWsClient<D>, WsError> {
        let mut children = self.lock();
        let name = || self.component.name().to_string();
        if children.closing {
            return Err(WsError::Closed(name()));
        }
        if let Some(Taker { number, client }) = children.taker(path) {
            children.keep(number);
            return Ok(client);
        }
        if !children.have_room(self.bounds.max) {
            return Err(WsError::TooManyPaths { name: name(), max_paths: self.bounds.max });
        }
        let number = children.next_number();
        let client = self.add(&mut children, path)?;
        children.keep(number);
        drop(children);
        client.start(&self.component.home.runtime());
        Ok(client)
    }

    /// Makes the client for a path that has none; the caller is to start it, outside the lock.
    ///
    /// The group subscribes before the client can be seen elsewhere: the first subscriber takes the messages that the client
    /// has kept for it. As it has not started, it has emitted nothing yet, and so no observer is called here.
    fn add(self: &Arc<Self>, children: &mut Children<D>, path: &Tag) -> Result<RxWsClient<D>, WsError> {
        let number = children.next_number();
        let client = self.make(path, number)?;
        self.listen_to(path, number, &client);
        children.add(path.clone(), client.clone());
        Ok(client)
    }

    fn make(&self, path: &Tag, number: u64) -> Result<RxWsClient<D>, WsError> {
        // Inbound: the client's messages flow into the group's subject, tagged with its path; its end does not.
        let group = Main { subject: self.component.inbound.clone(), audience: self.audience.clone() };
        let member = Member { number, path: path.clone(), group, events: self.component.events.subject().backlog() };
        let dialing = self.dialing.of(member);
        let options = Options { name: format!("{}:{path}", self.component.name()).into(), ..self.options.clone() };
        let (endpoint, home) = (self.endpoint.with_path(path), self.component.home.clone());
        RxWsClient::new(endpoint, self.codec.datatype(), options, dialing, home)
    }

    fn listen_to(self: &Arc<Self>, path: &Tag, number: u64, client: &RxWsClient<D>) {
        let (core, ended) = (Arc::downgrade(self), path.clone());
        let retire = move || {
            if let Some(core) = core.upgrade() {
                // Dropped after the lock is released.
                let _client = core.lock().retire(&ended, number);
                core.end_if_alone();
            }
        };
        client.events().tag(path.clone()).on_complete(retire).merge_into(&self.component.events.subject());
    }

    /// Makes the client for `path` send its queued messages and close.
    pub(crate) fn close(&self, path: &Tag) {
        let taker = self.lock().taker(path);
        if let Some(Taker { number, client }) = taker {
            client.complete();
            self.lock().release(path, number);
        }
    }

    pub(crate) fn paths(&self) -> Vec<Tag> {
        self.lock().paths()
    }

    pub(crate) fn stats(&self) -> GroupStats {
        let mut stats = self.lock().stats();
        stats.all.unencodable += self.codec.unencodable();
        stats.all.early_lost += self.component.early_lost();
        stats
    }

    /// Ends the group, its clients first, when its task has died.
    pub(crate) fn died(&self, death: &Death) {
        self.component.fail(death);
        let mut children = self.lock();
        (children.closing, children.unsent) = (true, Some(Tally::default()));
        let clients = children.all();
        drop(children);
        // After the last refusal.
        self.report_refusals();
        clients.iter().for_each(|client| client.core().died(death));
        self.end_if_alone();
    }

    /// Ends a group whose task has died, after its last client: another thread may be emitting the end of one.
    fn end_if_alone(&self) {
        let children = self.lock();
        let Some(unsent) = children.unsent.filter(|_| children.are_gone()) else { return };
        drop(children);
        let report = CloseReport::from(unsent);
        self.component.end_at_once(report, || self.last(report));
    }

    /// Makes the last event.
    pub(crate) fn last(&self, report: CloseReport) -> TaggedData<ClientEvent> {
        self.component.events.traced(TaggedData::new("", ClientEvent::Closed(report)))
    }

    /// Reports the messages that found no room; those that have come together until now share one event.
    pub(crate) fn report_refusals(&self) {
        let unreported = self.lock().take_unreported();
        if let Some((path, refused)) = unreported {
            self.component.events.next(TaggedData::with_key(path, ClientEvent::PathRefused { refused }));
        }
    }
}
