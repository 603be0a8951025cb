//! How one request gets its nonce: it shares the one that all use, or has a lane, a nonce that no other request uses
//! meanwhile.
//!
//! | the request | way |
//! |---|---|
//! | usual | shares the current nonce; each has a count of its own |
//! | the server has shown that it minds the order of counts | a lane: an idle one, else a new one |
//! | can be sent only once, and the shared nonce is old, or the server may mind | a lane with a young nonce |
//!
//! A lane is given back when its request was answered, with the successor (`nextnonce`) that the answer brought, if any.
//!
//! Permits (places of lanes, `digest_max_concurrent`) are not held while a client is slow: a body that can be sent
//! again is read before, and any other request gives them up ([`Turn::let_go`]) once the server must have its head,
//! which is what a server judges.

use std::sync::Arc;

use http::{HeaderMap, Method};
use tokio::sync::OwnedSemaphorePermit;

use super::challenge::{next_nonce, strongest};
use super::lanes::LanePermit;
use super::nonce::Nonce;
use super::{Authorized, BodyForDigest, ChallengeCause, Digest, PermitTimeout, PrimeGuard, Verdict};
use crate::fair::Part;

/// One request's way to a nonce.
pub struct Turn<'a> {
    digest: &'a Digest,
    /// The part of the permits that the request draws on. `None`: a probe, which waits for none.
    part: Option<&'a Part>,
    way: Way,
    /// Uses a lane, whatever was decided before.
    alone: bool,
    held: Held,
    doubt: Doubt,
}

/// The permits that a request holds; dropping them gives them back.
#[derive(Default)]
pub struct Held {
    /// The lane's.
    lane: Option<HeldLane>,
    /// Of `digest_max_concurrent`.
    _permit: Option<OwnedSemaphorePermit>,
}

enum HeldLane {
    Repeatable { _permit: LanePermit },
    Once { _permit: Option<OwnedSemaphorePermit> },
}

/// What this request may have been refused for: known when it passes after all.
#[derive(Debug, Default)]
struct Doubt {
    /// The order of counts of the shared nonce.
    order: bool,
    /// The server has forgotten its lane.
    lane: bool,
}

enum Way {
    Shared,
    /// `None`: without a challenge yet.
    Lane(Option<Arc<Nonce>>),
}

/// What must happen before a request can be authorized.
#[derive(Debug)]
pub enum Need {
    /// Nothing: authorize.
    Nothing,
    /// A challenge: send a request without a credential, and hand its 401 to [`Turn::challenged`]. Keep the guard, if there is
    /// one, until then: others wait for it.
    Challenge(Option<PrimeGuard>),
}

