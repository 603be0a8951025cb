//! The content of a request as it is read from the client: timed, counted, its trailers cleaned.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::super::headers::clean_trailers;
use super::budget::BodyLimits;
use super::client::ClientBody;
use super::timer::BodyTimer;
use crate::upstream::Progress;

/// What went wrong while the client's body was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum ClientFault {
    /// It paused for longer than `request_body_idle_timeout`.
    Idle,
    /// It came more slowly than `request_body_min_rate`.
    Slow,
    /// The connection broke, or the framing was wrong.
    Broken,
}

/// Facts of a request body that outlive it.
#[derive(Debug, Default)]
pub(in crate::proxy) struct BodyFacts {
    pub(in crate::proxy) progress: Arc<Progress>,
    bytes: AtomicU64,
    fault: AtomicU8,
    ended: AtomicBool,
}

impl BodyFacts {
    /// Bytes of content read from the client so far.
    pub(in crate::proxy) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(in crate::proxy) fn fault(&self) -> Option<ClientFault> {
        match self.fault.load(Ordering::Relaxed) {
            1 => Some(ClientFault::Idle),
            2 => Some(ClientFault::Broken),
            3 => Some(ClientFault::Slow),
            _ => None,
        }
    }

    /// Whether all of the content has been read.
    pub(in crate::proxy) fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn set_fault(&self, fault: ClientFault) {
        let code = match fault {
            ClientFault::Idle => 1,
            ClientFault::Broken => 2,
            ClientFault::Slow => 3,
        };
        self.fault.store(code, Ordering::Relaxed);
    }
}

/// Why a request body ended early; the request to the upstream is broken off.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The client paused for too long.
    #[error("the client's request body paused for too long")]
    Idle,
    /// The client sent too slowly.
    #[error("the client's request body came too slowly")]
    Slow,
    /// The client's connection broke.
    #[error("the client's request body broke off")]
    Broken,
    /// A later try reads the body now.
    #[error("another try of the request took the body over")]
    Superseded,
}

/// The client's body as it comes in.
pub(in crate::proxy) struct Inbound {
    incoming: ClientBody,
    /// It comes over HTTP/2.
    multiplexed: bool,
    facts: Arc<BodyFacts>,
    timer: BodyTimer,
}

impl Inbound {
    pub(in crate::proxy) fn new(incoming: ClientBody, multiplexed: bool, limits: &BodyLimits) -> Self {
        Self {
            incoming,
            multiplexed,
            facts: Arc::default(),
            timer: BodyTimer::new(limits.request_body_idle_timeout, limits.request_body_min_rate),
        }
    }

    pub(in crate::proxy) fn facts(&self) -> &Arc<BodyFacts> {
        &self.facts
    }

    /// Whether nothing comes after what was read so far.
    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// What is known of the length of the data to come, bytes.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    /// Another reader begins: the wait of the reader before does not count.
    pub(super) fn begin_wait_anew(&mut self) {
        self.timer.begin_anew();
    }

    fn fail(&self, fault: ClientFault) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        self.facts.set_fault(fault);
        Poll::Ready(Some(Err(match fault {
            ClientFault::Idle => RequestBodyError::Idle,
            ClientFault::Slow => RequestBodyError::Slow,
            ClientFault::Broken => RequestBodyError::Broken,
        })))
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Poll::Ready(polled) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            let fault = ready!(self.timer.poll_expired(cx));
            return self.fail(fault);
        };
        if let Some(Ok(frame)) = &polled {
            self.timer.received(frame.data_ref().map_or(0, Bytes::len));
        }
        self.facts.progress.moved();
        match polled {
            Some(Ok(frame)) => {
                if self.incoming.is_end_stream() {
                    self.facts.ended.store(true, Ordering::Relaxed);
                }
                Poll::Ready(Some(Ok(self.admit(frame))))
            }
            Some(Err(_broken)) => self.fail(ClientFault::Broken),
            // hyper takes a reset with NO_ERROR for the end of the body.
            None if self.multiplexed && !self.incoming.is_end_stream() => self.fail(ClientFault::Broken),
            None => {
                self.facts.ended.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
        }
    }

    fn admit(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(data) => {
                self.facts.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                Frame::data(data)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(mut trailers) => {
                    clean_trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(other) => other,
            },
        }
    }
}
