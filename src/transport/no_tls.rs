//! The stand-in for TLS where it is not built in: types without values.

use std::io;

use crate::{
    ConnConfig, WsError,
    transport::{Transport, raw::Raw},
};

#[derive(Clone, Debug)]
pub(crate) enum ServerTls {}

#[derive(Clone, Debug)]
pub(crate) enum ClientTls {}

pub(crate) fn certificate_failure(_: &ConnConfig, _: &io::Error) -> Option<WsError> {
    None
}

impl ServerTls {
    pub(crate) async fn accept(&self, _: Raw) -> Result<Transport, String> {
        match *self {}
    }
}

impl ClientTls {
    pub(crate) fn system() -> Result<Self, WsError> {
        let reason = "it is not built in; enable the feature \"tls\" of rxplus".into();
        Err(WsError::TlsSetup { what: "a wss:// address".into(), reason })
    }

    pub(crate) async fn connect(&self, _: Raw, _: &ConnConfig) -> Result<Transport, WsError> {
        match *self {}
    }
}
