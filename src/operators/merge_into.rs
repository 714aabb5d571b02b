use rxrust::observer::Observer;

/// The observer that [`merge_into`](crate::ObservableExt::merge_into) subscribes: it passes on items, but not the terminal
/// event.
#[derive(Clone, Debug)]
pub struct MergeIntoObserver<O> {
    subject: O,
}

impl<O> MergeIntoObserver<O> {
    pub(super) fn new(subject: O) -> Self {
        Self { subject }
    }
}

impl<O, Item, Err> Observer<Item, Err> for MergeIntoObserver<O>
where
    O: Observer<Item, Err>,
{
    fn next(&mut self, item: Item) {
        self.subject.next(item);
    }

    fn error(self, _: Err) {}

    fn complete(self) {}

    fn is_closed(&self) -> bool {
        self.subject.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::{operators::recorder::Recorder, prelude::*};

    /// Takes the same as a client: anything that converts into its item, errors that convert into [`WsError`].
    #[derive(Clone, Default)]
    struct MockClient(Arc<Mutex<Vec<String>>>);

    impl<T: Into<String>, E: Into<WsError>> Observer<T, E> for MockClient {
        fn next(&mut self, item: T) {
            self.0.lock().unwrap().push(item.into());
        }

        fn error(self, _: E) {
            panic!("errored");
        }

        fn complete(self) {
            panic!("completed");
        }

        fn is_closed(&self) -> bool {
            false
        }
    }

    #[test]
    fn items_of_several_sources_reach_the_subject_and_their_ends_do_not() {
        let (all, heard) = (SerializedSubject::<u8, &str>::new(), Recorder::default());
        Io::new(all.clone()).subscribe_with(heard.clone());
        Io::of(1).with_err().merge_into(&all);
        let second = SerializedSubject::<u8, &str>::new();
        Io::new(second.clone()).merge_into(&all);
        second.next(2);
        second.error("broken");
        Local::of(3).with_err().merge_into(&all);
        assert_eq!(heard.heard(), ["1", "2", "3"]);
    }

    #[test]
    fn observer_generic_over_items_and_errors_takes_an_infallible_source_and_a_failing_one() {
        let client = MockClient::default();
        Io::of("text").merge_into(&client);
        Local::of(String::from("local")).merge_into(&client);
        let source = SerializedSubject::<char, WsError>::new();
        Io::new(source.clone()).merge_into(&client);
        Io::new(source.clone()).log_errors().merge_into(&client);
        source.next('c');
        source.error(WsError::application("broken"));
        assert_eq!(*client.0.lock().unwrap(), ["text", "local", "c", "c"]);
    }

    #[test]
    fn unsubscribed_source_feeds_no_more() {
        let (source, all) = (SerializedSubject::<u8, Infallible>::new(), SerializedSubject::new());
        let heard = Recorder::default();
        Io::new(all.clone()).subscribe_with(heard.clone());
        let feeding = Io::new(source.clone()).merge_into(&all);
        source.next(1);
        feeding.unsubscribe();
        source.next(2);
        assert_eq!(heard.heard(), ["1"]);
    }

    #[test]
    fn source_is_left_once_the_subject_has_ended() {
        let (source, all) = (SerializedSubject::<u8, Infallible>::new(), SerializedSubject::new());
        let feeding = Io::new(source.clone()).merge_into(&all);
        all.complete();
        source.next(1);
        assert!(feeding.is_closed());
    }

    #[test]
    fn crossed_sources_do_not_wait_for_each_other() {
        let (left, right) = (SerializedSubject::<u8, Infallible>::new(), SerializedSubject::<u8, Infallible>::new());
        let heard = Recorder::default();
        Io::new(left.clone()).filter(|n| *n < 5).map(|n| n + 1).merge_into(&right);
        Io::new(right.clone()).merge_into(&left);
        Io::new(right.clone()).subscribe_with(heard.clone());
        left.next(3);
        assert_eq!(heard.heard(), ["4", "5"]);
    }
}