impl<'a> Turn<'a> {
    pub(super) fn new(digest: &'a Digest, part: &'a Part, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            digest,
            part: Some(part),
            way: Way::Shared,
            alone: false,
            held: Held {
                lane: None,
                _permit: permit,
            },
            doubt: Doubt::default(),
        }
    }

    /// A lane without a challenge.
    pub(super) fn alone(digest: &'a Digest) -> Self {
        Self {
            digest,
            part: None,
            way: Way::Lane(None),
            alone: true,
            held: Held::default(),
            doubt: Doubt::default(),
        }
    }

    /// Whether the request uses a nonce that no other request uses. Ask before [`Self::need`]: a body that can be sent
    /// again should be there first.
    pub fn goes_alone(&mut self) -> bool {
        self.alone |= self.doubt.order || self.digest.minds_order();
        self.alone
    }

    /// Its permits, to be dropped when the server must have the request's head.
    pub fn let_go(&mut self) -> Held {
        std::mem::take(&mut self.held)
    }

    /// Decides between the shared nonce and a lane, again after each 401, and says what is missing. `once`: the request
    /// can be sent only once.
    ///
    /// # Errors
    /// When no lane became free within [`super::PERMIT_WAIT`].
    pub async fn need(&mut self, once: bool) -> Result<Need, PermitTimeout> {
        let digest = self.digest;
        if let Way::Shared = self.way {
            let alone = self.alone;
            if !alone && !digest.has_challenge() && !once {
                // One of the requests that find no challenge goes ahead; the others wait for what it brings.
                if let Some(lead) = digest.prime().await {
                    return Ok(Need::Challenge(Some(lead)));
                }
            }
            // A request that can be sent only once and finds the shared nonce too old gets a lane, too: the shared one
            // must grow old, or nobody ever learns how long nonces live.
            if !alone && (!once || digest.may_share_once()) {
                return Ok(Need::Nothing);
            }
        }
        if self.held.lane.is_none() {
            self.held.lane = match self.part {
                None => None,
                Some(part) if once => Some(HeldLane::Once {
                    _permit: digest.lanes.permit_for_once(part).await?,
                }),
                Some(part) => Some(HeldLane::Repeatable {
                    _permit: digest.lanes.permit(part).await?,
                }),
            };
        }
        if let Way::Shared = self.way {
            self.way = Way::Lane(digest.lanes.take());
        }
        Ok(match &self.way {
            Way::Shared => Need::Nothing,
            Way::Lane(Some(nonce)) if !once || self.digest.is_good_for_once(nonce) => Need::Nothing,
            Way::Lane(_) => Need::Challenge(None),
        })
    }

    /// The challenge to answer wants the whole body in the hash.
    pub fn needs_body(&self) -> bool {
        match &self.way {
            Way::Shared => self.digest.needs_body(),
            Way::Lane(nonce) => nonce.as_ref().is_some_and(|nonce| nonce.needs_body()),
        }
    }

    /// See [`Digest::authorize`].
    pub fn authorize(&mut self, method: &Method, uri: &str, body: BodyForDigest<'_>) -> Option<Authorized> {
        let nonce = match &self.way {
            Way::Shared => return self.digest.authorize(method, uri, body),
            Way::Lane(nonce) => Arc::clone(nonce.as_ref()?),
        };
        let authorized = self.digest.authorize_with(&nonce, method, uri, body, true);
        if authorized.is_none() && !nonce.needs_body() {
            // Used up.
            self.forget();
        }
        authorized
    }

    /// Handles a 401. See [`Digest::challenged`].
    pub fn challenged(&mut self, response: &HeaderMap, used: Option<&Authorized>, attempt: u32) -> Verdict {
        let stale = self.is_only_stale(response);
        match &mut self.way {
            Way::Shared => {
                self.doubt.order |= used.is_some_and(|used| self.digest.may_be_order(used, stale));
                self.digest.challenged(response, used, attempt)
            }
            Way::Lane(lane) => {
                self.doubt.lane |=
                    used.is_some_and(|used| used.nonce.was_accepted() && self.digest.is_refused_by_use(used, stale));
                // What a shared nonce was refused for is the shared one's business, and brings this lane nothing.
                let (verdict, nonce) = self.digest.lane_challenged(response, used, attempt);
                *lane = nonce;
                verdict
            }
        }
    }

    /// Handles the 401 to a request that was made only to get a challenge, and carried no credential.
    pub fn primed(&mut self, response: &HeaderMap) -> Verdict {
        match &mut self.way {
            Way::Shared => self.digest.primed(response),
            Way::Lane(lane) => {
                if strongest(response).is_some() {
                    self.digest.events.challenge(ChallengeCause::Prime);
                }
                let (verdict, nonce) = self.digest.lane_challenge(response);
                *lane = nonce;
                verdict
            }
        }
    }

    /// Whether a 401 says that nothing but the nonce was wrong.
    pub fn is_only_stale(&self, response: &HeaderMap) -> bool {
        strongest(response).is_some_and(|challenge| challenge.stale)
    }

    /// Handles an answer that shows that the credential passed, and gives the lane back. True: the key counted as
    /// refused until now.
    pub fn accepted(&mut self, response: &HeaderMap, used: &Authorized) -> bool {
        let news = self.digest.observe_success(response, used);
        if used.alone && std::mem::take(&mut self.doubt.order) {
            self.digest.order_shown();
        }
        if std::mem::take(&mut self.doubt.lane) {
            self.digest.lanes.refused();
        }
        if let Way::Lane(lane) = &mut self.way
            && let Some(nonce) = lane.take()
        {
            let successor = next_nonce(response).filter(|next| *next.value != *nonce.text());
            let nonce = match successor {
                None => Some(nonce),
                Some(next) => self.digest.new_nonce(nonce.challenge.with_nonce(next)),
            };
            if let Some(nonce) = nonce {
                self.digest.give_back_lane(nonce);
            }
        }
        news
    }

    /// Gives the lane back after an answer that says nothing about the credential.
    pub fn give_back(&mut self) {
        if let Way::Lane(lane) = &mut self.way
            && let Some(nonce) = lane.take()
        {
            self.digest.give_back_lane(nonce);
        }
    }

    /// The request failed, and may or may not have been counted by the server: a lane needs a new challenge.
    pub fn forget(&mut self) {
        if let Way::Lane(lane) = &mut self.way {
            *lane = None;
        }
    }
}
