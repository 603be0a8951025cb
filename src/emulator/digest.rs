//! HTTP Digest as a server (RFC 7616 section 3.4), strict: every field must be right, and each (nonce, nc) comes once.
//!
//! The arithmetic is `digest_auth`'s, so that the proxy's own is checked against another implementation.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use digest_auth::{AuthContext, HttpMethod, Qop, WwwAuthenticateHeader};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::settings::{Algorithm, EmulatorSettings};

pub(super) const REALM: &str = "MMS Public API";
/// Nonces remembered at most: old ones are stale anyway.
const MAX_NONCES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Digest {
    nonces: Mutex<HashMap<String, Nonce>>,
}

#[derive(Debug)]
struct Nonce {
    born: Instant,
    used: HashSet<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    /// All right but the nonce's age.
    Stale,
    Refused,
}

impl Digest {
    /// The value of `WWW-Authenticate`, with a fresh nonce.
    pub(super) fn challenge(&self, stale: bool, settings: &EmulatorSettings) -> String {
        let mut random = [0; 24];
        // Without randomness the nonce is all zeros, which is harmless here.
        let _ = getrandom::fill(&mut random);
        let nonce = STANDARD.encode(random);
        let mut nonces = self.nonces.lock();
        if nonces.len() >= MAX_NONCES {
            nonces.retain(|_, nonce| nonce.born.elapsed() < settings.nonce_life);
        }
        nonces.insert(
            nonce.clone(),
            Nonce {
                born: Instant::now(),
                used: HashSet::new(),
            },
        );
        format!(
            r#"Digest realm="{REALM}", domain="", nonce="{nonce}", algorithm={}, qop="auth", stale={stale}"#,
            settings.algorithm.name()
        )
    }

    pub(super) fn expire_all(&self) {
        self.nonces.lock().clear();
    }

    /// `credentials`: what follows `Digest `; `target`: the request target.
    pub(super) fn verify(&self, credentials: &str, method: &str, target: &str, settings: &EmulatorSettings) -> Verdict {
        match self.check(credentials, method, target, settings) {
            Some(verdict) => verdict,
            None => Verdict::Refused,
        }
    }

    fn check(&self, credentials: &str, method: &str, target: &str, settings: &EmulatorSettings) -> Option<Verdict> {
        let fields = fields(credentials)?;
        let field = |name: &str| fields.get(name).map(String::as_str);
        let (_, password) = settings
            .api_keys
            .iter()
            .find(|(public, _)| Some(public.as_str()) == field("username"))?;
        let (nonce, cnonce, nc) = (field("nonce")?, field("cnonce")?, field("nc")?);
        let right = field("realm") == Some(REALM)
            && field("uri") == Some(target)
            && field("qop") == Some("auth")
            && field("algorithm").unwrap_or("MD5") == settings.algorithm.name()
            && nc.len() == 8
            && nc.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        if !right {
            return None;
        }
        let count = u32::from_str_radix(nc, 16).ok().filter(|count| *count > 0)?;
        let expected = response(
            settings.algorithm,
            method,
            target,
            field("username")?,
            password,
            nonce,
            cnonce,
            count,
        )?;
        if field("response")? != expected {
            return None;
        }
        let mut nonces = self.nonces.lock();
        let Some(known) = nonces.get_mut(nonce) else {
            return Some(Verdict::Stale);
        };
        if known.born.elapsed() >= settings.nonce_life {
            nonces.remove(nonce);
            return Some(Verdict::Stale);
        }
        // The first count must be 00000001; concurrent ones may overtake each other by a little.
        let too_far = u32::try_from(known.used.len()).map_or(u32::MAX, |used| used.saturating_add(1024)) < count;
        let first_is_wrong = known.used.is_empty() && count > 1024;
        if too_far || first_is_wrong || !known.used.insert(count) {
            return None;
        }
        Some(Verdict::Accepted)
    }
}

#[allow(clippy::too_many_arguments)]
fn response(
    algorithm: Algorithm,
    method: &str,
    target: &str,
    username: &str,
    password: &str,
    nonce: &str,
    cnonce: &str,
    count: u32,
) -> Option<String> {
    let mut context = AuthContext::new_with_method(
        username,
        password,
        target,
        None::<Vec<u8>>,
        HttpMethod::from(method.to_owned()),
    );
    context.set_custom_cnonce(cnonce.to_owned());
    let challenge = WwwAuthenticateHeader {
        domain: None,
        realm: REALM.to_owned(),
        nonce: nonce.to_owned(),
        opaque: None,
        stale: false,
        algorithm: algorithm.name().parse().ok()?,
        qop: Some(vec![Qop::AUTH]),
        userhash: false,
        charset: digest_auth::Charset::ASCII,
        nc: count.checked_sub(1)?,
    };
    let mut challenge = challenge;
    Some(challenge.respond(&context).ok()?.response)
}

/// `name=value` and `name="value"`, separated by commas (RFC 9110 section 11.4). A repeated name is refused.
fn fields(text: &str) -> Option<HashMap<String, String>> {
    let mut fields = HashMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if fields.insert(name.trim().to_ascii_lowercase(), value).is_some() {
            return None;
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(fields)
}

fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> EmulatorSettings {
        EmulatorSettings {
            api_keys: vec![("user".into(), "pass".into())],
            ..EmulatorSettings::default()
        }
    }

    fn nonce_of(challenge: &str) -> String {
        challenge
            .split("nonce=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned()
    }

    fn credentials(nonce: &str, uri: &str, nc: &str, response: &str) -> String {
        format!(
            r#"username="user", realm="{REALM}", nonce="{nonce}", uri="{uri}", qop=auth, nc={nc}, cnonce="c", response="{response}", algorithm=MD5"#
        )
    }

    #[test]
    fn only_what_is_right_in_every_field_passes_and_only_once() {
        let (digest, settings) = (Digest::default(), settings());
        let nonce = nonce_of(&digest.challenge(false, &settings));
        let right = response(Algorithm::Md5, "GET", "/a?b", "user", "pass", &nonce, "c", 1).unwrap();
        let verify = |c: &str, method: &str, target: &str| digest.verify(c, method, target, &settings);
        let good = credentials(&nonce, "/a?b", "00000001", &right);
        assert_eq!(verify(&good, "POST", "/a?b"), Verdict::Refused);
        assert_eq!(verify(&good, "GET", "/a"), Verdict::Refused);
        assert_eq!(
            verify(&good.replace("qop=auth", "qop=auth-int"), "GET", "/a?b"),
            Verdict::Refused
        );
        assert_eq!(verify(&good.replace("00000001", "1"), "GET", "/a?b"), Verdict::Refused);
        assert_eq!(verify(&good.replace(&right, "0"), "GET", "/a?b"), Verdict::Refused);
        assert_eq!(verify(&good, "GET", "/a?b"), Verdict::Accepted);
        assert_eq!(verify(&good, "GET", "/a?b"), Verdict::Refused);
        digest.expire_all();
        assert_eq!(verify(&good, "GET", "/a?b"), Verdict::Stale);
    }

    #[test]
    fn the_challenge_is_as_atlas_sends_it() {
        let challenge = Digest::default().challenge(false, &settings());
        assert!(
            challenge.starts_with(r#"Digest realm="MMS Public API", domain="", nonce=""#),
            "{challenge}"
        );
        assert!(
            challenge.ends_with(r#"", algorithm=MD5, qop="auth", stale=false"#),
            "{challenge}"
        );
    }
}
