//! The fields that proxies of this program tell each other: `X-Atlas-Auth-Proxy-…`. What a client sends of them ends at every
//! listener (`headers`); a proxy whose upstream is a gateway (a leaf) sends its own, and one whose upstream may be a proxy by
//! mistake counts hops.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::error::{ERROR_HEADER, ProxyError};
use crate::caller::CallerName;
use crate::code::ErrorCode;

/// How many proxies of this program the request has passed.
const HOPS: HeaderName = HeaderName::from_static("x-atlas-auth-proxy-hops");
/// Who called the leaf, as the leaf says.
const CALLER: HeaderName = HeaderName::from_static("x-atlas-auth-proxy-caller");
/// Says that the error beside it is the gateway's.
const ERROR_FROM: HeaderName = HeaderName::from_static("x-atlas-auth-proxy-error-from");
const GATEWAY: HeaderValue = HeaderValue::from_static("gateway");

/// The most proxies that a request may have passed when it comes in. A chain has two; what comes round again and again is
/// a mistake in the settings.
const MOST_HOPS: u64 = 3;
/// The longest code that is passed on, bytes.
const LONGEST_CODE: usize = 64;

const LOOPS: &str = "The request has passed more than 3 proxies of this program: most likely one of them leads to another, or to itself. \
                     Look at `gateway`, `base_url` and `connect_to` in their settings, and at where the upstream's name leads.";
const NO_NUMBER: &str =
    "`X-Atlas-Auth-Proxy-Hops` is what proxies of this program count with: one field with a number. Leave it out.";

/// How many proxies of this program a request has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hops(u64);

impl Hops {
    /// What a request says of it; nothing: none.
    ///
    /// # Errors
    /// When they are too many, or what stands there is no single number: such a request might go round for ever.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ProxyError> {
        let mut all = headers.get_all(HOPS).iter();
        let (first, more) = (all.next(), all.next());
        let Some(first) = first else { return Ok(Self(0)) };
        let digits = first.as_bytes();
        if more.is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(ProxyError::refused(ErrorCode::BadRequest, NO_NUMBER));
        }
        // What has too many digits for a number is more than the bound in any case.
        let hops = first
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(u64::MAX);
        if hops > MOST_HOPS {
            return Err(ProxyError::refused(ErrorCode::Loop, LOOPS));
        }
        Ok(Self(hops))
    }
}

/// What a leaf tells its gateway beside the request.
pub(super) struct Onward {
    came_with: Hops,
    caller: Option<CallerName>,
}

impl Onward {
    /// `came_with`: what the request said of proxies before this one. `caller`: who it comes from, where that was asked.
    pub(super) fn new(came_with: Hops, caller: Option<&CallerName>) -> Self {
        Self {
            came_with,
            caller: caller.cloned(),
        }
    }

    /// Puts it into a request to the gateway, and takes out what a browser said to this proxy: it was judged here, with
    /// another authority, and the gateway's guard would refuse it.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        headers.remove(header::REFERER);
        let of_browser: Vec<HeaderName> = headers
            .keys()
            .filter(|name| name.as_str().starts_with("sec-fetch-"))
            .cloned()
            .collect();
        for name in of_browser {
            headers.remove(name);
        }
        self.count(headers);
        let caller = self.caller.as_ref();
        if let Some(caller) = caller.and_then(|name| HeaderValue::from_str(name.as_str()).ok()) {
            headers.insert(CALLER, caller);
        }
    }

    /// Puts in one hop more, so that a request that comes back again and again is known for that.
    pub(super) fn count(&self, headers: &mut HeaderMap) {
        headers.insert(HOPS, HeaderValue::from(self.came_with.0.saturating_add(1)));
    }
}

/// Who called the leaf, as it says itself: one field with a name that a caller can have. Decides nothing.
pub(super) fn claimed_caller(headers: &HeaderMap) -> Option<CallerName> {
    let mut all = headers.get_all(CALLER).iter();
    let (first, None) = (all.next()?, all.next()) else {
        return None;
    };
    CallerName::parse(first.to_str().ok()?).ok()
}

/// The code of an error that a gateway made itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GatewayError(HeaderValue);

impl GatewayError {
    /// The error that an answer of a gateway is; `None`: it is Atlas's answer.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(ERROR_HEADER).iter();
        let (code, None) = (all.next()?, all.next()) else {
            return None;
        };
        let of_code = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        let text = code.as_bytes();
        let fits = text.starts_with(b"PROXY_") && text.len() <= LONGEST_CODE && text.iter().all(of_code);
        (fits && (status.is_client_error() || status.is_server_error())).then(|| Self(code.clone()))
    }

    /// The code.
    pub(super) fn code(&self) -> &str {
        // Made of letters, digits and `_` only.
        self.0.to_str().unwrap_or_default()
    }

    /// Marks the answer to the client.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        headers.insert(ERROR_HEADER, self.0.clone());
        headers.insert(ERROR_FROM, GATEWAY);
    }
}

