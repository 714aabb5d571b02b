//! The stand-in for compression where it is not built in: types without values.

use std::io;

use tokio_tungstenite::tungstenite::{Error, Message};

use crate::protocol::read_block::Block;

#[derive(Clone, Debug)]
pub(crate) enum Deflate {}

#[derive(Clone, Debug)]
pub(crate) enum Offer {}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Agreed {}

pub(crate) struct Answered {
    pub(crate) agreed: Agreed,
    pub(crate) value: String,
}

impl Deflate {
    pub(crate) fn covers(&self, _: &str) -> bool {
        match *self {}
    }

    pub(crate) fn usual(&self) -> Agreed {
        match *self {}
    }

    pub(crate) fn answer<'a>(&self, _: impl Iterator<Item = &'a str>) -> Option<Answered> {
        match *self {}
    }

    pub(crate) fn offer(self) -> Offer {
        match self {}
    }
}

impl Offer {
    pub(crate) fn refuse_takeover(&mut self) {
        match *self {}
    }

    pub(crate) fn value(&self, _: &str) -> Option<&'static str> {
        match *self {}
    }

    pub(crate) fn confirm<'a>(&self, _: impl Iterator<Item = &'a str>) -> Result<Option<Agreed>, &'static str> {
        match *self {}
    }
}

pub(crate) enum Inflation {}

pub(crate) struct NoDeflate;

impl NoDeflate {
    pub(crate) fn is(_: &io::Error) -> bool {
        false
    }
}

pub(crate) fn compressed_len(len: usize) -> usize {
    len
}

impl Inflation {
    pub(crate) fn new(agreed: Agreed) -> Self {
        match agreed {}
    }

    pub(crate) fn is_gathering(&self) -> bool {
        match *self {}
    }

    pub(crate) fn begin(&mut self, _: bool) {
        match *self {}
    }

    pub(crate) fn gather(&mut self, _: &[u8], _: [u8; 4]) {
        match *self {}
    }

    pub(crate) fn inflate(&mut self, _: &mut Block, _: usize) -> Result<Message, Error> {
        match *self {}
    }
}
