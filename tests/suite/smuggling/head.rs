//! The bytes of a head: request line, line ends, controls, folding, white space, versions, limits.

use super::{Bench, Case, SMUGGLED, Want, get, line};

#[tokio::test]
async fn request_lines_with_more_than_one_reading_are_refused() {
    let mut cases = Vec::new();
    for (name, rest) in [
        ("two spaces behind the method", " /x HTTP/1.1"),
        ("a tab behind the method", "\t/x HTTP/1.1"),
        ("two spaces before the version", "/x  HTTP/1.1"),
        ("a tab before the version", "/x\tHTTP/1.1"),
        ("a space behind the version", "/x HTTP/1.1 "),
        ("a tab behind the version", "/x HTTP/1.1\t"),
        ("a space in the target", "/x /smuggled HTTP/1.1"),
        ("a second version", "/x HTTP/1.1 HTTP/1.1"),
        ("a tab in the target", "/x\t/y HTTP/1.1"),
        ("a vertical tab in the target", "/x\u{b}y HTTP/1.1"),
        ("a form feed in the target", "/x\u{c}y HTTP/1.1"),
        ("a NUL in the target", "/x\0y HTTP/1.1"),
        ("an escape in the target", "/x\u{1b}y HTTP/1.1"),
        ("a delete in the target", "/x\u{7f}y HTTP/1.1"),
        ("bare CR in the target", "/x\ry HTTP/1.1"),
        ("bare LF in the target", "/x\ny HTTP/1.1"),
        ("bare CR behind the target", "/x\rHTTP/1.1"),
        ("bare CR behind the version", "/x HTTP/1.1\r"),
        ("a NUL behind the version", "/x HTTP/1.1\0"),
        ("no target", "HTTP/1.1"),
        ("no version", "/x"),
        ("no version but a space", "/x "),
        ("HTTP/0.9", "/x HTTP/0.9"),
        ("HTTP/1.2", "/x HTTP/1.2"),
        ("HTTP/2.0", "/x HTTP/2.0"),
        ("HTTP/2", "/x HTTP/2"),
        ("HTTP/3", "/x HTTP/3"),
        ("HTTP/1.10", "/x HTTP/1.10"),
        ("HTTP/1.01", "/x HTTP/1.01"),
        ("HTTP/01.1", "/x HTTP/01.1"),
        ("HTTP/1.1x", "/x HTTP/1.1x"),
        ("HTTP/1", "/x HTTP/1"),
        ("HTTP/1,1", "/x HTTP/1,1"),
        ("http/1.1", "/x http/1.1"),
        ("Http/1.1", "/x Http/1.1"),
        ("HTTPS/1.1", "/x HTTPS/1.1"),
        ("XHTTP/1.1", "/x XHTTP/1.1"),
        ("HTTP 1.1", "/x HTTP 1.1"),
        ("HTTP/+1.1", "/x HTTP/+1.1"),
        ("HTTP/1.-1", "/x HTTP/1.-1"),
    ] {
        cases.push(Case::new(name, line(rest), Want::Refused).half_close());
    }
    for (name, bytes) in [
        ("nothing but line ends", "\r\n\r\n\r\n\r\n"),
        ("a lone space line", " \r\nGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (
            "a space before the method",
            " GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        (
            "a tab before the method",
            "\tGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        (
            "a NUL before the method",
            "\0GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        (
            "a byte order mark",
            "\u{feff}GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        ("no method", "/x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("an empty method", " /x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a colon in the method", "GET: /x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a bracket in the method", "G(T /x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a NUL in the method", "GE\0T /x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a wide method", "\u{ff27}ET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("HTTP/0.9 in full", "GET /x\r\n"),
        ("HTTP/0.9 by bare LF", "GET /x\n"),
        ("a response", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (
            "the HTTP/2 preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
        ),
        (
            "the PROXY protocol",
            "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        (
            "the PROXY protocol, second version",
            "\r\n\r\n\0\r\nQUIT\n\u{21}\u{11}\0\u{c}GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        ("a TLS hello", "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\0"),
        ("binary", "\u{80}\u{2e}\u{1}\0\u{2}\0\u{15}\0\0\0\u{10}"),
        ("a mail", "EHLO localhost\r\n"),
        ("half a head", "GET /x HTTP/1.1\r\nHost: localhost\r\n"),
        ("a head without its last LF", "GET /x HTTP/1.1\r\nHost: localhost\r\n\r"),
    ] {
        cases.push(Case::new(name, bytes, Want::Refused).half_close());
    }
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn line_ends_and_controls_in_header_fields_are_refused() {
    let mut cases = Vec::new();
    for (name, lines) in [
        ("bare LF ends a field", "X: y\nZ: a\r\n".to_owned()),
        ("bare LF ends the head", format!("X: y\n\n{SMUGGLED}")),
        ("CR LF, then bare LF", format!("X: y\r\n\n{SMUGGLED}")),
        ("bare LF, then CR LF", "X: y\n".to_owned()),
        ("LF CR", "X: y\n\rZ: a\r\n".to_owned()),
        ("CR CR LF", "X: y\r\r\n".to_owned()),
        ("bare CR in a value", "X: y\rZ: a\r\n".to_owned()),
        ("bare CR hides a head's end", format!("X: y\r\r{SMUGGLED}")),
        ("bare CR in a name", "X\rY: z\r\n".to_owned()),
        ("bare CR before a name", "\rX: y\r\n".to_owned()),
        ("bare LF in a name", "X\nY: z\r\n".to_owned()),
        ("NUL in a value", "X: y\0z\r\n".to_owned()),
        ("NUL in a name", "X\0Y: z\r\n".to_owned()),
        ("bell in a value", "X: \u{7}\r\n".to_owned()),
        ("backspace in a value", "X: y\u{8}\r\n".to_owned()),
        ("vertical tab in a value", "X: y\u{b}z\r\n".to_owned()),
        ("form feed in a value", "X: y\u{c}z\r\n".to_owned()),
        ("escape in a value", "X: \u{1b}[31m\r\n".to_owned()),
        ("delete in a value", "X: y\u{7f}\r\n".to_owned()),
        ("delete in a name", "X\u{7f}: y\r\n".to_owned()),
        ("a space before the colon", "X : y\r\n".to_owned()),
        ("a tab before the colon", "X\t: y\r\n".to_owned()),
        ("a space in a name", "X Y: z\r\n".to_owned()),
        ("no name", ": y\r\n".to_owned()),
        ("no colon", "X\r\n".to_owned()),
        ("a colon alone", ":\r\n".to_owned()),
        ("a bracket in a name", "X(Y): z\r\n".to_owned()),
        ("an at in a name", "X@Y: z\r\n".to_owned()),
        ("a slash in a name", "X/Y: z\r\n".to_owned()),
        ("quotes in a name", "\"X\": z\r\n".to_owned()),
        ("8-bit in a name", "X\u{e9}: z\r\n".to_owned()),
        ("folded by a space", "X: y\r\n z\r\n".to_owned()),
        ("folded by a tab", "X: y\r\n\tz\r\n".to_owned()),
        (
            "folded into a field",
            "X: y\r\n Transfer-Encoding: chunked\r\n".to_owned(),
        ),
        ("folded, empty", "X: y\r\n \r\n".to_owned()),
        ("folded Host", "Accept: a\r\n Host: evil.example\r\n".to_owned()),
    ] {
        cases.push(Case::new(name, get(&lines), Want::Refused).half_close());
    }
    for (name, bytes) in [
        (
            "a space before the first field",
            "GET /x HTTP/1.1\r\n Host: localhost\r\n\r\n",
        ),
        (
            "a tab before the first field",
            "GET /x HTTP/1.1\r\n\tHost: localhost\r\n\r\n",
        ),
        (
            "a folded space line first",
            "GET /x HTTP/1.1\r\n \r\nHost: localhost\r\n\r\n",
        ),
        (
            "a field hidden in a first fold",
            "GET /x HTTP/1.1\r\n X: y\r\nHost: localhost\r\n\r\n",
        ),
        (
            "bare LF behind the request line",
            "GET /x HTTP/1.1\nHost: localhost\r\n\r\n",
        ),
        ("bare LF everywhere", "GET /x HTTP/1.1\nHost: localhost\n\n"),
        ("bare CR everywhere", "GET /x HTTP/1.1\rHost: localhost\r\r"),
        (
            "bare CR behind the request line",
            "GET /x HTTP/1.1\rHost: localhost\r\n\r\n",
        ),
        (
            "a space before Host's colon",
            "GET /x HTTP/1.1\r\nHost : localhost\r\n\r\n",
        ),
        ("a folded Host", "GET /x HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n"),
        (
            "a Host folded on",
            "GET /x HTTP/1.1\r\nHost: localhost\r\n .evil.example\r\n\r\n",
        ),
    ] {
        cases.push(Case::new(name, bytes, Want::Refused).half_close());
    }
    for (name, bytes) in [
        ("plain", get("X: y\r\n")),
        ("8-bit in a value", get("X: \u{e9}\r\n")),
        ("a tab in a value", get("X: y\tz\r\n")),
        ("an empty value", get("X:\r\n")),
        ("odd but allowed name", get("!#$%&'*+-.^`|~1: y\r\n")),
    ] {
        cases.push(Case::new(name, bytes, Want::Served).method("GET"));
    }
    // RFC 9112 section 2.2: old clients send an empty line too many.
    let empty_line = format!("\r\n{}", String::from_utf8(get("")).unwrap());
    cases.push(Case::new("an empty line before the request line", empty_line, Want::Either).method("GET"));
    cases.push(
        Case::new(
            "HTTP/1.0",
            "GET /x HTTP/1.0\r\nHost: localhost\r\n\r\n",
            Want::ServedAndClosed,
        )
        .method("GET"),
    );
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn heads_beyond_the_limits_are_431() {
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let wide = "w".repeat(70_000);
    let cases = vec![
        Case::new("100 fields", get(&many(99)), Want::Served).method("GET"),
        Case::new("101 fields", get(&many(100)), Want::Status(431)),
        Case::new("5000 fields", get(&many(5000)), Want::Status(431)),
        Case::new(
            "the same field 200 times",
            get(&"X: y\r\n".repeat(200)),
            Want::Status(431),
        ),
        Case::new(
            "60 kB of value",
            get(&format!("X: {}\r\n", &wide[..60_000])),
            Want::Served,
        )
        .method("GET"),
        Case::new("70 kB of value", get(&format!("X: {wide}\r\n")), Want::Status(431)),
        Case::new("70 kB of name", get(&format!("{wide}: y\r\n")), Want::Refused),
        Case::new("an endless head", get(&format!("X: {}", wide.repeat(4))), Want::Refused),
        Case::new(
            "a fault behind the limit",
            get(&format!("X: {wide}\r\nContent-Length: +1\r\n")),
            Want::Status(431),
        ),
    ];
    Bench::start().await.check(cases).await;
}
