//! Host and path policy, judged by readers of their own: a host that is let in is one of ours under a plain reading, and
//! a path that is let through is under no reading the one that a rule denies.
#![no_main]

use atlas_auth_proxy::guard::{Action, HostName, HostNames, PathPattern, Policy, Rule};
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (host, target) = text.split_once('\n').unwrap_or((text, "/"));
    check_host(host);
    check_path(target.split(['?', '#']).next().unwrap_or_default());
    let _ = HostName::parse(host);
    let _ = PathPattern::parse(target);
    let _ = atlas_auth_proxy::guard::parse_network(host);
    let _ = atlas_auth_proxy::server::NamePattern::parse(host);
});

fn check_host(host: &str) {
    let names = HostNames::new([HostName::parse("proxy.example.org").expect("a name")]);
    if !names.knows(host) {
        return;
    }
    // As plain as can be: one of four names, perhaps a colon, perhaps digits that are a port.
    let lower = host.to_ascii_lowercase();
    let ours = ["localhost", "127.0.0.1", "proxy.example.org"]
        .iter()
        .find_map(|name| lower.strip_prefix(name))
        .or_else(|| {
            let (ip, rest) = lower.strip_prefix('[')?.split_once(']')?;
            ip.parse::<std::net::Ipv6Addr>().ok().filter(|ip| ip.is_loopback())?;
            Some(rest)
        })
        .unwrap_or_else(|| panic!("{host:?} is none of ours"));
    let port = ours.strip_prefix(':').unwrap_or_default();
    assert!(ours.is_empty() || ours.starts_with(':'), "{host:?}");
    assert!(
        port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()),
        "{host:?}"
    );
}

fn check_path(path: &str) {
    let denied = PathPattern::parse("/api/atlas/v2/groups/{id}/databaseUsers/**").expect("a pattern");
    let policy = Policy::new(false, vec![Rule::new(Vec::new(), denied, Action::Deny)], Action::Allow);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        if policy.check(&method, path).is_err() {
            continue;
        }
        for reading in readings(path) {
            let segments: Vec<&str> = reading.split('/').filter(|segment| !segment.is_empty()).collect();
            let hit = matches!(segments[..], ["api", "atlas", "v2", "groups", _, "databaseusers", ..]);
            assert!(!hit, "{path:?} may be read as {reading:?}");
        }
    }
    let read_only = Policy::new(true, Vec::new(), Action::Allow);
    assert!(read_only.check(&Method::DELETE, path).is_err());
    assert!(
        read_only
            .check(&Method::from_bytes(b"get").expect("a method"), path)
            .is_err()
    );
}

/// Every plausible reading of a path, in small letters: decoded up to three times, with and without parameters, with
/// backslashes as slashes, with and without dot segments removed, cut at what ends a string in C.
fn readings(path: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut text = path.to_ascii_lowercase();
    for _ in 0..4 {
        for backslash in [false, true] {
            let text = if backslash {
                text.replace('\\', "/")
            } else {
                text.clone()
            };
            for cut in [false, true] {
                let text = if cut {
                    text.split('\0').next().unwrap_or_default().to_owned()
                } else {
                    text.clone()
                };
                for parameters in [false, true] {
                    let segments = text.split('/').map(|segment| {
                        if parameters {
                            segment.split(';').next().unwrap_or_default()
                        } else {
                            segment
                        }
                    });
                    let plain: Vec<&str> = segments.collect();
                    all.push(plain.join("/"));
                    let mut resolved: Vec<&str> = Vec::new();
                    for segment in plain {
                        match segment {
                            "." | "" => {}
                            ".." => {
                                resolved.pop();
                            }
                            other => resolved.push(other),
                        }
                    }
                    all.push(resolved.join("/"));
                }
            }
        }
        text = percent_encoding::percent_decode_str(&text)
            .decode_utf8_lossy()
            .to_ascii_lowercase();
    }
    all
}
