use std::{collections::VecDeque, future::poll_fn};

use loom::{future::block_on, sync::Arc, thread};

use crate::{
    channel::{Bounds, Channel, End, Lossy},
    model,
};

type Numbers = Channel<usize, ()>;

fn channel(capacity: usize, crowd: usize) -> Arc<Numbers> {
    Arc::new(Channel::new(Bounds { capacity, lossy: Lossy::DropOldest, crowd }))
}

/// Receives until the end, and returns what came and how many were lost.
fn receive_all(channel: &Numbers) -> (Vec<usize>, u64) {
    let (mut heard, mut batch) = (Vec::new(), VecDeque::new());
    loop {
        let received = block_on(poll_fn(|cx| channel.poll(&mut batch, 1, cx)));
        heard.extend(batch.drain(..));
        if received.end.is_some() || !channel.is_open() {
            return (heard, received.lost);
        }
    }
}

fn push(channel: &Numbers, item: usize) -> usize {
    channel.push(item).lost.iter().count()
}

#[test]
fn receiver_that_waits_is_woken_for_every_item_and_for_the_end() {
    model(|| {
        let channel = channel(8, usize::MAX);
        let sender = channel.clone();
        let pushing = thread::spawn(move || {
            push(&sender, 0);
            push(&sender, 1);
            sender.end(End::Complete);
        });
        assert_eq!(receive_all(&channel), (vec![0, 1], 0));
        pushing.join().unwrap();
    });
}

#[test]
fn items_of_two_senders_all_arrive_in_the_order_of_each() {
    model(|| {
        let channel = channel(8, usize::MAX);
        let other = channel.clone();
        let pushing = thread::spawn(move || {
            push(&other, 0);
            push(&other, 1);
        });
        push(&channel, 10);
        pushing.join().unwrap();
        channel.end(End::Complete);
        let (heard, _) = receive_all(&channel);
        assert_eq!(heard.len(), 3);
        assert!(heard.iter().filter(|n| **n < 10).is_sorted());
    });
}

#[test]
fn what_is_lost_and_what_is_received_add_up() {
    model(|| {
        let channel = channel(1, usize::MAX);
        let sender = channel.clone();
        let pushing = thread::spawn(move || {
            let lost = (0..3).map(|n| push(&sender, n)).sum::<usize>();
            sender.end(End::Complete);
            lost
        });
        let (heard, told) = receive_all(&channel);
        let lost = pushing.join().unwrap();
        assert_eq!((heard.len() + lost, told), (3, lost as u64));
        assert!(heard.is_sorted() && heard.last() == Some(&2));
    });
}

#[test]
fn sender_that_waits_for_room_is_always_let_go() {
    model(|| {
        let channel = channel(8, 1);
        let sender = channel.clone();
        let pushing = thread::spawn(move || {
            for n in 0..2 {
                if sender.push(n).is_crowded {
                    sender.wait_for_room();
                }
            }
            sender.end(End::Complete);
        });
        assert_eq!(receive_all(&channel), (vec![0, 1], 0));
        pushing.join().unwrap();
    });
}

#[test]
fn closing_frees_items_senders_that_wait_and_a_receiver_that_waits() {
    model(|| {
        let (channel, item) = (
            Arc::new(Channel::<std::sync::Arc<()>, ()>::new(Bounds {
                capacity: 8,
                lossy: Lossy::DropLatest,
                crowd: 1,
            })),
            std::sync::Arc::new(()),
        );
        let (sender, pushed) = (channel.clone(), item.clone());
        let pushing = thread::spawn(move || {
            if sender.push(pushed).is_crowded {
                sender.wait_for_room();
            }
        });
        let receiver = channel.clone();
        let receiving = thread::spawn(move || {
            let mut batch = VecDeque::new();
            while receiver.is_open() {
                let _ = block_on(poll_fn(|cx| receiver.poll(&mut batch, 1, cx)));
            }
        });
        drop(channel.close());
        pushing.join().unwrap();
        receiving.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    });
}
