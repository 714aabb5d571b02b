//! `cargo run --example cookbook_market`
//!
//! Quotes for a screen that is slower than they come: two topics on one link, the newest quote of each, and a word when
//! there are none any more.

use std::{sync::mpsc, thread};

use rxplus::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Quote {
    symbol: String,
    price: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Wish {
    Subscribe(String),
    Unsubscribe(String),
}

fn show_market(market: &RxWsClient<WsObject<Quote, Wish>>, show: impl FnMut(Quote) + Send + 'static) {
    let [euro, pound] = ["EURUSD", "GBPUSD"].map(|symbol| {
        let (subscribe, unsubscribe) = (Wish::Subscribe(symbol.into()), Wish::Unsubscribe(symbol.into()));
        market.multiplex(move || subscribe.clone(), move || unsubscribe.clone(), move |quote| quote.symbol == symbol)
    });
    let screen = EventLoopScheduler::new("screen");
    let newest = euro.merge(pound).conflate_by(|quote| quote.symbol.clone(), &screen);
    newest.log_errors().subscribe(show); // on a thread of its own, which may be slow

    let silence = market.clone().log_errors().debounce(Duration::from_secs(5));
    silence.subscribe(|_| eprintln!("no quotes for five seconds"));
}

/// A try of it, with an exchange that is faster than the screen.
fn main() -> Result<(), WsError> {
    let exchange = RxWsServer::bind("ws://127.0.0.1:0", WsObject::<Wish, Quote>::pair())?;
    let ticking = exchange.clone();
    exchange.clone().subscribe(move |wish| {
        println!("{:?}", wish.data);
        let Wish::Subscribe(symbol) = wish.data else { return };
        let quote = move |n| TaggedData::new("/", Quote { symbol: symbol.clone(), price: 1.0 + n as f64 / 1e4 });
        Io::interval(Duration::from_millis(1)).map(quote).merge_into(&ticking); // a real one stops when nobody wants it
    });

    let market = RxWsClient::connect(exchange.local_addr(), WsObject::<Quote, Wish>::pair())?;
    let (sender, shown) = mpsc::channel();
    show_market(&market, move |quote| {
        thread::sleep(Duration::from_millis(50)); // a screen takes its time
        _ = sender.send(quote);
    });
    shown.iter().take(6).for_each(|quote| println!("{} {:.4}", quote.symbol, quote.price));
    market.complete();
    exchange.clone().complete();
    exchange.wait_closed(Duration::from_secs(10)).map(drop)
}
