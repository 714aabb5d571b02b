//! What errors say that helps.

use std::io;

use crate::ConnConfig;

pub(crate) fn bind_advice(source: &io::Error, endpoint: &ConnConfig) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!("address in use: is another server listening on {}:{}?", endpoint.host(), endpoint.port())
        }
        io::ErrorKind::AddrNotAvailable => "that address is not one of this machine's".into(),
        io::ErrorKind::PermissionDenied => "ports below 1024 usually need privileges".into(),
        _ => "the operating system refused".into(),
    }
}

pub(crate) fn said(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason:?}") }
}

pub(crate) fn rejection_advice(status: u16) -> &'static str {
    match status {
        300..=399 => "; follow_redirects() would follow it, if it is a redirect",
        401 | 403 => "; it wants other credentials or another origin",
        404 => "; it does not serve this path",
        426 => "; it wants another protocol version",
        503 => "; it is overloaded or down",
        _ => "",
    }
}
