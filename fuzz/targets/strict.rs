//! A parser of HTTP/1.1 requests that knows one reading only (RFC 9112). It shares no code with the proxy.

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

/// The first request in `bytes` and its size; `None`: it is not complete.
pub fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, &'static str> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > 1 << 20 {
            Err("an endless head")
        } else {
            Ok(None)
        };
    };
    // Each byte a character: obs-text (RFC 9110 section 5.5) is opaque.
    let head: String = bytes[..end].iter().copied().map(char::from).collect();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("a malformed request line");
    };
    if method.is_empty() || !method.bytes().all(token) {
        return Err("a malformed method");
    }
    if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("a malformed target");
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header without a colon")?;
        if name.is_empty() || !name.bytes().all(token) {
            return Err("a malformed header name");
        }
        if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return Err("a malformed header value");
        }
        headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
    };
    let begin = end + 4;
    let body = match (
        &request.all("transfer-encoding")[..],
        &request.all("content-length")[..],
    ) {
        ([], []) => Some(0),
        ([], [length]) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "a length beyond all bounds")?;
            (bytes.len() - begin >= length).then_some(length)
        }
        (["chunked"], []) => chunked(&bytes[begin..])?,
        _ => return Err("an ambiguous framing"),
    };
    Ok(body.map(|size| (request, begin + size)))
}

fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The size of a chunked body, without extensions; trailers must have names.
fn chunked(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let mut at = 0;
    loop {
        let Some(line) = bytes[at..].windows(2).position(|window| window == b"\r\n") else {
            return if bytes.len() - at > 64 {
                Err("a malformed chunk")
            } else {
                Ok(None)
            };
        };
        let digits = &bytes[at..at + line];
        if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("a malformed chunk size");
        }
        let size =
            usize::from_str_radix(std::str::from_utf8(digits).unwrap_or_default(), 16).map_err(|_| "a chunk size")?;
        at += line + 2;
        if size == 0 {
            break;
        }
        if bytes.len() < at + size + 2 {
            return Ok(None);
        }
        if &bytes[at + size..at + size + 2] != b"\r\n" {
            return Err("a chunk that is not as long as it says");
        }
        at += size + 2;
    }
    loop {
        let Some(line) = bytes[at..].windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let trailer = &bytes[at..at + line];
        at += line + 2;
        if trailer.is_empty() {
            return Ok(Some(at));
        }
        let name = trailer.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.is_empty() || name.len() == trailer.len() || !name.iter().copied().all(token) {
            return Err("a malformed trailer");
        }
        let name = name.to_ascii_lowercase();
        if matches!(
            &name[..],
            b"authorization" | b"content-length" | b"transfer-encoding" | b"host" | b"cookie"
        ) {
            return Err("a trailer that changes the message");
        }
    }
}
