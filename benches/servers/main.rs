//! Servers in competition, and clients: ours against hand-written tokio-tungstenite. `benches/README.md` says how it
//! measures; `cargo bench --bench servers -- --quick` takes a minute.
//!
//! The process that is started is the load; it starts itself again for each competitor, as a process of its own.

#[cfg(target_os = "linux")]
mod against;
#[cfg(target_os = "linux")]
mod baseline;
#[cfg(target_os = "linux")]
mod best;
#[cfg(target_os = "linux")]
mod client;
#[cfg(target_os = "linux")]
mod competitor;
#[cfg(all(target_os = "linux", feature = "deflate"))]
mod compressing;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(all(target_os = "linux", feature = "mount"))]
mod mounted;
#[cfg(target_os = "linux")]
mod ours;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod resuming;
#[cfg(target_os = "linux")]
mod scenario;
#[cfg(all(target_os = "linux", feature = "tls"))]
mod tls;
#[cfg(target_os = "linux")]
mod wire;

#[cfg(target_os = "linux")]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(competitor::ON_THE_FIRST_CORE) => competitor::run(machine::Cores::First, &args[1..]),
        Some(competitor::ON_BOTH_CORES) => competitor::run(machine::Cores::Both, &args[1..]),
        _ => scenario::run(&args),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this bench reads CPU clocks and pins processes as Linux has it");
}
