use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use rxrust::observer::Observer;

/// Writes down every call.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder {
    heard: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn note(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }
}

impl<T: Debug, E: Debug> Observer<T, E> for Recorder {
    fn next(&mut self, item: T) {
        self.note(format!("{item:?}"));
    }

    fn error(self, error: E) {
        self.note(format!("error {error:?}"));
    }

    fn complete(self) {
        self.note("complete".into());
    }

    fn is_closed(&self) -> bool {
        false
    }
}
