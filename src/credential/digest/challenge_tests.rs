#![allow(clippy::unwrap_used)]

use http::HeaderValue;
use proptest::prelude::*;

use super::super::response::Hash;
use super::*;

fn parse_text(values: &[&str]) -> Vec<Challenge> {
    parse(values.iter().map(|value| value.as_bytes()))
}

fn one(value: &str) -> Challenge {
    let mut found = parse_text(&[value]);
    assert_eq!(found.len(), 1, "{value}");
    found.remove(0)
}

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

#[test]
fn the_challenge_of_atlas() {
    // From a recorded answer of 2026-08-10.
    let challenge = one(
        "Digest realm=\"MMS Public API\", domain=\"\", nonce=\"SlgYP7Tv3FS/BuCj/x4WQRIV1bNKdpJg\", algorithm=MD5, \
         qop=\"auth\", stale=false",
    );
    assert_eq!(&*challenge.realm.value, b"MMS Public API");
    assert_eq!(&*challenge.nonce.value, b"SlgYP7Tv3FS/BuCj/x4WQRIV1bNKdpJg");
    assert_eq!(challenge.opaque, None);
    assert_eq!(
        challenge.algorithm,
        Algorithm {
            hash: Hash::Md5,
            sess: false
        }
    );
    assert_eq!(challenge.algorithm_spelling.as_deref(), Some(&b"MD5"[..]));
    assert_eq!(challenge.qop, Qop::Auth);
    assert!(!challenge.stale && !challenge.userhash && !challenge.utf8);
}

#[test]
fn spellings_that_other_servers_use() {
    let challenge = one(
        "DIGEST\tREALM = \"r\" ,NONCE= n/+=,Algorithm=\"sha-256-SESS\", QOP = \"Auth-Int ,AUTH,auth-new\"  , \
         Stale=TRUE,userhash=\"True\" , charset=utf-8, opaque = \"\", x-unknown=\"a, b=c\", , ",
    );
    assert_eq!(&*challenge.nonce.value, b"n/+=");
    assert_eq!(
        challenge.algorithm,
        Algorithm {
            hash: Hash::Sha256,
            sess: true
        }
    );
    assert_eq!(challenge.algorithm_spelling.as_deref(), Some(&b"sha-256-SESS"[..]));
    assert_eq!(challenge.qop, Qop::Auth, "preferred, whatever stands first");
    assert!(challenge.stale && challenge.userhash && challenge.utf8);
    assert_eq!(challenge.opaque.unwrap().value.len(), 0);

    assert_eq!(
        one("Digest realm=r, nonce=n").algorithm,
        Algorithm {
            hash: Hash::Md5,
            sess: false
        }
    );
    assert_eq!(one("Digest realm=r, nonce=n").algorithm_spelling, None);
    assert_eq!(one("Digest realm=r, nonce=n").qop, Qop::Rfc2069);
    assert_eq!(one("Digest realm=r, nonce=n, qop=\"\"").qop, Qop::Rfc2069);
    assert_eq!(one("Digest realm=r, nonce=n, qop=auth-int").qop, Qop::AuthInt);
    assert!(!one("Digest realm=r, nonce=n, stale=yes").stale);
}

