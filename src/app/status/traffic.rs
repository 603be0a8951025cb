//! What the status says of requests: by minute, and of those that were refused or failed here.

use super::State;
use crate::admin::status::{At, Denied, LastRefusal, Refusal};
use crate::app::history::Totals;

impl State {
    /// Takes what was counted into the last hour.
    pub(in crate::app) fn look(&self) {
        let [_, ok, moved, of_client, of_atlas, _] = self.metrics.answers_so_far();
        let (mut refused, mut failed) = (0, 0);
        for (code, count) in self.metrics.errors_so_far() {
            let sum = if code.status().is_server_error() {
                &mut failed
            } else {
                &mut refused
            };
            *sum += count;
        }
        let slots = self.accounts.slots();
        let totals = Totals {
            all: [ok, moved, of_client, of_atlas, refused, failed],
            accounts: slots
                .iter()
                .map(|slot| (slot.name.clone(), slot.metrics.totals()))
                .collect(),
        };
        self.history.look(self.clock.boot(), &totals);
    }

    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let all = self.metrics.errors_so_far();
        all.map(|(code, count)| Refusal {
            code: code.as_str(),
            meaning: code.meaning(),
            status: code.status().as_u16(),
            count,
            last: self.refused.last(code).map(|last| LastRefusal {
                at: At::of(last.at),
                listener: last.listener,
                caller: last.caller,
                peer: last.peer.to_string(),
                method: last.method.map(|method| method.to_string()),
                what: last.what,
            }),
        })
        .collect()
    }

    pub(super) fn denied(&self) -> Vec<Denied> {
        let all = self.metrics.denied_so_far().into_iter();
        all.map(|denied| Denied {
            listener: denied.listener,
            caller: denied.caller,
            reason: denied.reason,
            count: denied.count,
        })
        .collect()
    }
}
