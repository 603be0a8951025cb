//! The examples printed in RFC 7616, RFC 2617 and RFC 2069 (where those are right), and a comparison with the `digest_auth` crate.

#![allow(clippy::unwrap_used)]

use digest_auth::{AuthContext, Charset, HttpMethod, WwwAuthenticateHeader};
use proptest::prelude::*;

use super::super::challenge::parse;
use super::*;

struct Example<'a> {
    challenge: &'a str,
    username: &'a str,
    password: &'a str,
    client_nonce: &'a str,
}

impl Example<'_> {
    fn nonce(&self) -> Nonce {
        Nonce::new(NonceParts {
            challenge: parse([self.challenge.as_bytes()]).remove(0),
            generation: 1,
            born: Duration::ZERO,
            counter: Arc::default(),
            fetched_before: 0,
            client_nonce: self.client_nonce.as_bytes().into(),
            username: self.username,
            password: &Secret::new(self.password),
        })
    }

    fn get(&self, uri: &str) -> String {
        let nonce = self.nonce();
        text(&nonce.header(&Method::GET, uri, BodyForDigest::Unknown, nonce.next_count().unwrap()))
    }
}

fn text(header: &Option<HeaderValue>) -> String {
    let header = header.as_ref().unwrap();
    assert!(header.is_sensitive());
    String::from_utf8(header.as_bytes().to_vec()).unwrap()
}

fn rfc7616_section_3_9_1(algorithm: &str) -> String {
    let challenge = format!(
        "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
         nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
    );
    let example = Example {
        challenge: &challenge,
        username: "Mufasa",
        password: "Circle of Life",
        client_nonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    };
    example.get("/dir/index.html")
}

#[test]
fn rfc7616_section_3_9_1_md5() {
    assert_eq!(
        rfc7616_section_3_9_1("MD5"),
        "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
         nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", uri=\"/dir/index.html\", qop=auth, nc=00000001, \
         cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", response=\"8ca523f5e9506fed4657c9700eebdbec\", \
         algorithm=MD5, opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
    );
}

#[test]
fn rfc7616_section_3_9_1_sha256() {
    let header = rfc7616_section_3_9_1("SHA-256");
    let response = "response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\", algorithm=SHA-256";
    assert!(header.contains(response), "{header}");
}

/// The values printed in the RFC came from SHA-512 cut to 256 bits, which is not SHA-512/256; these are the corrected ones
/// of erratum 4897.
#[test]
fn rfc7616_section_3_9_2_as_corrected_by_erratum_4897() {
    let challenge = "Digest realm=\"api@example.org\", qop=\"auth\", algorithm=SHA-512-256, \
        nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", opaque=\"HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS\", \
        charset=UTF-8, userhash=true";
    let example = Example {
        challenge,
        username: "J\u{e4}s\u{f8}n Doe",
        password: "Secret, or not?",
        client_nonce: "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
    };
    let response = "response=\"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5\"";
    let hashed = example.get("/doe.json");
    let username = "username=\"793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b\"";
    assert!(
        hashed.contains(username) && hashed.contains(response) && hashed.ends_with("userhash=true"),
        "{hashed}"
    );

    let without = challenge.replace(", userhash=true", "");
    let plain = Example {
        challenge: &without,
        ..example
    }
    .get("/doe.json");
    assert!(
        plain.starts_with("Digest username*=UTF-8''J%C3%A4s%C3%B8n%20Doe, realm="),
        "{plain}"
    );
    assert!(plain.contains(response) && !plain.contains("userhash"), "{plain}");
}

#[test]
fn rfc2617_section_3_5() {
    let example = Example {
        challenge: "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
                    nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        username: "Mufasa",
        password: "Circle Of Life",
        client_nonce: "0a4f113b",
    };
    assert_eq!(
        example.get("/dir/index.html"),
        "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
         uri=\"/dir/index.html\", qop=auth, nc=00000001, cnonce=\"0a4f113b\", \
         response=\"6629fae49393a05397450978507c4ef1\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
    );
}

/// The response printed in RFC 2069 section 2.4 is not what its own formula gives; this is, and the one that other
/// implementations test for.
#[test]
fn rfc2069_section_2_4_by_its_formula() {
    let example = Example {
        challenge: "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
                    opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        username: "Mufasa",
        password: "CircleOfLife",
        client_nonce: "not sent",
    };
    assert_eq!(
        example.get("/dir/index.html"),
        "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
         uri=\"/dir/index.html\", response=\"1949323746fe6a43ef61f9606e7febea\", \
         opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
    );
}

