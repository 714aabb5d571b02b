//! Messages that are compressed on their way to the link.

use bytes::Bytes;

use super::*;
use crate::{Deflate, protocol::deflate::Agreed, session::verb::DLE};

fn agreed() -> Agreed {
    Deflate::new().usual()
}

fn text(len: usize) -> Frame {
    Frame::Text("x".repeat(len).into())
}

fn with_messages(messages: impl IntoIterator<Item = Frame>) -> Outbox {
    let outbox = outbox(99, 1 << 20, Overflow::DropOldest);
    messages.into_iter().for_each(|message| outbox.push(message).unwrap());
    outbox
}

/// The compressed forms, or the lengths, of the messages that a link takes.
fn take(outbox: &Outbox, agreed: Option<Agreed>) -> Vec<Result<Bytes, usize>> {
    let mut taken = Vec::new();
    outbox.take_each(1 << 20, agreed.as_ref(), |message, _| {
        let compressed = agreed.as_ref().and_then(|agreed| message.compressed(agreed));
        taken.push(compressed.map(|(_, form)| form.clone()).ok_or(message.frames()[0].len()));
    });
    taken
}

#[test]
fn nobody_who_pushes_waits_while_a_message_is_compressed() {
    let (outbox, mut pushed) = (with_messages([text(1000)]), false);
    outbox.take_each(1 << 20, Some(&agreed()), |_, _| {
        if !std::mem::replace(&mut pushed, true) {
            outbox.push(text(1)).unwrap();
        }
    });
    assert_eq!(outbox.lock().taken, 2);
}

#[test]
fn short_and_incompressible_messages_and_those_like_control_messages_are_taken_as_they_are() {
    let noise: Vec<u8> = std::iter::repeat_with(rand::random).take(1000).collect();
    let like_control = Frame::Text((char::from(DLE).to_string() + &"x".repeat(999)).into());
    let outbox = with_messages([text(511), noise.into(), like_control, text(512)]);
    let taken = take(&outbox, Some(agreed()));
    assert_eq!((&taken[..3], taken[3].is_ok()), (&[Err(511), Err(1000), Err(1000)][..], true));
}

#[test]
fn message_that_is_taken_back_is_not_compressed_again() {
    let outbox = with_messages([text(1000), text(1000)]);
    let before = take(&outbox, Some(agreed()));
    drop(outbox.untake(2, None).run());
    let after = take(&outbox, Some(agreed()));
    let memory = |taken: &[Result<Bytes, usize>]| taken.iter().map(|form| form.as_ref().unwrap().as_ptr()).collect();
    let (before, after): (Vec<_>, Vec<_>) = (memory(&before), memory(&after));
    assert_eq!(before, after);
}

#[test]
fn compressed_message_goes_on_plain_to_a_link_that_has_not_agreed() {
    let outbox = with_messages([text(1000)]);
    assert!(take(&outbox, Some(agreed()))[0].is_ok());
    outbox.detach(false);
    assert_eq!(take_some(&outbox, 1 << 20), [text(1000)]);
    outbox.confirm(1, false);
    let stats = outbox.stats();
    assert_eq!((stats.written, stats.queued.messages), (Tally { messages: 1, len: 1000 }, 0));
}

#[test]
fn message_is_compressed_anew_for_a_link_with_a_smaller_window() {
    let small = Deflate::new().answer(["permessage-deflate; server_max_window_bits=9"].into_iter()).unwrap().agreed;
    let outbox = with_messages([text(1000)]);
    let large = take(&outbox, Some(agreed()));
    outbox.detach(false);
    let anew = take(&outbox, Some(small));
    assert!(large[0].is_ok() && anew[0].is_ok());
    assert_ne!(large[0].as_ref().unwrap().as_ptr(), anew[0].as_ref().unwrap().as_ptr());
}

#[test]
fn message_for_many_is_compressed_once_more_for_all_links_with_smaller_windows() {
    let small = |window: u8| {
        let offer = format!("permessage-deflate; server_max_window_bits={window}");
        Deflate::new().answer([&*offer].into_iter()).unwrap().agreed
    };
    let mut message = OutboxFrame::from(text(100_000)).shared();
    message.compress(&agreed());
    let taken: Vec<_> = [8, 9, 12, 14, 15]
        .into_iter()
        .map(|window| {
            let outbox = with_messages([]);
            outbox.offer(message.clone(), None).0.unwrap();
            take(&outbox, Some(small(window))).remove(0).map(|form| form.as_ptr())
        })
        .collect();
    assert_eq!(taken[0], Err(100_000));
    assert!(taken[1].is_ok() && taken[1..4].iter().all(|form| *form == taken[1]), "{taken:?}");
    assert!(taken[4].is_ok() && taken[4] != taken[1]);
}

#[test]
fn payload_of_a_compressed_message_is_dropped_outside_the_lock() {
    struct Owner(Outbox, Vec<u8>);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.1
        }
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            // Waits for ever under the lock.
            self.0.push(text(1)).unwrap();
        }
    }

    let outbox = with_messages([]);
    outbox.push(Bytes::from_owner(Owner(outbox.clone(), vec![0; 1000])).into()).unwrap();
    assert!(take(&outbox, Some(agreed()))[0].is_ok());
    outbox.confirm(1, false);
    assert_eq!(outbox.stats().queued, Tally { messages: 1, len: 1 });
}
