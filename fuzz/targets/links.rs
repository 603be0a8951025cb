//! The link rewriter: however a body is cut into pieces, the same comes out; a body without a link comes out as it went
//! in; and of valid JSON nothing but `href` strings changes.
#![no_main]

use atlas_auth_proxy::proxy::links::{JsonRewriter, LinkRewriter};
use atlas_auth_proxy::upstream::Origin;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const CLIENT: &str = "http://localhost:8080";

fn rewrite<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut rewriter = JsonRewriter::new(&LinkRewriter::new(&Origin::commercial()), CLIENT);
    let mut out = Vec::new();
    for piece in pieces {
        match rewriter.push(piece) {
            Some(changed) => out.extend(changed),
            None => out.extend_from_slice(piece),
        }
    }
    out.extend(rewriter.finish());
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, body)) = data.split_first() else { return };
    let whole = rewrite([body].into_iter());
    let size = usize::from(*cut).max(1);
    assert_eq!(rewrite(body.chunks(size)), whole, "in pieces of {size}");
    assert_eq!(rewrite(body.chunks(1)), whole, "byte by byte");
    if !body
        .windows(4)
        .any(|window| window.eq_ignore_ascii_case(b"href") || window.contains(&b'\\'))
    {
        assert_eq!(whole, body);
    }
    if let Ok(before) = serde_json::from_slice::<Value>(body) {
        let after: Value = serde_json::from_slice(&whole).expect("JSON stays JSON");
        compare(&before, &after, false);
    }
});

/// `href`: the value of such a key.
fn compare(before: &Value, after: &Value, href: bool) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            assert!(before.keys().eq(after.keys()));
            for (key, value) in before {
                compare(value, &after[key], key == "href");
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len());
            before
                .iter()
                .zip(after)
                .for_each(|(before, after)| compare(before, after, false));
        }
        (Value::String(before), Value::String(after)) if before != after => {
            assert!(href, "{before:?} became {after:?}");
            // Scheme and host have no case (RFC 3986 section 6.2.2.1), and the scheme's own port may be named.
            let origin = "https://cloud.mongodb.com";
            let head = before.get(..origin.len()).unwrap_or_default();
            assert!(
                head.eq_ignore_ascii_case(origin),
                "{before:?} is no link of the upstream"
            );
            let rest = &before[origin.len()..];
            let rest = rest.strip_prefix(":443").unwrap_or(rest);
            assert!(rest.starts_with("/api/") || rest.starts_with("//api/"), "{before:?}");
            assert_eq!(after.strip_prefix(CLIENT), Some(rest));
        }
        (before, after) => assert_eq!(before, after),
    }
}
