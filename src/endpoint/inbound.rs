//! The subject of a client's messages: its own, or a branch of its group's.

use std::sync::Arc;

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::{
    SerializedSubject, SerializedSubscription, Tag, TaggedData, WsError,
    endpoint::Received,
    subject::{
        Backlog,
        branch::{Branch, Main, kept_in},
        replay::Replay,
    },
};

/// The link from a client to the group that it belongs to.
#[derive(Clone)]
pub(crate) struct Member<T> {
    pub(crate) number: u64,
    pub(crate) path: Tag,
    /// The group's own subject.
    pub(crate) group: Main<TaggedData<Received<T>>, WsError>,
    /// The backlog of the group's events.
    pub(crate) events: Arc<dyn Backlog>,
}

/// Where the messages that a client receives go.
#[derive(Clone)]
pub(crate) enum Inbound<T> {
    Own(SerializedSubject<Received<T>, WsError>),
    Branch(Branch<Received<T>, TaggedData<Received<T>>, WsError>, Member<T>),
}

impl<T: Clone + Send + 'static> Member<T> {
    /// The replay of a client's own subject: items that nobody hears go into the early buffer that all clients of the group
    /// share.
    pub(crate) fn replay(&self) -> Replay<Received<T>> {
        let path = self.path.clone();
        kept_in(self.number, self.group.subject.clone(), move |received| TaggedData::with_key(path.clone(), received))
    }
}

impl<T: Clone + Send + 'static> Inbound<T> {
    /// Emits through `own`, and through the group if the client is a `member` of one.
    pub(crate) fn new(own: SerializedSubject<Received<T>, WsError>, member: Option<&Member<T>>) -> Self {
        match member {
            Some(member) => Self::Branch(Branch::new(own, member.group.clone()), member.clone()),
            None => Self::Own(own),
        }
    }

    /// Emits a message. For the driver alone.
    pub(crate) fn emit(&self, received: Received<T>) {
        match self {
            Self::Own(subject) => subject.next(received),
            Self::Branch(branch, Member { path, group, .. }) => {
                branch
                    .emit(path, received, |received| group.subject.relay(TaggedData::with_key(path.clone(), received)));
            }
        }
    }

    /// The deliveries that are still to be made, for the driver.
    pub(crate) fn backlog(&self) -> &dyn Backlog {
        match self {
            Self::Own(subject) => subject,
            Self::Branch(branch, _) => branch,
        }
    }
}

impl<T: Clone + Send + 'static> ObservableType for Inbound<T> {
    type Item<'a>
        = Received<T>
    where
        Self: 'a;
    type Err = WsError;
}

impl<T, C> CoreObservable<C> for Inbound<T>
where
    T: Clone + Send + 'static,
    C: Context,
    C::Inner: Observer<Received<T>, WsError> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        match self {
            Self::Own(subject) => subject.subscribe(context),
            Self::Branch(branch, _) => branch.subscribe(context),
        }
    }
}
