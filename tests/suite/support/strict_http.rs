//! An HTTP/1.1 parser for what leaves the proxy. It shares no code with the proxy, and takes nothing that two servers could
//! read in two ways: each line ends with CRLF, each message has one framing, each field name is a token.

/// A request that has one reading only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// Names in small letters, values without the white space around them, in order.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub chunked: bool,
    pub trailers: Vec<(String, String)>,
}

impl Request {
    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }
}

/// A response that has one reading only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Response {
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }
}

fn all<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let found = fields.iter().filter(|(n, _)| n == name);
    found.map(|(_, value)| value.as_str()).collect()
}

/// What stopped the parser: why the bytes have no reading, or more than one.
pub type Ambiguity = String;

/// The first request of `bytes` and its length; `None` when it is not complete.
pub fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, Ambiguity> {
    read_request(Input {
        bytes,
        at: 0,
        of_client: false,
    })
}

/// The same, with what a client may say beyond that in one reading only: empty lines before the request line, absolute-form,
/// HTTP/1.0, chunk extensions.
pub fn client_request(bytes: &[u8]) -> Result<Option<(Request, usize)>, Ambiguity> {
    let mut at = 0;
    while bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    read_request(Input {
        bytes,
        at,
        of_client: true,
    })
}

fn read_request(mut input: Input<'_>) -> Result<Option<(Request, usize)>, Ambiguity> {
    let Some(line) = input.line()? else { return Ok(None) };
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(format!("request line {}", show(line)));
    };
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return Err(format!("method {}", show(method)));
    }
    let old = input.of_client && version == b"HTTP/1.0";
    let target = match target.strip_prefix(b"http://localhost") {
        Some(reduced) if input.of_client => reduced,
        _ => target,
    };
    // Origin-form; what RFC 3986 does not know in a target may pass (it passes byte for byte), a fragment may not.
    if target.first() != Some(&b'/') || target.iter().any(|b| *b <= b' ' || *b == 0x7f || *b == b'#') {
        return Err(format!("target {}", show(target)));
    }
    if version != b"HTTP/1.1" && !old {
        return Err(format!("version {}", show(version)));
    }
    let (method, target) = (text(method)?, show(target));
    let Some(fields) = input.fields()? else { return Ok(None) };
    if all(&fields, "host").len() != 1 {
        return Err("not exactly one Host".to_owned());
    }
    let framing = framing(&fields)?;
    if old && framing == Framing::Chunked {
        return Err("chunks in HTTP/1.0".to_owned());
    }
    let Some((body, trailers)) = input.content(&framing)? else {
        return Ok(None);
    };
    let request = Request {
        method,
        target,
        fields,
        body,
        chunked: framing == Framing::Chunked,
        trailers,
    };
    Ok(Some((request, input.at)))
}

/// All requests of `bytes`, and what is left of one that is not complete.
pub fn requests(mut bytes: &[u8]) -> Result<(Vec<Request>, &[u8]), Ambiguity> {
    let mut found = Vec::new();
    while let Some((one, length)) = request(bytes)? {
        found.push(one);
        bytes = &bytes[length..];
    }
    Ok((found, bytes))
}

/// The first response of `bytes` and its length. `head`: it answers HEAD. `closed`: nothing more will come.
pub fn response(bytes: &[u8], head: bool, closed: bool) -> Result<Option<(Response, usize)>, Ambiguity> {
    let mut input = Input {
        bytes,
        at: 0,
        of_client: false,
    };
    let Some(line) = input.line()? else { return Ok(None) };
    // HTTP/1.0 answers HTTP/1.0.
    let status = line
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| line.strip_prefix(b"HTTP/1.0 "))
        .filter(|rest| rest.len() >= 4 && rest[3] == b' ')
        .and_then(|rest| std::str::from_utf8(&rest[..3]).ok()?.parse().ok())
        .ok_or_else(|| format!("status line {}", show(line)))?;
    let Some(fields) = input.fields()? else { return Ok(None) };
    let bodyless = head || status < 200 || status == 204 || status == 304;
    let framing = match framing(&fields)? {
        _ if bodyless => Framing::None,
        Framing::None if closed => Framing::Length((bytes.len() - input.at) as u64),
        Framing::None => return Ok(None),
        framing => framing,
    };
    let Some((body, trailers)) = input.content(&framing)? else {
        return Ok(None);
    };
    let response = Response {
        status,
        fields,
        body,
        trailers,
    };
    Ok(Some((response, input.at)))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
}