#[test]
fn escapes_mean_one_thing_and_are_sent_back_as_another() {
    let challenge = one(r#"Digest realm="a \"b\" \\ c, d=e", nonce="n\n""#);
    assert_eq!(&*challenge.realm.value, br#"a "b" \ c, d=e"#);
    assert_eq!(&*challenge.realm.raw, br#"a \"b\" \\ c, d=e"#);
    assert_eq!(&*challenge.nonce.value, b"nn");
    assert_eq!(&*challenge.nonce.raw, br"n\n");
}

#[test]
fn non_ascii_text_is_kept_as_it_is() {
    let challenge = one("Digest realm=\"Zürich\", nonce=\"n\"");
    assert_eq!(&*challenge.realm.value, "Zürich".as_bytes());
    let latin1 = parse([&b"Digest realm=\"Z\xfcrich\", nonce=\"n\""[..]]);
    assert_eq!(&*latin1[0].realm.value, b"Z\xfcrich");
}

#[test]
fn several_challenges_in_one_header_and_in_many() {
    let found = parse_text(&[
        "Negotiate, Basic realm=\"Digest realm=x, nonce=y\", Digest realm=\"1\", nonce=\"a\", NTLM TlRM/A==, digest realm=2, nonce=b",
        "Bearer",
        "Digest realm=\"3\", nonce=\"c\"",
    ]);
    let realms: Vec<_> = found.iter().map(|challenge| &*challenge.realm.value).collect();
    assert_eq!(realms, [b"1", b"2", b"3"]);
}

#[test]
fn challenges_that_cannot_be_answered_are_left_out() {
    for refused in [
        "",
        "Digest",
        "Digest realm=\"r\"",
        "Digest nonce=\"n\"",
        "Basic realm=\"r\", nonce=\"n\"",
        "realm=\"r\", nonce=\"n\"",
        "Digest realm=\"r\", nonce=\"n\", nonce=\"m\"",
        "Digest realm=\"r\", nonce=\"n\", X=\"1\", x=\"2\"",
        "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-1",
        "Digest realm=\"r\", nonce=\"n\", algorithm=\"\"",
        "Digest realm=\"r\", nonce=\"n\", qop=\"auth-new, token\"",
        "Digest realm=\"r\", nonce=\"n",
        "Digest realm=\"r\", nonce=\"n\", =",
        "Digest realm=\"r\u{1}\", nonce=\"n\"",
    ] {
        assert_eq!(parse_text(&[refused]), [], "{refused}");
    }
    let found = parse_text(&["Digest realm=1, nonce=a, nonce=b, Digest realm=2, nonce=c"]);
    assert_eq!(found.len(), 1, "one bad challenge does not spoil the next");
}

#[test]
fn work_is_bounded() {
    let params = |count: usize| (0..count).map(|at| format!(", p{at}=v")).collect::<String>();
    let with = |count: usize| format!("Digest realm=r, nonce=n{}", params(count));
    assert_eq!(parse_text(&[&with(MAX_PARAMS - 2)]).len(), 1);
    assert_eq!(parse_text(&[&with(MAX_PARAMS - 1)]), []);

    let padded = |len: usize| {
        let start = "Digest realm=r, nonce=n, x=";
        format!("{start}{}", "v".repeat(len - start.len()))
    };
    assert_eq!(parse_text(&[&padded(MAX_VALUE_BYTES)]).len(), 1);
    assert_eq!(parse_text(&[&padded(MAX_VALUE_BYTES + 1)]), []);

    let many = vec!["Digest realm=r, nonce=n"; MAX_VALUES + 1];
    assert_eq!(parse_text(&many).len(), MAX_VALUES);
}

#[test]
fn the_strongest_challenge_is_answered() {
    let best = |values: &[&str]| strongest(&headers(values)).map(|challenge| challenge.nonce.value);
    assert_eq!(
        best(&[
            "Digest realm=r, nonce=a, algorithm=MD5, qop=auth",
            "Digest realm=r, nonce=b, algorithm=SHA-512-256, qop=auth-int",
            "Digest realm=r, nonce=c, algorithm=SHA-256, qop=auth, Digest realm=r, nonce=d, algorithm=SHA-999, qop=auth",
        ])
        .as_deref(),
        Some(&b"b"[..])
    );
    let same =
        "Digest realm=r, nonce=a, qop=auth-int, Digest realm=r, nonce=b, qop=auth, Digest realm=r, nonce=c, qop=auth";
    assert_eq!(
        best(&[same]).as_deref(),
        Some(&b"b"[..]),
        "auth before auth-int, then the first"
    );
    assert_eq!(best(&["Basic realm=r"]), None);
    assert_eq!(best(&[]), None);
}

#[test]
fn next_nonce_is_taken_when_there_is_one() {
    let info = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("authentication-info", HeaderValue::from_str(value).unwrap());
        }
        next_nonce(&headers).map(|text| text.value)
    };
    let value = "qop=auth, rspauth=\"a, b\", cnonce=\"c\", nc=00000001, NextNonce = \"n+/=\"";
    assert_eq!(info(&[value]).as_deref(), Some(&b"n+/="[..]));
    assert_eq!(info(&["rspauth=\"nextnonce=x\""]), None);
    assert_eq!(info(&["nextnonce=\"\""]), None);
    assert_eq!(info(&["nextnonce=a", "nextnonce=b"]), None, "which one counts?");
    assert_eq!(info(&[]), None);
}

/// Text as a server may put it between quotes.
fn quoted_text() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        Just(b'\t'),
        0x20..=0x7e_u8,
        0x80..=0xff_u8,
        Just(b'"'),
        Just(b','),
        Just(b'\\')
    ];
    prop::collection::vec(byte, 0..40)
}

/// A quoted-string for `text`; where `escapes` says so also with escapes that aren't needed.
fn quote(text: &[u8], escapes: &[bool]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for (at, &byte) in text.iter().enumerate() {
        if matches!(byte, b'"' | b'\\') || escapes.get(at).copied().unwrap_or(false) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    out
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4)) {
        parse(values.iter().map(Vec::as_slice));
    }

    #[test]
    fn no_text_near_the_grammar_makes_it_panic(
        value in "([Dd]igest|Basic|realm|nonce|qop|stale|algorithm|auth|MD5|=|\"|\\\\|,| |\t|é|x){0,60}"
    ) {
        for challenge in parse([value.as_bytes()]) {
            prop_assert!(!challenge.nonce.raw.iter().any(u8::is_ascii_control) || challenge.nonce.raw.contains(&b'\t'));
        }
    }

    #[test]
    fn what_is_written_by_the_grammar_is_read_back(
        realm in quoted_text(),
        nonce in quoted_text(),
        opaque in prop::option::of(quoted_text()),
        escapes in prop::collection::vec(any::<bool>(), 40),
        before in prop::sample::select(vec!["", "Basic realm=\"x, Digest\", ", "Negotiate ab/=, ", "NTLM,", " , "]),
        after in prop::sample::select(vec!["", ", Bearer", ",Negotiate a==", ", Basic realm=\"\\\"\""]),
        blanks in prop::sample::select(vec!["", " ", "\t", "  "]),
        shout in any::<bool>(),
    ) {
        let name = |name: &str| if shout { name.to_ascii_uppercase() } else { name.to_owned() };
        let mut params = vec![(name("realm"), quote(&realm, &escapes)), (name("nonce"), quote(&nonce, &escapes))];
        params.extend(opaque.as_ref().map(|opaque| (name("opaque"), quote(opaque, &escapes))));
        let mut value = format!("{before}{} ", name("digest")).into_bytes();
        for (at, (name, quoted)) in params.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            value.extend(format!("{comma}{blanks}{name}{blanks}={blanks}").into_bytes());
            value.extend(quoted);
        }
        value.extend(after.as_bytes());

        let found = parse([value.as_slice()]);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(&*found[0].realm.value, realm.as_slice());
        prop_assert_eq!(&*found[0].nonce.value, nonce.as_slice());
        let raw = quote(&nonce, &escapes);
        prop_assert_eq!(&*found[0].nonce.raw, &raw[1..raw.len() - 1]);
        prop_assert_eq!(found[0].opaque.as_ref().map(|text| text.value.to_vec()), opaque);
    }
}
