//! The first bytes of a load balancer's connection: a client's address by a second, plain reading of the specification, or none.
#![no_main]

use std::net::IpAddr;

use atlas_auth_proxy::server::{LARGEST_PREAMBLE, Progress, preamble};
use libfuzzer_sys::fuzz_target;

/// Section 2.2, read once more; `None`: no client, or not all of it.
fn source(bytes: &[u8]) -> Option<(IpAddr, usize)> {
    let rest = bytes.strip_prefix(b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a")?;
    let rest = rest.strip_prefix(&[0x21])?;
    let size = match rest.first()? {
        0x11 => 4,
        0x21 => 16,
        _ => return None,
    };
    let length = usize::from(*rest.get(1)?) << 8 | usize::from(*rest.get(2)?);
    let body = rest.get(3..3 + length)?;
    if length < 2 * size + 4 || 16 + length > 536 {
        return None;
    }
    let ip = match size {
        4 => IpAddr::from(<[u8; 4]>::try_from(&body[..4]).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(&body[..16]).ok()?).to_canonical(),
    };
    Some((ip, 16 + length))
}

fuzz_target!(|bytes: &[u8]| {
    let whole = preamble(bytes);
    let found = match &whole {
        Ok(Progress::Source(source)) => Some(*source),
        Ok(Progress::Needs(more)) => {
            assert!(*more > bytes.len() && *more <= LARGEST_PREAMBLE);
            None
        }
        Err(error) => {
            assert!(error.to_string().len() < 200);
            None
        }
    };
    let expected = source(bytes);
    assert_eq!(found, expected.map(|(source, _)| source));
    // No byte behind it matters, and none is waited for.
    if let Some((source, length)) = expected {
        assert!(matches!(preamble(&bytes[..length]), Ok(Progress::Source(same)) if same == source));
        assert!(matches!(preamble(&bytes[..length - 1]), Ok(Progress::Needs(more)) if more == length));
    }
});
