//! `cargo run --example cookbook_chat`
//!
//! A chat: who is there, what they say to all others, and what they whisper to one. People come by
//! `ws://host/chat?name=Ada`; a text that begins with `@Bob ` is for Bob alone, wherever he is logged in.

use std::sync::mpsc;

use rxplus::prelude::*;

fn name_of(connection: &Connection<WsStr>) -> String {
    let name = connection.query_pairs().find(|(key, _)| key == "name").map(|(_, name)| name.into_owned());
    name.unwrap_or_else(|| format!("guest {}", connection.id())) // a real program looks at a session, in `authorize`
}

fn chat(address: &str) -> Result<RxWsServer<WsStr>, WsError> {
    let chat = RxWsServer::builder(address, WsStr).member(name_of).bind()?;
    let present = chat.presence().tag_filter("/chat").map(|td| td.map(|here| format!("here: {:?}", here.names())));
    present.merge_into(&chat);

    let all = chat.clone();
    chat.connections().subscribe(move |connection| {
        let (chat, me, name) = (all.clone(), connection.clone(), name_of(&connection));
        if let Err(error) = connection.join(format!("/people/{name}")) {
            connection.next(format!("nobody can whisper to you: {error}"));
        }
        connection.subscribe(move |text| match text.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
            Some((to, text)) => chat.next(TaggedData::new(format!("/people/{to}"), format!("{name} whispers: {text}"))),
            None => chat.next_except(TaggedData::new(me.path().clone(), format!("{name}: {text}")), &me),
        });
    });
    Ok(chat)
}

/// A try of it, with two people. It shows what Bob hears.
fn main() -> Result<(), WsError> {
    let chat = chat("ws://127.0.0.1:0")?; // a port of its own, in a program
    let come = |name| RxWsClient::connect(format!("ws://{}/chat?name={name}", chat.local_addr()), WsStr);
    let (ada, bob) = (come("Ada")?, come("Bob")?);
    let (sender, heard) = mpsc::channel();
    bob.clone().subscribe(move |text| _ = sender.send(text));

    let wait_for = |expected: &str| loop {
        let text = heard.recv_timeout(Duration::from_secs(10)).map_err(WsError::application)?;
        println!("{text}");
        if text == expected {
            return Ok::<(), WsError>(());
        }
    };
    wait_for(r#"here: {"Ada", "Bob"}"#)?;
    ada.next("hello, all");
    wait_for("Ada: hello, all")?;
    ada.next("@Bob psst");
    wait_for("Ada whispers: psst")?;

    chat.clone().complete();
    chat.wait_closed(Duration::from_secs(10)).map(drop)
}
