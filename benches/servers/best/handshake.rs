//! The opening handshake, by tungstenite's functions.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::{
    machine::TryParse,
    server::{Request, create_response, write_response},
};

/// Few requests and answers are longer.
const HEAD_LEN: usize = 512;

/// Answers the request, and returns the path that it asks for.
pub(super) async fn answer(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<String> {
    let request = request(socket).await?;
    let mut answer = Vec::with_capacity(HEAD_LEN);
    write_response(&mut answer, &create_response(&request).ok()?).ok()?;
    socket.write_all(&answer).await.ok()?;
    Some(request.uri().path().to_owned())
}

async fn request(socket: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::with_capacity(HEAD_LEN);
    while socket.read_buf(&mut head).await.ok()? > 0 {
        if let Some((len, request)) = Request::try_parse(&head).ok()? {
            return (len == head.len()).then_some(request);
        }
    }
    None
}
