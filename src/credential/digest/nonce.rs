//! A server's nonce in use: its counter, and everything of the `Authorization` header that stays the same for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use super::BodyForDigest;
use super::challenge::{Challenge, Qop};
use super::field::push_quoted;
use super::response::{Hex, count_text, request_hash, user_hash};
use crate::secret::Secret;

/// Shared by every request that uses it; nothing in it takes a lock. Deliberately without `Debug`: it holds H(A1).
pub(super) struct Nonce {
    pub(super) challenge: Challenge,
    /// Counts up with each nonce taken into use, so that "newer" is a comparison.
    pub(super) generation: u64,
    /// When it came, on the boot-time clock.
    pub(super) born: Duration,
    /// Set by the first request that the server let pass with it.
    accepted: AtomicBool,
    /// Set when its refusal was counted against the key, so that many requests in flight count once.
    refusal_counted: AtomicBool,
    /// Shared with later `Nonce`s for the same nonce text: each (nonce, nc) goes out once.
    counter: Arc<Counter>,
    /// How many challenges had been fetched when it came or was last used, see [`super::FETCHED_SINCE`].
    fetched_before: AtomicU64,
    client_nonce: Box<[u8]>,
    user_hash: Zeroizing<Hex>,
    /// `Digest username="…", realm="…", nonce="…", uri="`.
    head: Vec<u8>,
    /// What follows the closing quote of `response`.
    tail: Vec<u8>,
}

/// The counts of one nonce text.
#[derive(Debug, Default)]
pub(super) struct Counter {
    /// The last count given out.
    pub(super) given: AtomicU64,
}

/// The pieces that a nonce is made of.
pub(super) struct NonceParts<'a> {
    pub(super) challenge: Challenge,
    pub(super) generation: u64,
    pub(super) born: Duration,
    pub(super) counter: Arc<Counter>,
    /// Challenges fetched before it.
    pub(super) fetched_before: u64,
    /// 16 random bytes in hexadecimal. One for all requests of a nonce, so that H(A1) is computed once also for the
    /// `-sess` variants; RFC 7616 section 3.3 asks for a new (nonce, nc) for each request, not for a new client nonce.
    pub(super) client_nonce: Box<[u8]>,
    pub(super) username: &'a str,
    pub(super) password: &'a Secret,
}

impl Nonce {
    pub(super) fn new(parts: NonceParts<'_>) -> Self {
        let challenge = parts.challenge;
        Self {
            user_hash: user_hash(
                challenge.algorithm,
                parts.username,
                &challenge.realm.value,
                parts.password.expose(),
                &challenge.nonce.value,
                &parts.client_nonce,
            ),
            head: head(&challenge, parts.username),
            tail: tail(&challenge),
            challenge,
            generation: parts.generation,
            born: parts.born,
            accepted: AtomicBool::new(false),
            refusal_counted: AtomicBool::new(false),
            counter: parts.counter,
            fetched_before: AtomicU64::new(parts.fetched_before),
            client_nonce: parts.client_nonce,
        }
    }

    /// The nonce as text, as it enters the hashes.
    pub(super) fn text(&self) -> &[u8] {
        &self.challenge.nonce.value
    }

    pub(super) fn counter(&self) -> Arc<Counter> {
        Arc::clone(&self.counter)
    }

    /// The next nonce count, from 1. None: all 2^32 - 1 are used up.
    pub(super) fn next_count(&self) -> Option<u32> {
        // Relaxed: only the number matters, nothing is published with it. 64 bits: it never wraps.
        u32::try_from(self.counter.given.fetch_add(1, Ordering::Relaxed) + 1).ok()
    }

    /// No request has used it.
    pub(super) fn is_unused(&self) -> bool {
        self.counter.given.load(Ordering::Relaxed) == 0
    }

    /// More than one request has used it.
    pub(super) fn is_shared(&self) -> bool {
        self.counter.given.load(Ordering::Relaxed) > 1
    }

    /// Later counts than this one went out.
    pub(super) fn was_overtaken(&self, count: u32) -> bool {
        self.counter.given.load(Ordering::Relaxed) > u64::from(count)
    }

    pub(super) fn fetched_before(&self) -> u64 {
        self.fetched_before.load(Ordering::Relaxed)
    }

    pub(super) fn used_after(&self, fetched: u64) {
        self.fetched_before.store(fetched, Ordering::Relaxed);
    }