fn framing(fields: &[(String, String)]) -> Result<Framing, Ambiguity> {
    let (lengths, codings) = (all(fields, "content-length"), all(fields, "transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::None),
        ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| format!("length {length}")),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        _ => Err(format!(
            "framing: Content-Length {lengths:?}, Transfer-Encoding {codings:?}"
        )),
    }
}

type Fields = Vec<(String, String)>;

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    of_client: bool,
}

impl<'a> Input<'a> {
    /// A line without its CRLF. Controls are refused as soon as they are seen, in a line that is not complete, too.
    fn line(&mut self) -> Result<Option<&'a [u8]>, Ambiguity> {
        let rest = &self.bytes[self.at..];
        for (at, byte) in rest.iter().enumerate() {
            match byte {
                b'\r' if rest.get(at + 1) == Some(&b'\n') => {
                    self.at += at + 2;
                    return Ok(Some(&rest[..at]));
                }
                b'\r' if at + 1 == rest.len() => return Ok(None),
                b'\t' | b' '..=b'~' | 0x80.. => {}
                _ => return Err(format!("byte {byte:#04x} in {}", show(rest))),
            }
        }
        Ok(None)
    }

    fn fields(&mut self) -> Result<Option<Fields>, Ambiguity> {
        let mut fields = Vec::new();
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            if line.is_empty() {
                return Ok(Some(fields));
            }
            let colon = line.iter().position(|b| *b == b':');
            let (name, value) = line.split_at(colon.ok_or_else(|| format!("no colon in {}", show(line)))?);
            if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
                return Err(format!("field name {}", show(name)));
            }
            let value = show(&value[1..]);
            fields.push((
                text(name)?.to_ascii_lowercase(),
                value.trim_matches([' ', '\t']).to_owned(),
            ));
        }
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn content(&mut self, framing: &Framing) -> Result<Option<(Vec<u8>, Fields)>, Ambiguity> {
        match framing {
            Framing::None => Ok(Some((Vec::new(), Vec::new()))),
            Framing::Length(length) => Ok(self.take(*length).map(|body| (body.to_vec(), Vec::new()))),
            Framing::Chunked => self.chunks(),
        }
    }

    fn chunks(&mut self) -> Result<Option<(Vec<u8>, Fields)>, Ambiguity> {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            let size = match line.iter().position(|b| *b == b';') {
                Some(extension) if self.of_client => text(line[..extension].trim_ascii_end())?,
                _ => text(line)?,
            };
            if size.is_empty() || size.len() > 15 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(format!("chunk size {size:?}"));
            }
            let size = u64::from_str_radix(&size, 16).map_err(|e| e.to_string())?;
            if size == 0 {
                let trailers = self.fields()?;
                return Ok(trailers.map(|trailers| (body, trailers)));
            }
            let Some(data) = self.take(size) else { return Ok(None) };
            body.extend_from_slice(data);
            match self.take(2) {
                Some(b"\r\n") => {}
                Some(other) => return Err(format!("{} behind a chunk", show(other))),
                None => return Ok(None),
            }
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn text(bytes: &[u8]) -> Result<String, Ambiguity> {
    String::from_utf8(bytes.to_vec()).map_err(|_| format!("no UTF-8: {}", show(bytes)))
}

/// One character for each byte.
fn show(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_requests_have_one_reading() {
        let two = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost:x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-t: 1\r\n\r\nPUT /c";
        let (found, rest) = requests(two).unwrap();
        assert_eq!((found.len(), rest), (2, &b"PUT /c"[..]));
        assert_eq!(
            (found[0].target.as_str(), found[1].body.as_slice()),
            ("/a?b", &b"ab"[..])
        );
        assert_eq!(found[1].trailers, [("x-t".to_owned(), "1".to_owned())]);
        let sized = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(request(sized).unwrap().unwrap().0.body, b"abc");
        assert_eq!(request(&sized[..sized.len() - 1]).unwrap(), None);
    }

    #[test]
    fn doubtful_requests_have_none() {
        for bad in [
            "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
            "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n A: folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: \u{0}\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\na\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        ] {
            assert!(request(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn responses_have_one_framing() {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(response(ok, false, false).unwrap().unwrap().0.body, b"ok");
        assert_eq!(response(&ok[..39], true, false).unwrap().unwrap().1, 38);
        assert!(
            response(
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
                false,
                true
            )
            .is_err()
        );
        assert_eq!(
            response(b"HTTP/1.1 200 OK\r\n\r\nok", false, true)
                .unwrap()
                .unwrap()
                .0
                .body,
            b"ok"
        );
    }
}
