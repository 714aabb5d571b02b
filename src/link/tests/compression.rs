//! Compressed messages on links that break, and that agree on something else.

use super::*;
use crate::{
    Deflate,
    protocol::{decoder::Decoder, deflate::Agreed, read_block::Block},
};

fn agreed() -> Agreed {
    Deflate::new().min_len(0).usual()
}

/// A text that becomes shorter, but not much: digits.
fn digits(number: usize) -> Frame {
    let digits = std::iter::repeat_with(|| char::from(b'0' + rand::random::<u8>() % 10));
    text(&format!("{number:03} {}", digits.take(2000).collect::<String>()))
}

/// A link of an outbox that agrees on compression or not, on a socket that takes so many bytes.
fn open(
    outbox: &Outbox,
    deflate: Option<Agreed>,
    socket_len: usize,
) -> (DuplexStream, JoinHandle<Ending>, mpsc::UnboundedReceiver<Frame>) {
    let (socket, peer) = duplex(socket_len);
    let (say, heard) = mpsc::unbounded_channel();
    let mut link = Plan::new(Role::Client).link(outbox);
    link.link.deflate = deflate;
    let drive = async move { drive(socket, link, |frame| receipt(say.send(frame)), std::future::pending()).await };
    (peer, tokio::spawn(drive), heard)
}

#[tokio::test(start_paused = true)]
async fn compressed_messages_that_a_link_did_not_write_go_out_whole_and_once_and_plain_on_the_next() {
    let outbox = outbox();
    let messages: Vec<_> = (0..100).map(digits).collect();
    messages.iter().for_each(|message| outbox.push(message.clone()).unwrap());
    // It breaks within some message.
    let (mut peer, driving, _) = open(&outbox, Some(agreed()), 1000);
    let mut begun = vec![0; 20_000];
    peer.read_exact(&mut begun).await.unwrap();
    drop(peer);
    assert!(driving.await.unwrap().error.is_some());
    let stats = outbox.stats();
    let written = stats.written.messages as usize;
    assert_eq!(stats.compressed, stats.written);
    assert!(written > 10 && stats.compressed_to < stats.compressed.len / 2);
    let (peer, _driving, _) = open(&outbox, None, 1 << 20);
    let mut peer = websocket(peer, Role::Server).await;
    for message in &messages[written..] {
        assert_eq!(peer.next().await.unwrap().unwrap(), Message::text(message.as_text().unwrap()));
    }
    assert_eq!(outbox.stats().compressed, stats.compressed);
}

#[tokio::test(start_paused = true)]
async fn messages_dropped_for_newer_ones_are_counted_once_and_the_rest_arrives_in_order() {
    let bound = OutboxBound::new(8, 1 << 20, Overflow::DropOldest);
    let outbox = Outbox::unreported(bound);
    let (mut peer, driving, _) = open(&outbox, Some(agreed()), 1000);
    for number in 0..100 {
        outbox.push(digits(number)).unwrap();
        // The link takes what it can, and gives back what it has not begun.
        sleep(SECOND / 10).await;
    }
    let (dropped, waiting) = (outbox.stats().dropped.overflow.messages, outbox.stats().queued.messages);
    assert!(dropped > 80 && outbox.stats().accepted.messages == 100);
    let (mut bytes, arrived) = (Vec::new(), 100 - dropped);
    let mut decoder = Decoder::new(Role::Server, 1 << 20, 1 << 20, Some(agreed()));
    let mut numbers = Vec::new();
    while (numbers.len() as u64) < arrived {
        bytes.push(peer.read_u8().await.unwrap());
        let mut input = &bytes[..];
        if let Ok(message) = decoder.decode(&mut input, &mut Block::default(), &mut Vec::new()) {
            numbers.push(message.to_text().unwrap()[..3].parse::<u32>().unwrap());
        }
        bytes = input.to_vec();
    }
    assert!(numbers.is_sorted() && numbers.last() == Some(&99));
    let stats = outbox.stats();
    assert_eq!((stats.written.messages, stats.compressed), (arrived, stats.written), "{waiting} had waited");
    drop(driving);
}