    /// Age at `now`, on the boot-time clock.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.born)
    }

    pub(super) fn was_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn mark_accepted(&self) {
        // Read first: the flag is written once, and the cache line stays shared between the cores.
        if !self.was_accepted() {
            self.accepted.store(true, Ordering::Relaxed);
        }
    }

    /// True for the first caller.
    pub(super) fn count_refusal(&self) -> bool {
        !self.refusal_counted.swap(true, Ordering::Relaxed)
    }

    pub(super) fn needs_body(&self) -> bool {
        self.challenge.qop == Qop::AuthInt
    }

    /// The header for one request. None: `auth-int` without the body, or a target that cannot stand in a header.
    /// One allocation: the header itself.
    pub(super) fn header(
        &self,
        method: &Method,
        uri: &str,
        body: BodyForDigest<'_>,
        count: u32,
    ) -> Option<HeaderValue> {
        let hash = self.challenge.algorithm.hash;
        let request = request_hash(hash, method, uri, self.needs_body().then_some(body))?;
        let (user, request) = (self.user_hash.as_bytes(), request.as_bytes());
        let (client_nonce, count) = (&*self.client_nonce, count_text(count));

        let qop: &[u8] = match self.challenge.qop {
            Qop::Rfc2069 => b"",
            Qop::AuthInt => b"auth-int",
            Qop::Auth => b"auth",
        };
        let response = if qop.is_empty() {
            hash.of([user, self.text(), request])
        } else {
            hash.of([user, self.text(), &count, client_nonce, qop, request])
        };
        let before_count: [&[u8]; 4] = match (qop.is_empty(), self.challenge.algorithm.sess) {
            (false, _) => [b"\", qop=", qop, b", nc=", &count],
            (true, _) => [b"\"", b"", b"", b""],
        };
        // Without qop only a `-sess` server needs the client nonce: it is part of H(A1) then.
        let with_client_nonce: [&[u8]; 3] = if qop.is_empty() && !self.challenge.algorithm.sess {
            [b"", b"", b""]
        } else {
            [b", cnonce=\"", client_nonce, b"\""]
        };

        let escapes = uri.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
        let after: [&[u8]; 4] = [b", response=\"", response.as_bytes(), b"\"", &self.tail];
        let rest = before_count.iter().chain(&with_client_nonce).chain(&after);
        let len = self.head.len() + uri.len() + escapes + rest.clone().map(|piece| piece.len()).sum::<usize>();
        let mut text = Vec::with_capacity(len);
        text.extend_from_slice(&self.head);
        push_quoted(&mut text, uri.as_bytes());
        rest.for_each(|piece| text.extend_from_slice(piece));

        let mut header = HeaderValue::from_maybe_shared(Bytes::from(text)).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

fn head(challenge: &Challenge, username: &str) -> Vec<u8> {
    let mut head = b"Digest ".to_vec();
    if challenge.userhash {
        // RFC 7616 section 3.4.4.
        let hashed = challenge
            .algorithm
            .hash
            .of([username.as_bytes(), &challenge.realm.value]);
        head.extend_from_slice(b"username=\"");
        head.extend_from_slice(hashed.as_bytes());
        head.push(b'"');
    } else if challenge.utf8 && !username.is_ascii() {
        // RFC 8187, as RFC 7616 section 3.4 asks for.
        head.extend_from_slice(b"username*=UTF-8''");
        head.extend(percent_encode(username.as_bytes(), NON_ALPHANUMERIC).flat_map(str::bytes));
    } else {
        head.extend_from_slice(b"username=\"");
        push_quoted(&mut head, username.as_bytes());
        head.push(b'"');
    }
    let parts: [&[u8]; 5] = [
        b", realm=\"",
        &challenge.realm.raw,
        b"\", nonce=\"",
        &challenge.nonce.raw,
        b"\", uri=\"",
    ];
    head.extend_from_slice(&parts.concat());
    head
}

fn tail(challenge: &Challenge) -> Vec<u8> {
    let mut tail = Vec::new();
    // Only where the challenge had it, and as it was spelled: servers of RFC 2069's time know no `algorithm`.
    if let Some(spelling) = &challenge.algorithm_spelling {
        tail.extend_from_slice(b", algorithm=");
        tail.extend_from_slice(spelling);
    }
    if let Some(opaque) = &challenge.opaque {
        tail.extend_from_slice(b", opaque=\"");
        tail.extend_from_slice(&opaque.raw);
        tail.push(b'"');
    }
    if challenge.userhash {
        tail.extend_from_slice(b", userhash=true");
    }
    tail
}

#[cfg(test)]
#[path = "nonce_tests.rs"]
mod tests;
