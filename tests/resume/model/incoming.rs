//! The inbound half of a session: a count of the payloads.

use super::facts::Broken;

#[derive(Clone, Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) received: u64,
    /// The last position that the other end was told.
    pub(crate) acked: u64,
    /// How many did not come, as the other end announced it.
    pub(crate) missed: u64,
}

impl Incoming {
    /// The next payload is at `position`: what lies between does not come. Returns how many these are.
    pub(crate) fn at(&mut self, position: u64) -> Result<u64, Broken> {
        let back = || Broken::protocol(format!("told to go on at {position}, but is at {}", self.received));
        let gap = position.checked_sub(self.received).ok_or_else(back)?;
        self.missed += gap;
        self.received = position;
        Ok(gap)
    }

    pub(crate) fn owes_ack(&self) -> bool {
        self.received > self.acked
    }

    /// The position, which the other end is told.
    pub(crate) fn told(&mut self) -> u64 {
        self.acked = self.received;
        self.received
    }
}
