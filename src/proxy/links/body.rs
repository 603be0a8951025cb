//! A response body whose links are rewritten as it streams, in constant memory.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::gzip::Gunzip;
use super::{JsonRewriter, LinkRewriter};

/// Why a rewritten body ends early.
#[derive(Debug, thiserror::Error)]
pub enum LinkBodyError<E> {
    /// The body itself broke off.
    #[error(transparent)]
    Body(E),
    /// Its gzip coding is wrong or incomplete.
    #[error("the upstream's gzip content is damaged or incomplete: {0}")]
    Gzip(std::io::Error),
}

/// Wraps a JSON body.
pub struct LinkBody<B> {
    body: B,
    rewriter: JsonRewriter,
    gzip: Option<Box<Gunzip>>,
    ready: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    state: State,
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Streaming,
    /// The body has ended; what was held back is in `ready`.
    Ended,
    Failed,
}

impl<B> LinkBody<B> {
    /// `client`: the origin that links are to lead to; `gzip`: the body is gzip.
    pub fn new(body: B, links: &LinkRewriter, client: &str, gzip: bool) -> Self {
        Self {
            body,
            rewriter: JsonRewriter::new(links, client),
            gzip: gzip.then(|| Box::new(Gunzip::new())),
            ready: VecDeque::new(),
            trailers: None,
            state: State::Streaming,
            changed: gzip,
        }
    }

    /// Whether what came out so far differs from what came in.
    pub fn changed(&self) -> bool {
        self.changed
    }

    fn rewrite(&mut self, data: Bytes) {
        match self.rewriter.push(&data) {
            Some(changed) => {
                self.changed = true;
                self.enqueue(changed.into());
            }
            None => self.enqueue(data),
        }
    }

    fn enqueue(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.ready.push_back(data);
        }
    }

    /// Decodes one step of what has come in; false: there is nothing left.
    fn decode_step(&mut self) -> Result<bool, std::io::Error> {
        let Some(gzip) = &mut self.gzip else { return Ok(false) };
        let Some(decoded) = gzip.step()? else { return Ok(false) };
        self.rewrite(decoded.into());
        Ok(true)
    }

    fn end(&mut self) -> Result<(), std::io::Error> {
        self.state = State::Ended;
        if let Some(gzip) = self.gzip.take() {
            let decoded = gzip.finish()?;
            self.rewrite(decoded.into());
        }
        let held = self.rewriter.finish();
        self.enqueue(held.into());
        Ok(())
    }
}

impl<B> Body for LinkBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = LinkBodyError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(data) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            match this.state {
                State::Ended => return Poll::Ready(this.trailers.take().map(|t| Ok(Frame::trailers(t)))),
                State::Failed => return Poll::Ready(None),
                State::Streaming => {}
            }
            match this.decode_step() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    this.state = State::Failed;
                    return Poll::Ready(Some(Err(LinkBodyError::Gzip(error))));
                }
            }
            let ended = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => true,
                Some(Err(error)) => {
                    this.state = State::Failed;
                    return Poll::Ready(Some(Err(LinkBodyError::Body(error))));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        match &mut this.gzip {
                            Some(gzip) => gzip.push(data),
                            None => this.rewrite(data),
                        }
                        // Checked at once, so that the last data are known to be the last.
                        this.gzip.is_none() && this.body.is_end_stream()
                    }
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        true
                    }
                },
            };
            if ended && let Err(error) = this.end() {
                this.state = State::Failed;
                return Poll::Ready(Some(Err(LinkBodyError::Gzip(error))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Ended && self.ready.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Ended => SizeHint::with_exact(self.ready.iter().map(|data| data.len() as u64).sum()),
            State::Streaming | State::Failed => SizeHint::new(),
        }
    }
}