#[test]
fn text_of_the_server_goes_back_unchanged_and_ours_is_escaped() {
    let example = Example {
        challenge: r#"Digest realm="a \"b\" \c", nonce="n\\", qop=auth, algorithm="md5-SESS", opaque="\o""#,
        username: "us\"er\\",
        password: "p",
        client_nonce: "c",
    };
    let header = example.get("/a\"b\\c?d=%22&e=\u{e9}");
    let start = r#"Digest username="us\"er\\", realm="a \"b\" \c", nonce="n\\", uri="/a\"b\\c?d=%22&e=é", qop=auth, "#;
    assert!(header.starts_with(start), "{header}");
    assert!(header.ends_with(r#", algorithm=md5-SESS, opaque="\o""#), "{header}");
}

#[test]
fn auth_int_needs_the_body_and_covers_it() {
    let nonce = Example {
        challenge: "Digest realm=r, nonce=n, qop=\"auth-int\"",
        username: "u",
        password: "p",
        client_nonce: "c",
    }
    .nonce();
    let header = |body| nonce.header(&Method::POST, "/", body, 1);
    assert_eq!(header(BodyForDigest::Unknown), None);
    let whole = text(&header(BodyForDigest::Bytes(b"{\"a\":1}")));
    assert!(whole.contains("qop=auth-int, nc=00000001, cnonce=\"c\""), "{whole}");
    let chunks = [Bytes::from_static(b"{\"a\""), Bytes::new(), Bytes::from_static(b":1}")];
    assert_eq!(text(&header(BodyForDigest::Chunks(&chunks))), whole);
    assert_ne!(text(&header(BodyForDigest::Bytes(b""))), whole);
}

#[test]
fn a_target_that_no_header_can_carry_gives_none() {
    let example = Example {
        challenge: "Digest realm=r, nonce=n",
        username: "u",
        password: "p",
        client_nonce: "c",
    };
    assert_eq!(
        example
            .nonce()
            .header(&Method::GET, "/a\r\nX: y", BodyForDigest::Unknown, 1),
        None
    );
}

#[test]
fn counts_begin_at_one_and_end_at_32_bits() {
    let nonce = Example {
        challenge: "Digest realm=r, nonce=n",
        username: "u",
        password: "p",
        client_nonce: "c",
    }
    .nonce();
    assert_eq!(nonce.next_count(), Some(1));
    assert_eq!(nonce.next_count(), Some(2));
    nonce.counter().given.store(u64::from(u32::MAX) - 1, Ordering::Relaxed);
    assert_eq!(nonce.next_count(), Some(u32::MAX));
    assert_eq!(nonce.next_count(), None);
    assert_eq!(nonce.next_count(), None);
}

fn param(header: &str, name: &str) -> Option<String> {
    let start = header.find(&format!(" {name}=\""))? + name.len() + 3;
    let end = header[start..].find('"')?;
    Some(header[start..start + end].to_owned())
}

const PLAIN: &str = "[ !#-\\[\\]-~]{0,30}";

proptest! {
    #[test]
    fn responses_are_those_of_the_digest_auth_crate(
        texts in [PLAIN, PLAIN, PLAIN, PLAIN, PLAIN],
        algorithm in prop::sample::select(
            vec!["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"]
        ),
        // The crate leaves the client nonce out where a `-sess` server offers no qop, and hashes it none the less.
        qop in prop::sample::select(vec![None, Some("auth"), Some("auth-int")]),
        userhash in any::<bool>(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        count in 1..u32::MAX,
        method in prop::sample::select(vec!["GET", "POST", "PATCH", "DELETE"]),
    ) {
        let [username, password, realm, nonce, uri] = &texts;
        let mut value = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, userhash={userhash}");
        if let Some(qop) = qop {
            value.push_str(&format!(", qop={qop}"));
        }
        let ours = Example { challenge: &value, username, password, client_nonce: "0a4f113b" }.nonce();
        let body_given = if qop == Some("auth-int") { BodyForDigest::Bytes(&body) } else { BodyForDigest::Unknown };
        let header = text(&ours.header(&Method::from_bytes(method.as_bytes()).unwrap(), uri, body_given, count));

        let mut prompt = WwwAuthenticateHeader {
            domain: None,
            realm: realm.clone(),
            nonce: nonce.clone(),
            opaque: None,
            stale: false,
            algorithm: algorithm.parse().unwrap(),
            qop: qop.map(|qop| vec![qop.parse().unwrap()]),
            userhash,
            charset: Charset::ASCII,
            nc: count - 1,
        };
        let body = (qop == Some("auth-int")).then_some(body.as_slice());
        let mut context =
            AuthContext::new_with_method(username.as_str(), password.as_str(), uri.as_str(), body, HttpMethod::from(method));
        context.set_custom_cnonce("0a4f113b");
        let theirs = prompt.respond(&context).unwrap();

        prop_assert_eq!(param(&header, "response").unwrap(), theirs.response);
        prop_assert_eq!(param(&header, "username").unwrap(), theirs.username);
        prop_assert_eq!(param(&header, "uri").unwrap(), theirs.uri);
    }
}
