//! An answer over HTTP/1.1 that came while its request was still being sent. A client may read nothing before it has sent all, so
//! neither may wait for the other: a task of its own sees to both.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::http1::Broken;
use super::pool::CheckedOut;
use super::request::SendableBody;
use crate::fair::Place;

/// The answer, as the task hands it on.
pub(super) struct Overtaking {
    /// `None` in it: the end. A task that ends without it has not read the answer to its end.
    frames: Receiver<Option<Result<Frame<Bytes>, Broken>>>,
    left: Option<u64>,
}

impl Overtaking {
    /// Goes on with both. When the answer has ended, the rest of the request may pause for `pause`. The connection serves no other
    /// request: who answers before it is asked may answer once more.
    pub(super) fn begin<B: SendableBody>(connection: CheckedOut<B>, place: Place, pause: Duration) -> Self {
        let left = connection.connection.http1.size_hint().exact();
        let (sender, frames) = channel(1);
        tokio::spawn(go_on(connection, place, sender, pause));
        Self { frames, left }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.frames.poll_recv(cx).map(|next| {
            let frame = next.unwrap_or(Some(Err(Broken::Closed)));
            if let (Some(left), Some(Ok(frame))) = (&mut self.left, &frame) {
                *left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
            }
            frame
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

async fn go_on<B: SendableBody>(
    mut connection: CheckedOut<B>,
    _place: Place,
    frames: Sender<Option<Result<Frame<Bytes>, Broken>>>,
    pause: Duration,
) {
    let http1 = &mut connection.connection.http1;
    while !http1.is_over() {
        // Room first: what is read is handed on at once.
        let room = tokio::select! {
            room = frames.reserve() => room,
            () = poll_fn(|cx| http1.poll_request(cx)), if !http1.is_request_done() => continue,
        };
        let Ok(room) = room else { return };
        let frame = tokio::select! {
            frame = poll_fn(|cx| http1.poll_frame(cx)) => frame,
            () = frames.closed() => return,
        };
        let failed = matches!(frame, Some(Err(_)));
        if frame.is_some() {
            room.send(frame);
        }
        if failed {
            return;
        }
    }
    let rest = async move {
        let mut sent = None;
        // Each look begins a pause anew, if something went out since the last.
        while sent.replace(connection.connection.http1.sent()) != Some(connection.connection.http1.sent()) {
            let request = poll_fn(|cx| connection.connection.http1.poll_request(cx));
            if tokio::time::timeout(pause, request).await.is_ok() {
                break;
            }
        }
        drop(connection);
    };
    // Who knows the length of the answer waits for no word of its end.
    let _ = tokio::join!(frames.send(None), rest);
}