/// Whether a gateway says that it does not know who this proxy is. What it passes on from a gateway behind itself is about
/// its own identity.
pub(super) fn refuses_identity(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED
        && !headers.contains_key(ERROR_FROM)
        && GatewayError::of(status, headers).is_some_and(|error| error.code() == ErrorCode::CallerUnknown.as_str())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn hops(values: &[&str]) -> Result<u64, ErrorCode> {
        let fields: Vec<_> = values.iter().map(|value| ("x-atlas-auth-proxy-hops", *value)).collect();
        Hops::of(&map(&fields)).map(|hops| hops.0).map_err(|error| error.code)
    }

    #[test]
    fn a_request_passes_three_proxies_and_no_fourth() {
        assert_eq!(hops(&[]), Ok(0));
        assert_eq!(hops(&["0"]), Ok(0));
        assert_eq!(hops(&["3"]), Ok(3));
        assert_eq!(hops(&["0003"]), Ok(3));
        for many in ["4", "99", "18446744073709551616", "99999999999999999999999999"] {
            assert_eq!(hops(&[many]), Err(ErrorCode::Loop), "{many}");
        }
    }

    #[test]
    fn a_count_that_is_none_is_refused() {
        for wrong in ["", "-1", "+1", "1.0", "0x1", "1,1", "1 1", "one", "\u{661}"] {
            assert_eq!(hops(&[wrong]), Err(ErrorCode::BadRequest), "{wrong}");
        }
        assert_eq!(hops(&["1", "1"]), Err(ErrorCode::BadRequest));
    }

    #[test]
    fn a_leaf_counts_itself_names_its_caller_and_keeps_what_a_browser_said() {
        let mut headers = map(&[
            ("referer", "http://localhost:8080/"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-whatever", "x"),
            ("accept", "a"),
        ]);
        let caller = CallerName::parse("billing").unwrap();
        Onward::new(Hops(2), Some(&caller)).put(&mut headers);
        assert_eq!(headers.len(), 3);
        assert_eq!(headers[HOPS], "3");
        assert_eq!(headers[CALLER], "billing");
        assert_eq!(headers["accept"], "a");
    }

    #[test]
    fn a_claimed_caller_is_one_name_that_a_caller_can_have() {
        let claimed = |values: &[&str]| {
            let fields: Vec<_> = values
                .iter()
                .map(|value| ("x-atlas-auth-proxy-caller", *value))
                .collect();
            claimed_caller(&map(&fields)).map(|name| name.as_str().to_owned())
        };
        assert_eq!(claimed(&["billing"]).as_deref(), Some("billing"));
        let long = "a".repeat(64);
        for wrong in ["", "Billing", "a b", "a,b", "anonymous", "\u{fc}", &long] {
            assert_eq!(claimed(&[wrong]), None, "{wrong}");
        }
        assert_eq!(claimed(&["a", "a"]), None);
        assert_eq!(claimed(&[]), None);
    }

    #[test]
    fn a_gateways_error_is_a_code_of_ours_with_a_failing_status() {
        let of = |status: u16, values: &[&str]| {
            let fields: Vec<_> = values
                .iter()
                .map(|value| ("x-atlas-auth-proxy-error", *value))
                .collect();
            GatewayError::of(StatusCode::from_u16(status).unwrap(), &map(&fields)).map(|error| error.code().to_owned())
        };
        assert_eq!(
            of(503, &["PROXY_TOKEN_UNAVAILABLE"]).as_deref(),
            Some("PROXY_TOKEN_UNAVAILABLE")
        );
        assert_eq!(
            of(429, &["PROXY_SOME_NEW_CODE"]).as_deref(),
            Some("PROXY_SOME_NEW_CODE")
        );
        assert_eq!(of(200, &["PROXY_TOKEN_UNAVAILABLE"]), None);
        let long = format!("PROXY_{}", "A".repeat(60));
        for wrong in ["", "TOKEN", "PROXY_a", "PROXY_A B", &long] {
            assert_eq!(of(503, &[wrong]), None, "{wrong}");
        }
        assert_eq!(of(503, &["PROXY_A", "PROXY_A"]), None);
    }

    #[test]
    fn only_the_gateways_own_401_is_about_the_identity() {
        let refuses = |status: u16, fields: &[(&str, &str)]| {
            refuses_identity(StatusCode::from_u16(status).unwrap(), &map(fields))
        };
        let unknown = ("x-atlas-auth-proxy-error", "PROXY_CALLER_UNKNOWN");
        assert!(refuses(401, &[unknown]));
        assert!(!refuses(403, &[unknown]));
        assert!(!refuses(401, &[]));
        assert!(!refuses(401, &[("x-atlas-auth-proxy-error", "PROXY_RULE_DENIED")]));
        assert!(!refuses(401, &[unknown, ("x-atlas-auth-proxy-error-from", "gateway")]));
    }

    proptest! {
        #[test]
        fn no_value_panics_or_passes_more_than_the_bound(values in proptest::collection::vec("[ -~]{0,30}", 0..3)) {
            let fields: Vec<_> = values.iter().map(|value| ("x-atlas-auth-proxy-hops", value.as_str())).collect();
            if let Ok(hops) = Hops::of(&map(&fields)) {
                prop_assert!(hops.0 <= MOST_HOPS);
            }
            let fields: Vec<_> = values.iter().map(|value| ("x-atlas-auth-proxy-caller", value.as_str())).collect();
            if let Some(name) = claimed_caller(&map(&fields)) {
                prop_assert!(name.as_str().len() <= 63);
            }
        }
    }
}
