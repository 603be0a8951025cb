//! The end of a connection whose client may still be sending.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bound on the last words to a slow client.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// What a client still sends when it was answered early is taken in, unread, up to here: closing over it would reset the
/// connection, and the client might never see its answer (RFC 9112 section 9.6).
pub(super) const LINGER_TIME: Duration = Duration::from_secs(2);
pub(super) const LINGER_BYTES: usize = 64 << 20;

/// Last words on a connection that nothing else is written to, and its end.
pub(in crate::server) async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let say = async {
        stream.write_all(words).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(FAREWELL_TIMEOUT, say).await {
        linger(stream).await;
    }
}

/// Takes in what the client still sends, within bounds.
pub(super) async fn linger<S: AsyncRead + Unpin>(stream: &mut S) {
    let read = async {
        let mut sink = [0u8; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut sink).await {
                Ok(0) | Err(_) => return,
                Ok(size) => left = left.saturating_sub(size),
            }
        }
    };
    let _ = tokio::time::timeout(LINGER_TIME, read).await;
}