#[tokio::test(start_paused = true)]
async fn message_that_is_no_deflate_is_closed_with_1007_and_one_that_becomes_too_long_with_1009() {
    let bomb = agreed().compress(&vec![0; 2 << 20]).unwrap().bytes;
    for (payload, code) in [(&b"\xff\xff"[..], 1007), (&bomb[..], 1009)] {
        let outbox = outbox();
        let (mut peer, driving, mut heard) = open(&outbox, Some(agreed()), 1 << 20);
        let mut frame = wire(Role::Server, BINARY, payload);
        frame[0] |= 0x40;
        peer.write_all(&frame).await.unwrap();
        let mut head = [0; 8];
        peer.read_exact(&mut head).await.unwrap();
        let close = [head[6] ^ head[2], head[7] ^ head[3]];
        assert_eq!((head[0], u16::from_be_bytes(close)), (0x88, code));
        drop(peer);
        let error = driving.await.unwrap().error;
        assert!(matches!(error, Some(WsError::Protocol { .. })));
        // Nobody knows how long it would have become.
        assert!(code == 1007 || error.unwrap().to_string().contains("longer than the limit of"));
        assert!(heard.try_recv().is_err());
    }
}

/// Subscribers that hear nothing of what has come, until they hear all.
#[derive(Default)]
struct Deaf {
    waiting: AtomicUsize,
    inflated: AtomicUsize,
    held: Mutex<Vec<Waker>>,
}

impl Deaf {
    fn hear_all(&self) -> usize {
        let heard = self.waiting.swap(0, Ordering::Relaxed);
        self.held.lock().unwrap().drain(..).for_each(Waker::wake);
        heard
    }
}

impl Backlog for Deaf {
    fn poll_at_most(&self, most: usize, cx: &Context<'_>) -> Poll<()> {
        if self.waiting.load(Ordering::Relaxed) <= most {
            return Poll::Ready(());
        }
        self.held.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    }

    fn inflated(&self) -> &AtomicUsize {
        &self.inflated
    }
}

/// How many of the long messages of 100 links wait at most, each the first of its link or behind these bytes.
async fn most_that_wait(before: &[u8]) -> usize {
    const LINKS: usize = 100;
    let message = agreed().compress(&vec![0; 1 << 20]).unwrap().bytes;
    let mut frame = wire(Role::Client, BINARY, &message);
    frame[0] |= 0x40;
    let deaf = Arc::new(Deaf::default());
    let mut links = Vec::new();
    for _ in 0..LINKS {
        let (socket, mut peer) = duplex(1 << 16);
        let plan = Plan { inbound: deaf.clone(), ..Plan::new(Role::Server) };
        let mut link = plan.link(&outbox());
        link.link.deflate = Some(agreed());
        let subscribers = deaf.clone();
        let receive = move |message: Frame| {
            subscribers.waiting.fetch_add(usize::from(message.len() > 1), Ordering::Relaxed);
            Receipt::Taken
        };
        peer.write_all(before).await.unwrap();
        links.push((peer, tokio::spawn(drive(socket, link, receive, std::future::pending()))));
    }
    sleep(SECOND).await;
    for (peer, _) in &mut links {
        peer.write_all(&frame).await.unwrap();
    }
    let (mut all, mut most) = (0, 0);
    while all < LINKS {
        sleep(SECOND).await;
        let heard = deaf.hear_all();
        assert!(heard > 0, "{all} were heard, and then no more");
        (all, most) = (all + heard, most.max(heard));
    }
    assert_eq!(all, LINKS);
    most
}

#[tokio::test(start_paused = true)]
async fn long_messages_of_many_links_do_not_all_wait_at_once() {
    // 16 MiB, and one more.
    assert_eq!(most_that_wait(b"").await, 17);
    // Peers that have sent short ones are held later.
    assert_eq!(most_that_wait(&wire(Role::Client, BINARY, b"x")).await, 65);
}

#[tokio::test(start_paused = true)]
async fn turn_inflates_a_bounded_length() {
    // 1,000 messages of 1 MiB in 1 MB: a turn takes two, and then another task has its own.
    let message = agreed().compress(&vec![0; 1 << 20]).unwrap().bytes;
    let mut frame = wire(Role::Server, BINARY, &message);
    frame[0] |= 0x40;
    let outbox = outbox();
    let (mut peer, _driving, mut heard) = open(&outbox, Some(agreed()), 1 << 24);
    peer.write_all(&frame.repeat(1000)).await.unwrap();
    let (mut turns, mut most) = (0, 0);
    let mut left = 1000;
    while left > 0 {
        tokio::task::yield_now().await;
        let mut count = 0;
        while heard.try_recv().is_ok() {
            count += 1;
        }
        (most, left, turns) = (most.max(count), left - count, turns + 1);
        assert!(turns < 100_000, "it stands still");
    }
    assert!(most <= 3, "{most} messages in a turn");
}
