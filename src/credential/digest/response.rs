//! The arithmetic of RFC 7616 section 3.4, over `md-5` and `sha2`: no allocation, no lock, nonce count and client nonce
//! as parameters. The `digest_auth` crate computes the same, but it hashes the user part anew for each request, builds
//! some twenty strings on the way, and counts through `&mut`; here it is the reference that the tests compare with.

use http::Method;
use md5::Md5;
use zeroize::{Zeroize, Zeroizing};

use super::BodyForDigest;
use crate::crypto;

/// A hash function, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hash {
    Md5,
    Sha256,
    Sha512_256,
}

/// The `algorithm` of a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Algorithm {
    pub(super) hash: Hash,
    /// A `-sess` variant: nonce and client nonce are part of the user's hash.
    pub(super) sess: bool,
}

impl Algorithm {
    /// None: a name we don't know.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let (base, sess) = match name.strip_suffix(b"-sess") {
            Some(base) => (base, true),
            None => (name.as_slice(), false),
        };
        let hash = match base {
            b"md5" if crypto::MD5_ALLOWED => Hash::Md5,
            b"sha-256" => Hash::Sha256,
            b"sha-512-256" => Hash::Sha512_256,
            _ => return None,
        };
        Some(Self { hash, sess })
    }
}

/// A hash in lower-case hexadecimal.
pub(crate) struct Hex {
    text: [u8; 64],
    len: usize,
}

impl Hex {
    pub(super) fn new(bytes: &[u8]) -> Self {
        debug_assert!(bytes.len() <= 32, "the longest hash has 32 bytes");
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&hex_pair(*byte));
        }
        Self {
            text,
            len: bytes.len() * 2,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl Zeroize for Hex {
    fn zeroize(&mut self) {
        self.text.zeroize();
    }
}

fn hex_pair(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// A nonce count as it stands in the header: eight digits (RFC 7616 section 3.4).
pub(super) fn count_text(count: u32) -> [u8; 8] {
    let mut text = [0; 8];
    for (pair, byte) in text.chunks_exact_mut(2).zip(count.to_be_bytes()) {
        pair.copy_from_slice(&hex_pair(byte));
    }
    text
}

impl Hash {
    /// The hash of the parts with a colon between each two.
    pub(crate) fn of<const N: usize>(self, parts: [&[u8]; N]) -> Hex {
        let pieces = parts
            .into_iter()
            .enumerate()
            .flat_map(|(at, part)| [if at == 0 { &b""[..] } else { b":" }, part]);
        self.of_pieces(pieces)
    }

    /// The hash of the pieces as they follow each other.
    fn of_pieces<'a>(self, pieces: impl Iterator<Item = &'a [u8]>) -> Hex {
        fn run<'a, H: md5::Digest>(pieces: impl Iterator<Item = &'a [u8]>) -> Hex {
            let mut hash = H::new();
            pieces.for_each(|piece| hash.update(piece));
            Hex::new(&hash.finalize())
        }
        match self {
            Self::Md5 => run::<Md5>(pieces),
            #[cfg(not(feature = "fips"))]
            Self::Sha256 => run::<sha2::Sha256>(pieces),
            #[cfg(not(feature = "fips"))]
            Self::Sha512_256 => run::<sha2::Sha512_256>(pieces),
            #[cfg(feature = "fips")]
            Self::Sha256 => validated(&aws_lc_rs::digest::SHA256, pieces),
            #[cfg(feature = "fips")]
            Self::Sha512_256 => validated(&aws_lc_rs::digest::SHA512_256, pieces),
        }
    }
}

/// Uses the module that is validated for FIPS, because the key is among what is hashed.
#[cfg(feature = "fips")]
fn validated<'a>(algorithm: &'static aws_lc_rs::digest::Algorithm, pieces: impl Iterator<Item = &'a [u8]>) -> Hex {
    let mut hash = aws_lc_rs::digest::Context::new(algorithm);
    pieces.for_each(|piece| hash.update(piece));
    Hex::new(hash.finish().as_ref())
}

/// H(A1), section 3.4.2: the part that stays the same for a nonce. Wiped on drop, since it is worth the password.
pub(super) fn user_hash(
    algorithm: Algorithm,
    username: &str,
    realm: &[u8],
    password: &str,
    nonce: &[u8],
    client_nonce: &[u8],
) -> Zeroizing<Hex> {
    let user = Zeroizing::new(algorithm.hash.of([username.as_bytes(), realm, password.as_bytes()]));
    if !algorithm.sess {
        return user;
    }
    Zeroizing::new(algorithm.hash.of([user.as_bytes(), nonce, client_nonce]))
}

/// H(A2), section 3.4.3. `body` is given for `auth-int` only.
pub(super) fn request_hash(hash: Hash, method: &Method, uri: &str, body: Option<BodyForDigest<'_>>) -> Option<Hex> {
    let (method, uri) = (method.as_str().as_bytes(), uri.as_bytes());
    let body = match body {
        None => return Some(hash.of([method, uri])),
        Some(BodyForDigest::Unknown) => return None,
        Some(BodyForDigest::Bytes(bytes)) => hash.of([bytes]),
        Some(BodyForDigest::Chunks(chunks)) => hash.of_pieces(chunks.iter().map(|chunk| &chunk[..])),
    };
    Some(hash.of([method, uri, body.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_their_standards() {
        // RFC 1321 appendix A.5; FIPS 180-4 examples for "abc".
        let text = |hash: Hash| String::from_utf8_lossy(hash.of([b"abc"]).as_bytes()).into_owned();
        assert_eq!(text(Hash::Md5), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(
            text(Hash::Sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            text(Hash::Sha512_256),
            "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"
        );
    }

    #[test]
    fn parts_are_joined_by_colons() {
        for hash in [Hash::Md5, Hash::Sha256, Hash::Sha512_256] {
            assert_eq!(hash.of([b"a", b"", b"b"]).as_bytes(), hash.of([b"a::b"]).as_bytes());
        }
    }

    #[test]
    fn counts_have_eight_digits() {
        assert_eq!(&count_text(1), b"00000001");
        assert_eq!(&count_text(u32::MAX), b"ffffffff");
        assert_eq!(&count_text(0x1a2b), b"00001a2b");
    }

    #[test]
    fn algorithms_are_known_in_any_spelling() {
        assert_eq!(
            Algorithm::parse(b"md5"),
            Some(Algorithm {
                hash: Hash::Md5,
                sess: false
            })
        );
        assert_eq!(
            Algorithm::parse(b"MD5-Sess"),
            Some(Algorithm {
                hash: Hash::Md5,
                sess: true
            })
        );
        assert_eq!(
            Algorithm::parse(b"sha-512-256-SESS"),
            Some(Algorithm {
                hash: Hash::Sha512_256,
                sess: true
            })
        );
        for unknown in ["", "-sess", "SHA-512", "SHA256", "token", "MD5-sess-sess"] {
            assert_eq!(Algorithm::parse(unknown.as_bytes()), None, "{unknown}");
        }
        assert!(Hash::Md5 < Hash::Sha256 && Hash::Sha256 < Hash::Sha512_256);
    }
}
