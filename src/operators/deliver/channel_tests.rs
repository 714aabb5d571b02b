//! Apart from `channel.rs`, which `tests/loom` compiles a second time.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

use crate::operators::deliver::channel::{Bounds, Channel, Lossy};

#[test]
fn memory_of_a_burst_is_given_back_by_the_one_who_receives_it() {
    for limit in [1, 256] {
        let bounds = Bounds { capacity: usize::MAX, lossy: Lossy::DropLatest, crowd: usize::MAX };
        let channel = Channel::<usize, ()>::new(bounds);
        (0..100_000).for_each(|n| assert!(channel.push(n).lost.is_none()));
        let (mut batch, mut received) = (VecDeque::new(), 0);
        while channel.poll(&mut batch, limit, &mut Context::from_waker(Waker::noop())).is_ready() {
            received += batch.drain(..).count();
        }
        assert_eq!(received, 100_000);
        assert!(batch.capacity() <= 4_096, "room for {}", batch.capacity());
    }
}
