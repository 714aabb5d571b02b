//! Items taken apart by patterns of their paths: patterns in front of the router of `route_by_tag`, which knows them by their numbers.

use std::{array, collections::HashMap, fmt};

use rxrust::{
    observable::{CoreObservable, Observable},
    observer::Observer,
};

use super::route_by_tag::{RouteObserver, Routed, route_through};
use crate::{
    Io, PathMatch, Tag, TaggedData, WsError,
    path_pattern::{Found, PatternSet},
};

/// How many paths an observer remembers with what they match. When there are more, it begins anew.
const REMEMBERED: usize = 1_024;

/// The observer that [`route_by_pattern`](crate::ObservableExt::route_by_pattern) subscribes.
pub struct PatternObserver<T, E> {
    routes: RouteObserver<usize, TaggedData<T, PathMatch>, E>,
    patterns: PatternSet,
    /// What the paths of the items that came before match.
    known: HashMap<Tag, Option<Found>>,
}

/// The items of one pattern each, tagged with what their paths match: what
/// [`route_by_pattern`](crate::ObservableExt::route_by_pattern) returns.
pub type PatternRoutes<T, E, const N: usize> = [Io<Routed<usize, TaggedData<T, PathMatch>, E>>; N];

/// Subscribes to `source`, unless the patterns are none.
pub(super) fn route<S, T, E, P, const N: usize>(source: S, patterns: &[P; N]) -> Result<PatternRoutes<T, E, N>, WsError>
where
    S: Observable<Scheduler: 'static>,
    S::Inner: CoreObservable<S::With<PatternObserver<T, E>>>,
    P: AsRef<str>,
{
    let patterns = PatternSet::new(patterns)?;
    let router = route_through(source, |routes| PatternObserver { routes, patterns, known: HashMap::new() });
    Ok(array::from_fn(|number| router.tag(number)))
}

impl<T, E> PatternObserver<T, E> {
    fn find(&mut self, path: Tag) -> Option<Found> {
        if let Some(found) = self.known.get(&path) {
            return found.clone();
        }
        let found = self.patterns.find(&path);
        if self.known.len() == REMEMBERED {
            // All at once, which costs less than to know which are the oldest.
            self.known = HashMap::new();
        }
        self.known.insert(path, found.clone());
        found
    }
}

impl<T, E> Observer<TaggedData<T>, E> for PatternObserver<T, E>
where
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn next(&mut self, TaggedData { tag, data }: TaggedData<T>) {
        if let Some(Found { pattern, path }) = self.find(tag) {
            let item = TaggedData::with_key(pattern, TaggedData::with_key(path, data));
            Observer::<_, E>::next(&mut self.routes, item);
        }
    }

    fn error(self, error: E) {
        self.routes.error(error);
    }

    fn complete(self) {
        Observer::<TaggedData<TaggedData<T, PathMatch>, usize>, E>::complete(self.routes);
    }

    fn is_closed(&self) -> bool {
        Observer::<TaggedData<TaggedData<T, PathMatch>, usize>, E>::is_closed(&self.routes)
    }
}

impl<T, E> Clone for PatternObserver<T, E> {
    fn clone(&self) -> Self {
        Self { routes: self.routes.clone(), patterns: self.patterns.clone(), known: HashMap::new() }
    }
}

