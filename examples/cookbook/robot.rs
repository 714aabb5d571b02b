//! `cargo run --example cookbook_robot`
//!
//! A robot that answers commands, and says where it is in between. Commands go one way and what it says the other, so the two
//! have types of their own; a reply has the number of its command.

use rxplus::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Command {
    id: u64,
    what: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Said {
    Reply { id: u64, result: Result<f64, String> },
    Pose { x: f64, y: f64 },
}

fn robot(address: &str) -> Result<RxWsServer<WsObject<Command, Said>>, WsError> {
    let robot = RxWsServer::bind(address, WsObject::<Command, Said>::pair())?;
    robot.connections().subscribe(|connection| {
        let replies = connection.clone().map(|command| Said::Reply { id: command.id, result: measure(&command.what) });
        let poses = Io::interval(Duration::from_millis(20)).map(|n| Said::Pose { x: n as f64, y: 0.5 });
        replies.merge(poses.with_err()).subscribe_with(connection); // to this client, and until it goes
    });
    Ok(robot)
}

fn measure(what: &str) -> Result<f64, String> {
    if what == "voltage" { Ok(24.1) } else { Err(format!("there is no {what}")) }
}

/// A try of it, from the other side.
fn main() -> Result<(), WsError> {
    let robot = robot("ws://127.0.0.1:0")?; // a port of its own, in a program
    let control = RxWsClient::connect(robot.local_addr(), WsObject::<Said, Command>::pair())?;
    let (sender, poses) = std::sync::mpsc::channel();
    let seen = control.clone().filter(|said| matches!(said, Said::Pose { .. }));
    seen.log_errors().subscribe(move |pose| _ = sender.send(pose));

    let number_of = |said: &Said| if let Said::Reply { id, .. } = said { Some(*id) } else { None };
    let calls = control.calls(number_of).timeout(Duration::from_secs(10));
    let asked = ["voltage", "weather"].map(|what| calls.call(|id| Command { id, what: what.into() })); // both at once
    for call in asked {
        println!("{:?}", call.wait()?); // in an `async fn`: call.await?
    }
    println!("{:?}", poses.recv_timeout(Duration::from_secs(10)).map_err(WsError::application)?);

    control.clone().complete();
    control.wait_closed(Duration::from_secs(10))?;
    robot.clone().complete();
    robot.wait_closed(Duration::from_secs(10))?;
    Ok(())
}
