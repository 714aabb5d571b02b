//! [`Replay`]: the items that a component's subject remembers for later subscribers.

use std::{
    collections::VecDeque,
    mem::{replace, take},
    sync::Arc,
};

use crate::numbered::Numbered;

/// The items that a new observer hears before anything else. Boxed, since most of the many subjects have none.
pub(crate) enum Replay<T> {
    /// Nothing: it hears the next item.
    Nothing,
    /// The items that nobody has heard yet: for the first observer alone.
    Early(Box<dyn Early<T>>),
    /// The item emitted last, if there has been one.
    Latest(Option<Box<T>>),
    /// The items that nobody hears are kept by another subject.
    Elsewhere(Arc<dyn Elsewhere<T>>),
    /// What is so, as the items tell of it one by one.
    Keyed(Box<dyn Keyed<T>>),
}

/// What is so, as a subject's items tell of it. Called under a lock, and calls nobody.
pub(crate) trait Keyed<T>: Send {
    /// Notes an item. Returns the one that it takes the place of.
    fn note(&mut self, item: &T) -> Option<T>;

    /// The items that tell everything.
    fn all(&self) -> Vec<T>;

    /// Forgets the item with this number, if items have numbers.
    fn forget(&mut self, _number: u64) -> Option<T> {
        None
    }
}

/// All items that have not been forgotten.
struct Members<T> {
    members: Numbered<T>,
    number: fn(&T) -> u64,
}

impl<T: Clone + Send> Keyed<T> for Members<T> {
    fn note(&mut self, item: &T) -> Option<T> {
        self.members.insert((self.number)(item), item.clone())
    }

    fn all(&self) -> Vec<T> {
        self.members.values().cloned().collect()
    }

    fn forget(&mut self, number: u64) -> Option<T> {
        self.members.remove(number)
    }
}

/// The memory of a subject that several others share.
pub(crate) trait Elsewhere<T>: Send + Sync {
    /// Keeps an item, if the subject still keeps any. Called under a lock, and calls nobody.
    fn keep(&self, item: T) -> Noted<T>;

    /// Takes out the items that are kept for this subject. Called under a lock, and calls nobody.
    fn take(&self) -> Vec<T>;

    /// Emits an item there that the subject no longer keeps.
    fn emit(&self, item: T);
}

/// The fate of an item that came up for emission.
pub(crate) struct Noted<T> {
    /// The item, if it is still to be emitted.
    pub(crate) item: Option<T>,
    /// The items that are no longer kept: to be dropped where user code may run.
    pub(crate) dropped: Vec<T>,
}

/// Made for some types of items alone, as [`Early`] and [`Keyed`] are compiled for those alone.
impl<T: Send + 'static> Replay<T> {
    /// Keeps the items that nobody hears, until there is a first observer.
    pub(crate) fn early(
        bounds: EarlyBounds,
        item_len: fn(&T) -> usize,
        on_loss: impl FnMut(usize) + Send + 'static,
    ) -> Self {
        let (items, on_loss) = (VecDeque::new(), Box::new(on_loss));
        Self::Early(Box::new(EarlyItems { items, len: 0, bounds, loses_newest: false, item_len, on_loss }))
    }

    /// Keeps the first `count` items that nobody hears, until there is a first observer.
    pub(crate) fn first(count: usize) -> Self {
        let bounds = EarlyBounds { items: count, len: usize::MAX };
        let (items, on_loss) = (VecDeque::new(), Box::new(|_| {}));
        Self::Early(Box::new(EarlyItems { items, len: 0, bounds, loses_newest: true, item_len: |_| 0, on_loss }))
    }

    /// Keeps all items, told apart by `number`, until they are forgotten.
    pub(crate) fn members(number: fn(&T) -> u64) -> Self
    where
        T: Clone,
    {
        Self::Keyed(Box::new(Members { members: Numbered::default(), number }))
    }
}

impl<T> Replay<T> {
    /// Keeps the item emitted last, and `initial` before there is one.
    pub(crate) fn latest(initial: T) -> Self {
        Self::Latest(Some(Box::new(initial)))
    }

    /// Keeps the item emitted last.
    #[cfg(feature = "nats")]
    pub(crate) fn last() -> Self {
        Self::Latest(None)
    }

    pub(crate) fn is_early(&self) -> bool {
        matches!(self, Self::Early(_))
    }

    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }

    /// Whether items are to be [noted](Self::note) although somebody hears them.
    pub(crate) fn notes_all(&self) -> bool {
        !matches!(self, Self::Nothing | Self::Elsewhere(_))
    }

    pub(crate) fn forget(&mut self, number: u64) -> Option<T> {
        match self {
            Self::Keyed(keyed) => keyed.forget(number),
            _ => None,
        }
    }

    /// Takes out the early items, and what else is kept.
    pub(crate) fn take(&mut self) -> (Vec<T>, Self) {
        let early = match self {
            Self::Early(early) => early.take_all(),
            _ => Vec::new(),
        };
        (early, replace(self, Self::Nothing))
    }

    /// Takes out the early items that are `wanted`.
    pub(crate) fn take_early(&mut self, wanted: &dyn Fn(&T) -> bool) -> Vec<T> {
        match self {
            Self::Early(early) => early.take_if(wanted),
            _ => Vec::new(),
        }
    }
}

