//! Chunk sizes, extensions, chunk ends, trailers.

use super::{Bench, Case, SMUGGLED, Want, post};

fn chunked(name: &'static str, body: &str, want: Want) -> Case {
    Case::new(name, post("Transfer-Encoding: chunked\r\n", body), want).half_close()
}

#[tokio::test]
async fn chunks_with_more_than_one_reading_break_the_request_off() {
    let end = format!("0\r\n\r\n{SMUGGLED}");
    let mut cases = Vec::new();
    for (name, body) in [
        ("17 digits", "10000000000000002\r\nok\r\n".to_owned()),
        ("2^64", "10000000000000000\r\nok\r\n".to_owned()),
        ("2^64 - 1", "ffffffffffffffff\r\nok\r\n".to_owned()),
        ("2^63", "8000000000000000\r\nok\r\n".to_owned()),
        ("40 digits", format!("{}2\r\nok\r\n", "f".repeat(40))),
        ("minus", "-2\r\nok\r\n".to_owned()),
        ("minus nought", "-0\r\n\r\n".to_owned()),
        ("plus", "+2\r\nok\r\n".to_owned()),
        ("0x", "0x2\r\nok\r\n".to_owned()),
        ("0X", "0X2\r\nok\r\n".to_owned()),
        ("x", "x2\r\nok\r\n".to_owned()),
        ("h behind", "2h\r\nok\r\n".to_owned()),
        ("grouped", "0_2\r\nok\r\n".to_owned()),
        ("comma", "2,2\r\nok\r\n".to_owned()),
        ("dot", "2.0\r\nok\r\n".to_owned()),
        ("empty", "\r\nok\r\n".to_owned()),
        ("a space before", " 2\r\nok\r\n".to_owned()),
        ("a tab before", "\t2\r\nok\r\n".to_owned()),
        ("a space within", "0 2\r\nok\r\n".to_owned()),
        ("a vertical tab behind", "2\u{b}\r\nok\r\n".to_owned()),
        ("a NUL behind", "2\0\r\nok\r\n".to_owned()),
        ("a NUL before", "\x002\r\nok\r\n".to_owned()),
        ("a no-break space behind", "2\u{a0}\r\nok\r\n".to_owned()),
        ("wide digit", "\u{ff12}\r\nok\r\n".to_owned()),
        ("bare LF behind the size", "2\nok\r\n".to_owned()),
        ("bare CR behind the size", "2\rok\r\n".to_owned()),
        ("CR CR LF behind the size", "2\r\r\nok\r\n".to_owned()),
        ("bare LF behind the data", "2\r\nok\n".to_owned()),
        ("bare CR behind the data", "2\r\nok\r".to_owned()),
        ("nothing behind the data", "2\r\nok".to_owned()),
        ("two bytes that are no end", "2\r\nokXX".to_owned()),
        ("LF CR behind the data", "2\r\nok\n\r".to_owned()),
        ("data longer than said", "2\r\nokay\r\n".to_owned()),
        ("data shorter than said", "4\r\nok\r\n".to_owned()),
        ("extension, bare LF", "2;a\nok\r\n".to_owned()),
        ("extension, bare CR", "2;a\rb\r\nok\r\n".to_owned()),
        ("extension, NUL", "2;a=\0\r\nok\r\n".to_owned()),
        ("extension, quoted LF", "2;a=\"\n\"\r\nok\r\n".to_owned()),
        ("extension, quoted CR LF", "2;a=\"\r\n\"\r\nok\r\n".to_owned()),
        ("extension, quoted chunk", "2;a=\"\r\n0\r\n\r\n\"\r\nok\r\n".to_owned()),
        ("extension too long", format!("2;{}\r\nok\r\n", "a".repeat(20_000))),
        ("extensions too many", format!("2;{}\r\nok\r\n", "a=b;".repeat(8_000))),
        ("no semicolon", "2 a=b\r\nok\r\n".to_owned()),
    ] {
        cases.push(chunked(name, &format!("{body}{end}"), Want::BrokenOff));
    }
    for (name, body) in [
        ("last chunk, bare LF", "0\n\n"),
        ("last chunk, bare LF behind", "0\r\n\n"),
        ("last chunk, bare CR behind", "0\r\n\r"),
        ("last chunk, bare CR and a request", "0\r\n\rX"),
        ("end before the last chunk", "2\r\nok\r\n"),
        ("end within the last chunk", "2\r\nok\r\n0\r\n"),
        ("end within the data", "5\r\nok"),
        ("end within the size", "5"),
        ("no chunk", ""),
    ] {
        cases.push(chunked(name, body, Want::BrokenOff));
    }
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn chunks_with_one_reading_go_through_without_their_extensions() {
    let mut cases = Vec::new();
    for (name, body) in [
        ("plain", "2\r\nok\r\n0\r\n\r\n"),
        ("leading noughts", "0002\r\nok\r\n000\r\n\r\n"),
        ("capital digits", "A\r\n0123456789\r\n0\r\n\r\n"),
        ("two chunks", "1\r\no\r\n1\r\nk\r\n0\r\n\r\n"),
        ("a chunk that looks like chunks", "7\r\n0\r\n\r\nok\r\n0\r\n\r\n"),
        ("extension", "2;a=b;c=\"d\"\r\nok\r\n0;e\r\n\r\n"),
    ] {
        cases.push(Case::new(
            name,
            post("Transfer-Encoding: chunked\r\n", body),
            Want::Served,
        ));
    }
    // RFC 9112 section 7.1.1 knows white space there as a bad habit.
    cases.push(Case::new(
        "a space behind the size",
        post("Transfer-Encoding: chunked\r\n", "2 \r\nok\r\n0\r\n\r\n"),
        Want::Either,
    ));
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn trailers_carry_neither_framing_nor_credentials_nor_a_host() {
    let mut cases = Vec::new();
    for (name, trailers) in [
        ("Content-Length", "Content-Length: 50\r\n"),
        ("Transfer-Encoding", "Transfer-Encoding: chunked\r\n"),
        ("Host", "Host: evil.example\r\n"),
        ("Authorization", "Authorization: Bearer mine\r\n"),
        ("Proxy-Authorization", "Proxy-Authorization: Basic bWluZQ==\r\n"),
        ("Cookie", "Cookie: a=b\r\n"),
        ("Connection", "Connection: close, authorization\r\n"),
        ("underscores", "Content_Length: 50\r\nX_Forwarded_For: 1.2.3.4\r\n"),
        ("X-HTTP-Method-Override", "X-HTTP-Method-Override: DELETE\r\n"),
        ("Expect", "Expect: 100-continue\r\n"),
        ("Upgrade", "Upgrade: h2c\r\n"),
        ("odd case", "aUTHORIZATION: Bearer mine\r\nhOST: evil\r\n"),
        ("a checksum", "X-Checksum: 1\r\n"),
    ] {
        for head in [
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: X-Checksum, Authorization, Host, Content-Length\r\n",
        ] {
            let body = format!("2\r\nok\r\n0\r\n{trailers}\r\n");
            cases.push(Case::new(name, post(head, &body), Want::Served).body("ok"));
        }
    }
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn malformed_trailers_break_the_request_off() {
    let mut cases = Vec::new();
    let endless = "X-Y: z\r\n".repeat(20_000);
    let long = format!("X: {}\r\n", "y".repeat(200_000));
    let many: String = (0..300).map(|n| format!("X-{n}: y\r\n")).collect();
    for (name, trailers) in [
        ("folded", "X: y\r\n Authorization: Bearer mine\r\n"),
        ("folded at once", " X: y\r\n"),
        ("no colon", "GET /smuggled HTTP/1.1\r\n"),
        ("a space before the colon", "X : y\r\n"),
        ("no name", ": y\r\n"),
        ("bare CR", "X: y\rZ: a\r\n"),
        ("bare LF", "X: y\nZ: a\r\n"),
        ("NUL", "X: \0\r\n"),
        ("NUL in the name", "X\0: y\r\n"),
        ("endless", &endless),
        ("long", &long),
        ("many", &many),
    ] {
        let body = format!("2\r\nok\r\n0\r\n{trailers}\r\n{SMUGGLED}");
        cases.push(chunked(name, &body, Want::BrokenOff));
    }
    Bench::start().await.check(cases).await;
}
