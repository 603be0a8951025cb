//! The end of a connection whose client may still be sending.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long a slow client may take to get its last answer.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// When a client was answered early, what it still sends is read and thrown away, up to here: closing over it would
/// reset the connection, and the client might never see its answer (RFC 9112 section 9.6).
pub(super) const LINGER_TIME: Duration = Duration::from_secs(2);
pub(super) const LINGER_BYTES: usize = 64 << 20;

/// Sends a last answer on a connection that nothing else is written to, and ends the connection.
pub(in crate::server) async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let say = async {
        stream.write_all(words).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(FAREWELL_TIMEOUT, say).await {
        linger(stream).await;
    }
}

/// Reads and throws away what the client still sends, within bounds.
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
