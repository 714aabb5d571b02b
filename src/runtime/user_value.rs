//! [`UserValue`]: a value of the program's that rxplus holds.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};

use super::callback;

/// A value of the program's, such as a function that a builder was given. A panic of its destructor goes no further: what holds
/// it may hold several such values, and a second panic while the first one unwinds would end the process; and what drops it may
/// be a task, or a thread that has nothing to do with it.
#[derive(Clone)]
pub(crate) struct UserValue<T> {
    value: Option<T>,
}

const THERE: &str = "it is there until it is dropped";

impl<T> UserValue<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value) }
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.value.take().expect(THERE)
    }
}

impl<T> Deref for UserValue<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(THERE)
    }
}

impl<T> DerefMut for UserValue<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(THERE)
    }
}

impl<F: Future + Unpin> Future for UserValue<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut **self).poll(cx)
    }
}

impl<T: fmt::Debug> fmt::Debug for UserValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Drop for UserValue<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            callback::isolate("the destructor of a value of the program's", || drop(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a bug of a value's");
        }
    }

    #[test]
    fn several_that_panic_in_drop_go_together_even_while_a_panic_unwinds() {
        let values = [(); 3].map(|()| UserValue::new(Bomb));
        let unwound = std::thread::spawn(move || {
            let _values = values;
            panic!("on purpose");
        });
        assert_eq!(unwound.join().unwrap_err().downcast_ref(), Some(&"on purpose"));
        drop(UserValue::new((UserValue::new(Bomb), UserValue::new(Bomb))));
    }
}
