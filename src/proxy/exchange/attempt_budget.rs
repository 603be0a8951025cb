//! How often one request is sent, and what for: one budget for all causes.

use crate::metrics::AttemptCause;

/// The most sends of one request, for all causes; those after the wait for a 429 and the one after "not processed"
/// don't count.
const MOST_SENDS: u32 = 3;

pub(super) struct AttemptBudget<'a> {
    /// Sends that count.
    counted: u32,
    /// The upstream said of one send that it did not process it.
    not_processed: bool,
    /// Answers 429 that were waited for.
    rate_limits: u32,
    /// What causes the next send.
    cause: AttemptCause,
    /// Everything sent upstream, for the record.
    sent: &'a mut u32,
}

impl<'a> AttemptBudget<'a> {
    /// Before the first send. `sent` counts everything sent upstream.
    pub(super) fn new(sent: &'a mut u32) -> Self {
        Self {
            counted: 0,
            not_processed: false,
            rate_limits: 0,
            cause: AttemptCause::First,
            sent,
        }
    }

    /// Whether the request was not sent yet.
    pub(super) fn is_first(&self) -> bool {
        self.counted == 0
    }

    /// Whether one more is within the bound.
    pub(super) fn has_room(&self) -> bool {
        self.counted < MOST_SENDS
    }

    /// Whether the one extra send after "not processed" is left.
    pub(super) fn may_repeat_unprocessed(&self) -> bool {
        !self.not_processed
    }

    /// Answers 429 that were waited for.
    pub(super) fn rate_limits(&self) -> u32 {
        self.rate_limits
    }

    /// Counts a send of the request; returns its cause.
    pub(super) fn begin(&mut self) -> AttemptCause {
        self.counted += 1;
        self.cause
    }

    /// Counts anything sent upstream: the request, or one that fetches a challenge for it. Returns how much was sent before.
    pub(super) fn count_sent(&mut self) -> u32 {
        *self.sent += 1;
        *self.sent - 1
    }

    /// The request will be sent again.
    pub(super) fn repeat(&mut self, cause: AttemptCause) {
        self.cause = cause;
        match cause {
            // What was sent was not processed: it does not count.
            AttemptCause::NotProcessed => {
                self.not_processed = true;
                self.counted = self.counted.saturating_sub(1);
            }
            AttemptCause::RateLimited => {
                self.rate_limits += 1;
                self.counted = self.counted.saturating_sub(1);
            }
            _ => {}
        }
    }
}
