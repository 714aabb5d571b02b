//! A `clone` is code of the user's: it may use the subject, and take its time.

use super::*;

type Todo = Box<dyn FnOnce() + Send>;

/// An item, an error or a key, whose next clone does something.
#[derive(Debug)]
struct Doing(Arc<NextClone>);

/// What the next clone does.
#[derive(Default)]
struct NextClone(Mutex<Option<Todo>>);

impl std::fmt::Debug for NextClone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NextClone")
    }
}

impl NextClone {
    fn set(&self, todo: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(todo));
    }
}

impl Doing {
    /// With what its clones do.
    fn new() -> (Self, Arc<NextClone>) {
        let next = Arc::<NextClone>::default();
        (Self(next.clone()), next)
    }
}

impl Clone for Doing {
    fn clone(&self) -> Self {
        let todo = self.0.0.lock().unwrap().take();
        todo.into_iter().for_each(|todo| todo());
        Self(self.0.clone())
    }
}

impl PartialEq for Doing {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Doing {}

impl std::hash::Hash for Doing {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// Runs `work` on a thread of its own, so that a lock that is held for ever fails the test.
fn returns(work: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    finished.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn clone_of_an_error_for_a_late_subscriber_may_use_the_subject() {
    returns(|| {
        let subject = SerializedSubject::<u8, Doing>::new();
        let ((error, next_clone), late) = (Doing::new(), subject.clone());
        subject.clone().error(error);
        next_clone.set(move || _ = Io::new(late).on_error(|_| {}).subscribe(|_| {}));
        Io::new(subject).on_error(|_| {}).subscribe(|_| {});
    });
}

#[test]
fn clone_of_an_error_that_is_emitted_may_use_what_emits_it() {
    returns(|| {
        let source = SerializedSubject::<TaggedData<u8>, Doing>::new();
        let (shared, router) = (Io::new(source.clone()).share(), Io::new(source.clone()).route_by_tag());
        shared.clone().on_error(|_| {}).subscribe(|_| {});
        router.tag("/a").on_error(|_| {}).subscribe(|_| {});
        let (error, next_clone) = Doing::new();
        let (again, late) = (next_clone.clone(), source.clone());
        // Each clone that is made, wherever that is.
        fn use_all(
            next_clone: Arc<NextClone>,
            late: SerializedSubject<TaggedData<u8>, Doing>,
            use_them: impl Fn() + Send + Clone + 'static,
        ) {
            let again = next_clone.clone();
            next_clone.set(move || {
                use_them();
                late.next(TaggedData::new("/a", 1));
                use_all(again, late, use_them);
            });
        }
        use_all(again, late, move || {
            _ = format!("{router:?}");
            let subscription = router.tag("/b").on_error(|_| {}).subscribe(|_| {});
            subscription.unsubscribe();
            shared.clone().on_error(|_| {}).subscribe(|_| {}).unsubscribe();
        });
        source.error(error);
        drop(next_clone.0.lock().unwrap().take());
    });
}

#[test]
fn clone_and_destructor_of_a_key_may_use_the_router() {
    returns(|| {
        let source = SerializedSubject::<TaggedData<u8, Doing>>::new();
        let (router, (key, next_clone)) = (Io::new(source).route_by_tag(), Doing::new());
        for _ in 0..2 {
            let (again, tag) = (router.clone(), router.tag(Doing(key.0.clone())));
            next_clone.set(move || _ = format!("{again:?}"));
            tag.subscribe(|_| {});
        }
    });
}

/// Two observers, of which the first leaves while `push` makes a clone for it; true if it was called all the same.
fn called_after_leaving(push: impl FnOnce(SerializedSubject<Doing, Doing>, Doing) + Send + 'static) -> bool {
    let subject = SerializedSubject::<Doing, Doing>::new();
    let called = Arc::new(AtomicBool::new(false));
    let [on_next, on_error] = [(); 2].map(|()| called.clone());
    let leaving = Io::new(subject.clone())
        .on_error(move |_| on_error.store(true, SeqCst))
        .subscribe(move |_| on_next.store(true, SeqCst));
    Io::new(subject.clone()).on_error(|_| {}).subscribe(|_| {});
    let (pushed, next_clone) = Doing::new();
    next_clone.set(move || {
        // On another thread, as most who leave.
        thread::spawn(move || leaving.unsubscribe()).join().unwrap();
    });
    push(subject, pushed);
    called.load(SeqCst)
}

#[test]
fn observer_that_leaves_while_its_item_is_cloned_is_not_called() {
    assert!(!called_after_leaving(|subject, item| subject.next(item)));
}

#[test]
fn observer_that_leaves_while_its_error_is_cloned_is_not_called() {
    assert!(!called_after_leaving(|subject, error| subject.error(error)));
}
