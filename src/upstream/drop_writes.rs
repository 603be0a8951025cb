//! An upstream may answer and close while its request is still being sent: a body too large, a credential refused. Then
//! writing fails although the answer lies in the socket, and hyper would report the failure and never read the answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Once the peer accepts no more data, what is written is dropped: what can be read decides how the exchange ends.
pub(super) struct DropWritesOnceClosed<S> {
    stream: S,
    closed_to_us: bool,
}

impl<S> DropWritesOnceClosed<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            closed_to_us: false,
        }
    }

    fn note_close<T>(&mut self, polled: Poll<io::Result<T>>, as_if: T) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(Err(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
                ) =>
            {
                self.closed_to_us = true;
                Poll::Ready(Ok(as_if))
            }
            other => other,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for DropWritesOnceClosed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for DropWritesOnceClosed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.closed_to_us {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_close(polled, buf.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if this.closed_to_us {
            return Poll::Ready(Ok(all));
        }
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.note_close(polled, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closed_to_us {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.note_close(polled, ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closed_to_us {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
