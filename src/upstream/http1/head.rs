//! Reads heads and trailers of answers strictly (RFC 9112 sections 2 to 5): what has two readings has none. What a name and
//! a value may hold is for `http` to say.

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};

use super::Broken;

/// Bound on a head, and on trailers, bytes; Atlas's own stay under 4 KiB.
pub(in crate::upstream) const MAX_HEAD: usize = 64 << 10;
/// Bound on their fields; Atlas sends some twenty.
const MAX_FIELDS: usize = 100;
/// What all names of a head have that are remembered, bytes; Atlas's have some 300.
pub(super) const MOST_NAMES: usize = 4 << 10;
/// Room for what is added on the way to the client.
const ADDED_FIELDS: usize = 8;

/// Finds the lines of a section as its bytes come, up to the empty one at its end.
#[derive(Default)]
pub(super) struct Lines {
    /// Where each line ends, behind its LF.
    ends: Vec<usize>,
    looked_at: usize,
}

impl Lines {
    /// The length of the section with its empty line; `None`: that has not come.
    fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        let mut start = self.ends.last().copied().unwrap_or(0);
        for at in memchr::memchr_iter(b'\n', &bytes[self.looked_at..]) {
            let end = self.looked_at + at + 1;
            if !bytes[start..end].ends_with(b"\r\n") {
                return Err(Broken::Malformed("a line ends with LF alone"));
            }
            if end - start == 2 {
                return Ok(Some(end));
            }
            if self.ends.len() > MAX_FIELDS {
                return Err(Broken::Malformed("there are too many fields"));
            }
            self.ends.push(end);
            start = end;
        }
        self.looked_at = bytes.len();
        if bytes.len() >= MAX_HEAD {
            return Err(Broken::Malformed("the head is too long"));
        }
        Ok(None)
    }

    /// The fields of a section from its line `first` on; `name` reads a name.
    fn fields(
        &self,
        section: &Bytes,
        first: usize,
        mut name: impl FnMut(usize, &[u8]) -> Result<HeaderName, Broken>,
    ) -> Result<HeaderMap, Broken> {
        let count = self.ends.len() - first;
        let mut fields = HeaderMap::with_capacity(count + ADDED_FIELDS);
        let mut start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        for (at, end) in self.ends[first..].iter().enumerate() {
            let line = &section[start..end - 2];
            let colon = memchr::memchr(b':', line).ok_or(Broken::Malformed("a field has no colon"))?;
            let name = name(at, &line[..colon])?;
            let value = without_blanks(&line[colon + 1..]);
            let value = HeaderValue::from_maybe_shared(section.slice_ref(value));
            let value = value.map_err(|_| Broken::Malformed("a field has a value that is none"))?;
            fields.append(name, value);
            start = *end;
        }
        Ok(fields)
    }

    fn clear(&mut self) {
        self.ends.clear();
        self.looked_at = 0;
    }

    /// Takes trailers from the buffer; `None`: they are not whole yet.
    pub(super) fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Broken> {
        let Some(length) = self.find_end(buffer)? else {
            return Ok(None);
        };
        let section = buffer.split_to(length).freeze();
        let fields = self.fields(&section, 0, |_, name| read_name(name))?;
        self.clear();
        Ok(Some(fields))
    }
}

/// Reads the heads of a connection.
#[derive(Default)]
pub(super) struct HeadReader {
    lines: Lines,
    /// The names of the head before, as they were written and as they were read: most heads of a connection have the same.
    names: Vec<(Bytes, HeaderName)>,
    renamed: bool,
}

impl HeadReader {
    /// Takes a head from the buffer; `None`: it is not whole yet.
    pub(super) fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<Parts>, Broken> {
        let Some(length) = self.lines.find_end(buffer)? else {
            return Ok(None);
        };
        let section = buffer.split_to(length).freeze();
        let Some(end) = self.lines.ends.first() else {
            return Err(Broken::Malformed("it begins with an empty line"));
        };
        let (mut parts, ()) = Response::new(()).into_parts();
        (parts.version, parts.status) =
            status_line(&section[..end - 2]).ok_or(Broken::Malformed("it is no HTTP/1.1"))?;
        let (names, renamed) = (&mut self.names, &mut self.renamed);
        parts.headers = self.lines.fields(&section, 1, |at, written| {
            match names.get(at) {
                Some((before, name)) if before == written => return Ok(name.clone()),
                _ => {}
            }
            let name = read_name(written)?;
            *renamed = true;
            names.truncate(at);
            names.push((Bytes::copy_from_slice(written), name.clone()));
            Ok(name)
        })?;
        let count = self.lines.ends.len() - 1;
        self.renamed |= self.names.len() != count;
        self.names.truncate(count);
        self.lines.clear();
        Ok(Some(parts))
    }

    /// Lets go of names that are too long to be kept by an idle connection.
    pub(super) fn finish(&mut self) {
        if self.names.iter().map(|(written, _)| written.len()).sum::<usize>() > MOST_NAMES {
            self.names = Vec::new();
        }
    }

    /// The names of the last head as they were written, if they are others than at the last call.
    pub(super) fn new_names(&mut self) -> Option<impl Iterator<Item = &Bytes>> {
        std::mem::take(&mut self.renamed).then(|| self.names.iter().map(|(written, _)| written))
    }
}

/// Blanks around a value are none of it (section 5.1); `trim_ascii` would take away CR, too.
fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn read_name(written: &[u8]) -> Result<HeaderName, Broken> {
    HeaderName::from_bytes(written).map_err(|_| Broken::Malformed("a field has a name that is none"))
}

/// `HTTP/1.1 200 OK`; the reason phrase, which may be missing, says nothing (RFC 9112 section 4).
fn status_line(line: &[u8]) -> Option<(Version, StatusCode)> {
    let (version, rest) = line.split_at_checked(9)?;
    let version = match version {
        b"HTTP/1.1 " => Version::HTTP_11,
        b"HTTP/1.0 " => Version::HTTP_10,
        _ => return None,
    };
    let (status, reason) = rest.split_at_checked(3)?;
    let text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    if !(reason.is_empty() || reason[0] == b' ') || !reason.iter().all(text) {
        return None;
    }
    Some((version, StatusCode::from_bytes(status).ok()?))
}
