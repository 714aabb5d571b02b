use std::{convert::Infallible, error::Error};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::error::Chain;

/// The observable that [`log_errors`](crate::ObservableExt::log_errors) returns.
#[derive(Clone, Debug)]
pub struct LogErrors<S> {
    pub(super) source: S,
}

#[derive(Clone, Debug)]
pub struct LogErrorsObserver<O> {
    observer: O,
}

impl<S: ObservableType> ObservableType for LogErrors<S> {
    type Item<'a>
        = S::Item<'a>
    where
        Self: 'a;
    type Err = Infallible;
}

impl<S, C> CoreObservable<C> for LogErrors<S>
where
    C: Context,
    S: CoreObservable<C::With<LogErrorsObserver<C::Inner>>>,
{
    type Unsub = S::Unsub;

    fn subscribe(self, context: C) -> Self::Unsub {
        self.source.subscribe(context.transform(|observer| LogErrorsObserver { observer }))
    }
}

impl<O, Item, Err> Observer<Item, Err> for LogErrorsObserver<O>
where
    O: Observer<Item, Infallible>,
    Err: Into<Box<dyn Error>>,
{
    fn next(&mut self, item: Item) {
        self.observer.next(item);
    }

    fn error(self, error: Err) {
        tracing::error!(error = %Chain(&*error.into()), "an observable ended with an error");
        self.observer.complete();
    }

    fn complete(self) {
        self.observer.complete();
    }

    fn is_closed(&self) -> bool {
        self.observer.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use crate::{operators::recorder::Recorder, prelude::*};

    #[test]
    fn error_becomes_a_completion() {
        let (subject, heard) = (SerializedSubject::<u8, WsError>::new(), Recorder::default());
        Io::new(subject.clone()).log_errors().subscribe_with(heard.clone());
        subject.next(1);
        subject.error(WsError::application("broken"));
        assert_eq!(heard.heard(), ["1", "complete"]);
    }

    #[test]
    fn error_may_be_a_text_and_the_source_local() {
        let heard = Recorder::default();
        Local::<()>::throw_err("broken").log_errors().subscribe_with(heard.clone());
        Local::<()>::throw_err(String::from("broken")).log_errors().subscribe_with(heard.clone());
        Local::of(1).log_errors().subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["complete", "complete", "1", "complete"]);
    }
}
