//! For tests: what servers might make of a path. An independent normaliser, which shares no code with the code under
//! test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

type Step = fn(&[u8]) -> Vec<u8>;

/// Every path that some server might make of this target path.
pub(crate) fn readings(path: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([path.as_bytes().to_vec()]);
    let steps: [Step; 6] = [
        percent_decoded,
        without_parameters,
        backslash_is_slash,
        until_nul,
        merged_slashes,
        dots_removed,
    ];
    // Any of the steps, in any order, any of them again: up to five deep.
    for _ in 0..5 {
        let next: Vec<Vec<u8>> = all.iter().flat_map(|p| steps.map(|step| step(p))).collect();
        let before = all.len();
        all.extend(next);
        if all.len() == before {
            break;
        }
    }
    all.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect()
}

pub(crate) fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'%')
            .then(|| tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()))
            .flatten()
            .filter(|h| h.chars().all(|c| c.is_ascii_hexdigit()))
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    // Overlong UTF-8 as a careless decoder reads it.
    let mut at = 0;
    while at + 1 < out.len() {
        if matches!(out[at], 0xc0 | 0xc1) && out[at + 1] & 0xc0 == 0x80 {
            out[at] = ((out[at] & 1) << 6) | (out[at + 1] & 0x3f);
            out.remove(at + 1);
        }
        at += 1;
    }
    out
}

fn segments(path: &[u8]) -> Vec<&[u8]> {
    path.split(|b| *b == b'/').collect()
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let cut = |s: &[u8]| s.split(|b| *b == b';').next().unwrap().to_vec();
    segments(path).into_iter().map(cut).collect::<Vec<_>>().join(&b'/')
}

fn backslash_is_slash(path: &[u8]) -> Vec<u8> {
    path.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect()
}

fn until_nul(path: &[u8]) -> Vec<u8> {
    path.split(|b| *b == 0).next().unwrap().to_vec()
}

fn merged_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|a, b| *a == b'/' && *b == b'/');
    out
}

/// RFC 3986 section 5.2.4, by segments.
fn dots_removed(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    let parts = segments(path);
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        match *part {
            b"." if last => out.push(b""),
            b"." => {}
            b".." => {
                if out.len() > 1 {
                    out.pop();
                }
                if last {
                    out.push(b"");
                }
            }
            other => out.push(other),
        }
    }
    out.join(&b'/')
}

/// Whether the path begins with these segments; `*` is any that is not empty.
pub(crate) fn under(path: &str, prefix: &[&str]) -> bool {
    let mut parts = path.split('/').skip(1);
    prefix.iter().all(|p| match (*p, parts.next()) {
        ("*", Some(part)) => !part.is_empty(),
        (literal, Some(part)) => part == literal,
        (_, None) => false,
    })
}
