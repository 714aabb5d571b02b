//! A process that can be killed, and is started again.

use std::{ffi::OsString, io, process::Stdio, time::Duration};

use tokio::{
    process::{Child, Command},
    sync::Mutex,
    time::sleep,
};

pub(crate) struct Process {
    program: OsString,
    args: Vec<String>,
    child: Mutex<Child>,
}

impl Process {
    pub(crate) fn start<const N: usize>(program: impl Into<OsString>, args: [&str; N]) -> io::Result<Self> {
        let (program, args) = (program.into(), args.map(str::to_owned).to_vec());
        let child = spawn(&program, &args)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        Ok(Self { program, args, child: Mutex::new(child) })
    }

    /// Kills the process, as `kill -9` does, and starts it again after a while.
    pub(crate) async fn restart(&self, away: Duration) -> io::Result<()> {
        let mut child = self.child.lock().await;
        child.kill().await?;
        sleep(away).await;
        *child = spawn(&self.program, &self.args)?;
        Ok(())
    }
}

fn spawn(program: &OsString, args: &[String]) -> io::Result<Child> {
    let mut command = Command::new(program);
    // Ends with this program, however that ends: a server by the end of its standard input.
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn()
}
