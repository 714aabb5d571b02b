//! The command line of the examples.

use std::{env, process};

use rxplus::prelude::*;

/// The values of `--host`, `--port` and `--path`, or their defaults.
pub(crate) struct Options {
    /// The address of the server; its path is `/`.
    pub(crate) address: ConnConfig,
    /// The value of `--path`.
    pub(crate) path: Option<String>,
}

impl Options {
    /// Reads the command line, and ends the program if that asks for help or makes no sense.
    pub(crate) fn from_args(about: &str) -> Self {
        let usage = format!("{about}\n\nOptions: --host HOST (127.0.0.1), --port PORT (8765), --path PATH");
        if env::args().any(|arg| arg == "--help") {
            println!("{usage}");
            process::exit(0);
        }
        Self::parse(env::args().skip(1)).unwrap_or_else(|error| {
            eprintln!("error: {error}\n\n{usage}");
            process::exit(2);
        })
    }

    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut host, mut port, mut path) = (None, None, None);
        while let Some(option) = args.next() {
            let value = match option.as_str() {
                "--host" => &mut host,
                "--port" => &mut port,
                "--path" => &mut path,
                _ => return Err(format!("unknown option \"{option}\"")),
            };
            *value = Some(args.next().ok_or_else(|| format!("{option} needs a value"))?);
        }
        let [host, port] = [host.as_deref().unwrap_or("127.0.0.1"), port.as_deref().unwrap_or("8765")];
        let address = ConnConfig::try_from(format!("ws://{host}:{port}")).map_err(|error| error.to_string())?;
        Ok(Self { address, path })
    }
}
