//! The closed sets that labels come from.

use http::StatusCode;

/// Known methods; the last stands for all others.
pub(super) const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// Known statuses; the last stands for all others.
pub(super) const STATUSES: &[(u16, &str)] = &[
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (301, "301"),
    (302, "302"),
    (303, "303"),
    (304, "304"),
    (307, "307"),
    (308, "308"),
    (400, "400"),
    (401, "401"),
    (402, "402"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (406, "406"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (412, "412"),
    (413, "413"),
    (415, "415"),
    (421, "421"),
    (422, "422"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
    (508, "508"),
    (0, "other"),
];

/// Classes of statuses; the last stands for no answer.
pub(super) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// The tag of what is no operation of the catalogue.
pub(super) const UNKNOWN_TAG: &str = "unknown";

pub(super) fn class_index(status: Option<StatusCode>) -> usize {
    let hundreds = status.map_or(0, |status| usize::from(status.as_u16() / 100));
    match hundreds {
        1..=5 => hundreds - 1,
        _ => CLASSES.len() - 1,
    }
}

pub(super) fn method_index(method: &str) -> usize {
    METHODS
        .iter()
        .position(|known| *known == method)
        .unwrap_or(METHODS.len() - 1)
}

pub(super) fn status_index(status: u16) -> usize {
    STATUSES
        .iter()
        .position(|(known, _)| *known == status)
        .unwrap_or(STATUSES.len() - 1)
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[doc = $of:literal])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $of])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The label values.
            pub const NAMES: [&'static str; Self::ALL.len()] = [$($text,)*];

            /// The label values and their meanings: a variant's doc comment, so the two cannot drift.
            #[cfg(test)]
            pub(super) const DESCRIBED: &'static [(&'static str, &'static str)] = &[$(($text, concat!($($of),*)),)*];

            /// The label value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    )*};
}

labels! {
    /// Why a connection or request was refused.
    DenyReason {
        /// An address that is not on the allowlist, a user that is not among `uids`.
        Ip = "ip",
        /// A connection that was let in, by a peer that no longer is: after a reload, or with an expired certificate.
        Peer = "peer",
        /// A request by a name that is not the proxy's.
        Host = "host",
        /// A request of a web page.
        Browser = "browser",
        /// A request without the required header.
        Header = "header",
        /// A method or path that `read_only` or a rule forbids.
        Rule = "rule",
        /// CONNECT or TRACE.
        Method = "method",
        /// A target that is none of ours, or none at all.
        Target = "target",
        /// A head that is malformed, has more than one reading, or is too large.
        Malformed = "malformed",
        /// Beyond `max_connections`, a caller's part of them, or `max_connections_per_peer`.
        Connections = "connections",
        /// A TLS handshake that failed: no certificate or a wrong one, plain HTTP on a TLS port, no common version.
        Tls = "tls",
        /// A load balancer's connection that names no client who may be one (`proxy_protocol`).
        Preamble = "preamble",
        /// An HTTP/2 flood.
        Flood = "flood",
        /// More requests than the listener or the caller may make.
        Rate = "rate",
        /// What shows who the caller is was wrong.
        Caller = "caller",
        /// Nothing showed who the caller is, and the client was asked for that: so clients of HTTP Digest begin.
        Challenge = "challenge",
    }
    /// Which way bytes go.
    Direction {
        /// Request bodies.
        ToUpstream = "to_upstream",
        /// Response bodies.
        ToClient = "to_client",
    }
    /// How a token request ended.
    TokenOutcome {
        /// A token was granted.
        Ok = "ok",
        /// `invalid_client`: the client id or secret is not accepted.
        Rejected = "rejected",
        /// 429.
        RateLimited = "rate_limited",
        /// The service account has as many live tokens as Atlas allows.
        TokenLimit = "token_limit",
        /// An answer that is no token response.
        Malformed = "malformed",
        /// No connection.
        Unreachable = "unreachable",
        /// No answer in time.
        Timeout = "timeout",
        /// Another status.
        Error = "error",
    }
    /// Why a Digest challenge came.
    ChallengeCause {
        /// The request carried no credential.
        First = "first",
        /// The nonce was too old.
        Stale = "stale",
        /// The answer was refused.
        Refused = "refused",
        /// It was fetched for a body that can be sent only once.
        Prime = "prime",
    }
    /// What caused a try.
    AttemptCause {
        /// The client's request.
        First = "first",
        /// A reused connection broke.
        Reconnect = "reconnect",
        /// The upstream said that it did not process the request.
        NotProcessed = "not_processed",
        /// The token was refused and renewed.
        TokenRenewed = "token_renewed",
        /// A Digest challenge had to be fetched or answered.
        DigestChallenge = "digest_challenge",
        /// Atlas answered 429, and the listener waits (`retry_429`).
        RateLimited = "rate_limited",
        /// A gateway did not know who it is, and the identity was read anew.
        IdentityRead = "identity_read",
        /// A request of our own tells whether a 401 was about the credential.
        Probe = "probe",
    }
    /// Kinds of failures upstream.
    UpstreamErrorKind {
        /// The address is not on the API access list.
        AccessList = "access_list",
        /// The role does not allow it.
        Role = "role",
        /// 429.
        RateLimit = "rate_limit",
        /// Too many live tokens.
        TokenLimit = "token_limit",
        /// 401 after recovery, or `invalid_client` of the token endpoint.
        BadCredential = "bad_credential",
        /// The secret is past its expiry.
        ExpiredSecret = "expired_secret",
        /// The resource version is missing, unknown or gone.
        Version = "version",
        /// 5xx.
        Upstream = "upstream",
        /// An answer that hides its status where it was not looked for (`envelope=true`).
        Unknown = "unknown",
        /// No TCP connection.
        Connect = "connect",
        /// No trusted TLS connection.
        Tls = "tls",
        /// No address.
        Dns = "dns",
        /// Too slow.
        Timeout = "timeout",
        /// The connection broke.
        Reset = "reset",
        /// No free connection within the time to wait for one.
        Queue = "queue",
        /// An answer that a gateway before Atlas made itself.
        Gateway = "gateway",
    }
    /// How looking for a token in the store that replicas share ended; each time that brings a token counts as one of
    /// the first four.
    TokenStoreOutcome {
        /// It was there.
        Hit = "hit",
        /// It was asked for here, and stored for all.
        Renewed = "renewed",
        /// Another replica asked for it, and it came while this one waited.
        Waited = "waited",
        /// It was asked for here, for this replica alone: the store gave no help.
        Fallback = "fallback",
        /// A step of the store failed, or what lay there could not be opened.
        Error = "error",
    }
    /// What became of a span.
    SpanOutcome {
        /// The receiver has it.
        Sent = "sent",
        /// There was no room for it: the receiver is too slow, or away.
        Dropped = "dropped",
        /// The receiver did not take it, or could not be reached.
        Failed = "failed",
    }
    /// How a reload ended.
    ReloadOutcome {
        /// It went well: what was read is in force.
        Ok = "ok",
        /// It failed: what was in force before stays.
        Error = "error",
    }
}
