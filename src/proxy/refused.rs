//! What was refused or failed here last, by code: for the status page. The counts are those of the metrics.

use std::time::SystemTime;

use http::Method;
use parking_lot::Mutex;

use super::record::Record;
use super::{Peer, Pipeline};
use crate::code::ErrorCode;

/// The beginnings of paths that are told apart. What else a path holds may be a name or an address, and stays out.
const PLACES: [&str; 6] = [
    "/api/atlas/v2/",
    "/api/atlas/",
    "/api/public/",
    "/api/private/",
    "/api/oauth/",
    "/api/",
];

/// One answer that was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRefusal {
    /// When.
    pub at: SystemTime,
    /// The listener.
    pub listener: String,
    /// Who it came from.
    pub peer: Peer,
    /// The caller, where it is known; `None`: it is not, or nobody is asked.
    pub caller: Option<String>,
    /// Its method, where that is one of HTTP's own.
    pub method: Option<Method>,
    /// The operation, or how the path begins; nothing of a path that is the client's.
    pub what: &'static str,
}

/// The last of each code. One place for each: there is nothing to bound.
#[derive(Debug, Default)]
pub struct LastRefusals([Mutex<Option<LastRefusal>>; ErrorCode::ALL.len()]);

impl LastRefusals {
    /// The last of this code.
    pub fn last(&self, code: ErrorCode) -> Option<LastRefusal> {
        self.place(code)?.lock().clone()
    }

    /// Waits for nobody: while another thread notes one of the same code, that one is the last.
    fn note(&self, code: ErrorCode, refusal: impl FnOnce() -> LastRefusal) {
        if let Some(mut place) = self.place(code).and_then(Mutex::try_lock) {
            *place = Some(refusal());
        }
    }

    fn place(&self, code: ErrorCode) -> Option<&Mutex<Option<LastRefusal>>> {
        let at = ErrorCode::ALL.iter().position(|one| *one == code)?;
        self.0.get(at)
    }
}

impl Pipeline {
    /// Counts and notes an answer that is made here in place of Atlas's.
    pub(super) fn note_refusal(&self, code: ErrorCode, record: &Record) {
        let operation = record.operation.map(|id| self.shared.catalogue.get(id).name);
        let caller = self.callers.as_ref().and_then(|callers| callers.name(record.who));
        self.shared.metrics.error(code);
        self.shared.refused.note(code, || LastRefusal {
            at: self.shared.clock.wall(),
            listener: self.name.clone(),
            peer: record.peer,
            caller: caller.map(ToString::to_string),
            method: known(record.method.as_str()),
            what: operation.unwrap_or_else(|| place_of(record.path.path())),
        });
    }

    /// The same of what was not read as a request, or not to its end; `method` and `path` may be empty.
    pub(super) fn note_unparsed(&self, code: ErrorCode, peer: Peer, method: &str, path: &str) {
        self.shared.metrics.error(code);
        self.shared.refused.note(code, || LastRefusal {
            at: self.shared.clock.wall(),
            listener: self.name.clone(),
            peer,
            caller: None,
            method: known(method),
            what: if path.is_empty() {
                "nothing was read"
            } else {
                place_of(path)
            },
        });
    }
}

fn known(method: &str) -> Option<Method> {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::CONNECT,
        Method::TRACE,
    ]
    .into_iter()
    .find(|known| *known == method)
}

fn place_of(path: &str) -> &'static str {
    let found = PLACES.into_iter().find(|place| path.starts_with(place));
    found.unwrap_or("a path outside /api/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_client_is_kept_but_how_the_path_begins() {
        for (path, place) in [
            ("/api/atlas/v2/groups/secret", "/api/atlas/v2/"),
            ("/api/atlas/v1.0/groups", "/api/atlas/"),
            ("/api/public/v1.0/x", "/api/public/"),
            ("/api/private/x", "/api/private/"),
            ("/api/oauth/token", "/api/oauth/"),
            ("/api/x", "/api/"),
            ("/", "a path outside /api/"),
            ("*", "a path outside /api/"),
        ] {
            assert_eq!(place_of(path), place, "{path}");
        }
        assert_eq!(known("GET"), Some(Method::GET));
        assert_eq!(known("get"), None);
        assert_eq!(known("mdb_sa_sk_x"), None);
    }

    #[test]
    fn the_last_of_each_code_is_kept_and_one_that_another_thread_holds_is_not_waited_for() {
        let all = LastRefusals::default();
        let refusal = |listener: &str| LastRefusal {
            at: SystemTime::UNIX_EPOCH,
            listener: listener.to_owned(),
            peer: Peer::Unix(7),
            caller: None,
            method: None,
            what: "",
        };
        let last = |code| all.last(code).map(|last| last.listener);
        assert_eq!(last(ErrorCode::IpDenied), None);
        all.note(ErrorCode::IpDenied, || refusal("a"));
        all.note(ErrorCode::RuleDenied, || refusal("b"));
        all.note(ErrorCode::IpDenied, || refusal("c"));
        assert_eq!(last(ErrorCode::IpDenied).as_deref(), Some("c"));
        assert_eq!(last(ErrorCode::RuleDenied).as_deref(), Some("b"));
        let held = all.place(ErrorCode::IpDenied).map(|place| place.lock());
        all.note(ErrorCode::IpDenied, || refusal("d"));
        drop(held);
        assert_eq!(last(ErrorCode::IpDenied).as_deref(), Some("c"));
    }
}
