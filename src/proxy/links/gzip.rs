//! gzip (RFC 1952) decoded as it comes: one member or several; what follows the last one is ignored, as gzip(1) does.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzDecoder;

/// Compressed bytes decoded at a time: gzip grows at most about a thousandfold, so the output of a step stays near 1
/// MiB.
const STEP: usize = 1024;
/// A member begins with these (section 2.3.1).
const MAGIC: [u8; 2] = [0x1f, 0x8b];

pub(super) struct Gunzip {
    decoder: GzDecoder<Vec<u8>>,
    input: Bytes,
    at: At,
}

/// The position in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing has come yet.
    Start,
    /// In a member.
    Member,
    /// After a member: another one may follow.
    Between,
    /// After a member, and the first byte of another has come.
    BetweenMagic,
    /// After the last member.
    Behind,
}

impl Gunzip {
    pub(super) fn new() -> Self {
        Self {
            decoder: GzDecoder::new(Vec::new()),
            input: Bytes::new(),
            at: At::Start,
        }
    }

    /// More of the stream. What came before has been decoded.
    pub(super) fn push(&mut self, data: Bytes) {
        self.input = data;
    }

    /// Decodes one step of what has come in; `None`: there is nothing left.
    pub(super) fn step(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(&first) = self.input.first() else {
                return Ok(None);
            };
            match (self.at, first) {
                (At::Start | At::Member, _) => {
                    self.at = At::Member;
                    return self.decode().map(Some);
                }
                (At::Between, _) if first == MAGIC[0] => {
                    self.input = self.input.slice(1..);
                    self.at = At::BetweenMagic;
                }
                (At::BetweenMagic, _) if first == MAGIC[1] => {
                    self.decoder = GzDecoder::new(Vec::new());
                    self.decoder.write_all(&MAGIC[..1])?;
                    self.at = At::Member;
                }
                _ => {
                    self.input = Bytes::new();
                    self.at = At::Behind;
                }
            }
        }
    }

    fn decode(&mut self) -> io::Result<Vec<u8>> {
        let step = &self.input[..self.input.len().min(STEP)];
        let taken = self.decoder.write(step)?;
        self.input = self.input.slice(taken..);
        if taken == 0 {
            // Its trailer has come, too: checks it.
            self.decoder.try_finish()?;
            self.at = At::Between;
        }
        Ok(std::mem::take(self.decoder.get_mut()))
    }

    /// The stream has ended: what is left of it.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        if self.at == At::Member {
            self.decoder.try_finish()?;
        }
        Ok(std::mem::take(self.decoder.get_mut()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(stream: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut gunzip = Gunzip::new();
        let mut out = Vec::new();
        for piece in stream.chunks(piece) {
            gunzip.push(Bytes::copy_from_slice(piece));
            while let Some(step) = gunzip.step()? {
                out.extend(step);
            }
        }
        out.extend(gunzip.finish()?);
        Ok(out)
    }

    #[test]
    fn members_follow_each_other_and_the_rest_is_ignored() {
        let long = "x".repeat(100_000);
        let two = [member(b"one "), member(long.as_bytes())].concat();
        for behind in [
            &b""[..],
            &[0; 700],
            b"rubbish",
            &[0x1f],
            &[0x1f, 0x1f, 0x8b],
            &[0, 0x1f, 0x8b, 8],
        ] {
            let stream = [&two[..], behind].concat();
            for piece in [1, 2, 3, 7, 1000, usize::MAX] {
                let piece = piece.min(stream.len());
                assert_eq!(
                    decoded(&stream, piece).unwrap(),
                    ["one ", &long].concat().as_bytes(),
                    "{behind:?} {piece}"
                );
            }
        }
        assert_eq!(decoded(b"", 1).unwrap(), b"");
    }

    #[test]
    fn what_is_damaged_or_cut_off_is_an_error() {
        let whole = member(b"some text that is long enough to be cut in the middle");
        for length in 1..whole.len() {
            assert!(decoded(&whole[..length], 5).is_err(), "{length}");
        }
        let two = [&whole[..], &whole[..6]].concat();
        assert!(decoded(&two, 3).is_err(), "a second one without its end");
        for at in [0, 1, 12, whole.len() - 8, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            assert!(decoded(&damaged, 5).is_err(), "{at}");
        }
    }
}