impl<T: Clone> Replay<T> {
    /// Notes an item that comes up for emission, perhaps to `nobody`.
    pub(crate) fn note(&mut self, item: T, nobody: bool) -> Noted<T> {
        match self {
            Self::Early(early) if nobody => Noted { item: None, dropped: early.push(item) },
            Self::Elsewhere(elsewhere) if nobody => elsewhere.keep(item),
            Self::Nothing | Self::Early(_) | Self::Elsewhere(_) => Noted::unkept(item),
            Self::Latest(latest) => {
                let former = latest.replace(Box::new(item.clone()));
                Noted::replacing(former.map(|former| *former), item)
            }
            Self::Keyed(keyed) => {
                let former = keyed.note(&item);
                Noted::replacing(former, item)
            }
        }
    }

    /// The items that a new observer hears first.
    pub(crate) fn backlog(&mut self) -> Vec<T> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Elsewhere(elsewhere) => elsewhere.take(),
            Self::Early(early) => {
                let items = early.take_all();
                *self = Self::Nothing;
                items
            }
            Self::Latest(latest) => latest.as_ref().map_or_else(Vec::new, |latest| vec![T::clone(latest)]),
            Self::Keyed(keyed) => keyed.all(),
        }
    }
}

impl<T> Noted<T> {
    pub(crate) fn unkept(item: T) -> Self {
        Self { item: Some(item), dropped: Vec::new() }
    }

    /// `former` is no longer kept.
    fn replacing(former: Option<T>, item: T) -> Self {
        let mut noted = Self::unkept(item);
        if let Some(former) = former {
            // A vector would start with room for four.
            noted.dropped.reserve_exact(1);
            noted.dropped.push(former);
        }
        noted
    }

    pub(crate) fn map<R>(self, f: impl Fn(T) -> R) -> Noted<R> {
        Noted { item: self.item.map(&f), dropped: self.dropped.into_iter().map(f).collect() }
    }
}

/// Items that wait for a first observer. Called under a lock, and calls nobody.
pub(crate) trait Early<T>: Send {
    /// Returns the items that are lost.
    fn push(&mut self, item: T) -> Vec<T>;

    /// Takes out the items that are `wanted`.
    fn take_if(&mut self, wanted: &dyn Fn(&T) -> bool) -> Vec<T>;

    fn take_all(&mut self) -> Vec<T>;
}

/// When full, it loses some and says so.
struct EarlyItems<T> {
    items: VecDeque<T>,
    len: usize,
    bounds: EarlyBounds,
    /// When full, whether the newest items are lost instead of the oldest.
    loses_newest: bool,
    /// How many bytes an item stands for.
    item_len: fn(&T) -> usize,
    /// Called with the length of each lost item; must not call observers.
    on_loss: Box<dyn FnMut(usize) + Send>,
}

/// The bounds of the items kept for a first observer.
#[derive(Clone, Copy)]
pub(crate) struct EarlyBounds {
    pub(crate) items: usize,
    /// In bytes.
    pub(crate) len: usize,
}

impl<T: Send> Early<T> for EarlyItems<T> {
    fn push(&mut self, item: T) -> Vec<T> {
        let len = (self.item_len)(&item);
        if self.loses_newest && !self.has_room_for(len) {
            (self.on_loss)(len);
            return vec![item];
        }
        let mut lost = Vec::new();
        while !self.has_room_for(len)
            && let Some(oldest) = self.items.pop_front()
        {
            let len = (self.item_len)(&oldest);
            self.len -= len;
            (self.on_loss)(len);
            if lost.is_empty() {
                // One as a rule: a vector would start with room for four.
                lost.reserve_exact(1);
            }
            lost.push(oldest);
        }
        if !self.has_room_for(len) {
            // By itself longer than all together may be.
            (self.on_loss)(len);
            lost.push(item);
            return lost;
        }
        self.len += len;
        self.items.push_back(item);
        lost
    }

    fn take_if(&mut self, wanted: &dyn Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        // Most often there is none, and looking costs less than moving the items that stay.
        if !self.items.iter().any(wanted) {
            return taken;
        }
        for item in take(&mut self.items) {
            if wanted(&item) {
                self.len -= (self.item_len)(&item);
                taken.push(item);
            } else {
                self.items.push_back(item);
            }
        }
        taken
    }

    fn take_all(&mut self) -> Vec<T> {
        self.len = 0;
        take(&mut self.items).into()
    }
}

impl<T> EarlyItems<T> {
    fn has_room_for(&self, len: usize) -> bool {
        self.items.len() < self.bounds.items && len <= self.bounds.len.saturating_sub(self.len)
    }
}