impl<T, E> fmt::Debug for PatternObserver<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatternObserver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::{operators::recorder::Recorder, prelude::*};

    type Inbound<E> = SerializedSubject<TaggedData<usize>, E>;

    #[test]
    fn items_reach_the_subscribers_of_the_pattern_that_matches_best_with_their_parameters() {
        let inbound = Inbound::<Infallible>::new();
        let patterns = ["/rooms/{room}", "/rooms/lobby", "/{*rest}"];
        let [rooms, lobby, rest] = Io::new(inbound.clone()).route_by_pattern(patterns).unwrap();
        let heard = [Recorder::default(), Recorder::default(), Recorder::default()];
        rooms.map(|td| format!("{}: {}", &td.tag["room"], td.data)).subscribe_with(heard[0].clone());
        lobby.map(|td| format!("{}: {}", td.tag.path(), td.data)).subscribe_with(heard[1].clone());
        rest.map(|td| format!("{}: {}", &td.tag["rest"], td.data)).subscribe_with(heard[2].clone());
        for (n, path) in
            ["/rooms/7", "/rooms/lobby", "/x/y", "/rooms/the%20attic", "/", "/rooms/7"].into_iter().enumerate()
        {
            inbound.next(TaggedData::new(path, n));
        }
        inbound.complete();
        let expected: [&[&str]; 3] = [
            &["\"7: 0\"", "\"the attic: 3\"", "\"7: 5\"", "complete"],
            &["\"/rooms/lobby: 1\"", "complete"],
            &["\"x/y: 2\"", "complete"],
        ];
        assert_eq!(
            heard.map(|heard| heard.heard()),
            expected.map(|lines| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>())
        );
    }

    #[test]
    fn error_reaches_the_subscribers_of_all_patterns_and_those_who_come_late() {
        let inbound = Inbound::<&str>::new();
        let [early, late] = Io::new(inbound.clone()).route_by_pattern(["/a/{x}", "/b/{x}"]).unwrap();
        let heard = Recorder::default();
        early.map(|td| td.data).subscribe_with(heard.clone());
        inbound.error("broken");
        late.map(|td| td.data).subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["error \"broken\""; 2]);
    }

    #[test]
    fn source_is_not_subscribed_to_when_a_pattern_is_none() {
        let inbound = Inbound::<Infallible>::new();
        let held = std::sync::Arc::new(());
        let holds = held.clone();
        let source = Io::new(inbound.clone()).map(move |td| {
            let _ = &holds;
            td
        });
        let error = source.route_by_pattern(["/rooms/{room}", "/rooms/{other}"]).err().unwrap();
        assert!(matches!(error, WsError::InvalidPattern { .. }), "{error:?}");
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }

    #[test]
    fn subscriber_that_panics_takes_nobody_along() {
        let inbound = Inbound::<Infallible>::new();
        let [rooms] = Io::new(inbound.clone()).route_by_pattern(["/{room}"]).unwrap();
        let heard = Recorder::default();
        rooms.clone().subscribe(|td| _ = &td.tag["no such name"]);
        rooms.map(|td| td.data).subscribe_with(heard.clone());
        (0..2).for_each(|n| inbound.next(TaggedData::new("/a", n)));
        assert_eq!(heard.heard(), ["0", "1"]);
    }

    #[test]
    fn more_paths_than_are_remembered_are_routed_as_well() {
        let inbound = Inbound::<Infallible>::new();
        let [rooms] = Io::new(inbound.clone()).route_by_pattern(["/{room}"]).unwrap();
        let heard = Recorder::default();
        rooms
            .map(|td| td.tag["room"].parse::<usize>().unwrap() == td.data)
            .filter(|is_right| *is_right)
            .subscribe_with(heard.clone());
        for n in 0..3 * REMEMBERED {
            inbound.next(TaggedData::new(format!("/{n}"), n));
        }
        assert_eq!(heard.heard().len(), 3 * REMEMBERED);
    }

    #[test]
    fn source_is_left_when_all_patterns_and_their_subscribers_are_gone() {
        let inbound = Inbound::<Infallible>::new();
        let held = std::sync::Arc::new(());
        let holds = held.clone();
        let source = Io::new(inbound.clone()).map(move |td| {
            let _ = &holds;
            td
        });
        let [a, b] = source.route_by_pattern(["/a", "/b"]).unwrap();
        let seen = a.subscribe(|_| {});
        drop(b);
        inbound.next(TaggedData::new("/b", 0));
        assert_eq!(std::sync::Arc::strong_count(&held), 2);
        seen.unsubscribe();
        (0..2).for_each(|n| inbound.next(TaggedData::new("/a", n)));
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }
}
