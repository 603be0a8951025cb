//! Content-Length and Transfer-Encoding: what contradicts itself, and what only one of two servers would understand.

use super::{Bench, Case, SMUGGLED, Want, post};

/// A body that is one thing by its chunks and another by a length of 5.
fn two_faced() -> String {
    format!("0\r\n\r\n{SMUGGLED}")
}

#[tokio::test]
async fn content_length_beside_transfer_encoding_is_refused_or_repaired_and_closed() {
    let body = two_faced();
    let long = body.len();
    let mut cases = Vec::new();
    for (name, lines) in [
        (
            "CL.TE",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        ),
        (
            "TE.CL",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n".to_owned(),
        ),
        (
            "CL.TE, the length spans all",
            format!("Content-Length: {long}\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            "TE.CL, the length spans all",
            format!("Transfer-Encoding: chunked\r\nContent-Length: {long}\r\n"),
        ),
        (
            "CL 0 and TE",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        ),
        (
            "TE and CL 0",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".to_owned(),
        ),
        (
            "another field between",
            "Content-Length: 5\r\nX-Y: z\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        ),
        (
            "both in odd case",
            "cONTENT-lENGTH: 5\r\ntRANSFER-eNCODING: CHUNKED\r\n".to_owned(),
        ),
    ] {
        cases.push(Case::new(name, post(&lines, &body), Want::RefusedOrClosed).body(""));
    }
    let repaired = "3\r\nabc\r\n0\r\n\r\n";
    for (name, lines) in [
        (
            "CL.TE with content",
            "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "TE.CL with content",
            "Transfer-Encoding: chunked\r\nContent-Length: 13\r\n",
        ),
    ] {
        cases.push(Case::new(name, post(lines, repaired), Want::RefusedOrClosed).body("abc"));
    }
    for (name, lines) in [
        (
            "CL beside a TE that is none",
            "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        ),
        (
            "CL beside a TE in disguise",
            "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n",
        ),
        ("CL beside an empty TE", "Content-Length: 5\r\nTransfer-Encoding:\r\n"),
        ("CL beside TE gzip", "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n"),
        (
            "two CLs beside TE",
            "Content-Length: 5\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        ),
    ] {
        cases.push(Case::new(name, post(lines, &body), Want::Refused));
    }
    cases.push(
        Case::new(
            "CL beside TE in a GET",
            format!(
                "GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            ),
            Want::RefusedOrClosed,
        )
        .method("GET")
        .body(""),
    );
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn only_one_plain_content_length_counts() {
    let body = format!("hello{SMUGGLED}");
    let mut cases = Vec::new();
    for (name, lines) in [
        ("equal CLs", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        (
            "three equal CLs",
            "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
        ),
        ("a list of equal CLs", "Content-Length: 5, 5\r\n"),
        (
            "equal CLs with leading zeros",
            "Content-Length: 5\r\nContent-Length: 05\r\n",
        ),
    ] {
        cases.push(Case::new(name, post(lines, &body), Want::RefusedOrClosed).body("hello"));
    }
    for (name, lines) in [
        ("different CLs", "Content-Length: 5\r\nContent-Length: 6\r\n".to_owned()),
        (
            "different CLs, the lesser behind",
            "Content-Length: 50\r\nContent-Length: 5\r\n".to_owned(),
        ),
        ("CL 5 and CL 0", "Content-Length: 5\r\nContent-Length: 0\r\n".to_owned()),
        (
            "CL and an empty one",
            "Content-Length: 5\r\nContent-Length:\r\n".to_owned(),
        ),
        ("a list of different CLs", "Content-Length: 5, 6\r\n".to_owned()),
        ("a list with an empty member", "Content-Length: 5,\r\n".to_owned()),
        ("a list that begins empty", "Content-Length: ,5\r\n".to_owned()),
        ("a list by semicolon", "Content-Length: 5;6\r\n".to_owned()),
        ("plus sign", "Content-Length: +5\r\n".to_owned()),
        ("minus sign", "Content-Length: -5\r\n".to_owned()),
        ("minus nought", "Content-Length: -0\r\n".to_owned()),
        ("hexadecimal", "Content-Length: 0x5\r\n".to_owned()),
        ("hexadecimal digits", "Content-Length: 5a\r\n".to_owned()),
        ("octal", "Content-Length: 0o5\r\n".to_owned()),
        ("fraction", "Content-Length: 5.0\r\n".to_owned()),
        ("exponent", "Content-Length: 5e0\r\n".to_owned()),
        ("grouped", "Content-Length: 1_0\r\n".to_owned()),
        ("quoted", "Content-Length: \"5\"\r\n".to_owned()),
        ("a space within", "Content-Length: 5 5\r\n".to_owned()),
        ("a tab within", "Content-Length: 5\t5\r\n".to_owned()),
        ("empty", "Content-Length:\r\n".to_owned()),
        ("a space only", "Content-Length:  \r\n".to_owned()),
        ("2^64", "Content-Length: 18446744073709551616\r\n".to_owned()),
        ("2^64 + 5", "Content-Length: 18446744073709551621\r\n".to_owned()),
        ("2^63", "Content-Length: 9223372036854775808\r\n".to_owned()),
        ("300 digits", format!("Content-Length: {}5\r\n", "9".repeat(300))),
        (
            "300 noughts, then 50",
            format!("Content-Length: {}50\r\n", "0".repeat(300)),
        ),
        ("a vertical tab before", "Content-Length: \u{b}5\r\n".to_owned()),
        ("a form feed behind", "Content-Length: 5\u{c}\r\n".to_owned()),
        ("a NUL behind", "Content-Length: 5\0\r\n".to_owned()),
        ("a no-break space before", "Content-Length: \u{a0}5\r\n".to_owned()),
        ("wide digits", "Content-Length: \u{ff15}\r\n".to_owned()),
        ("a name", "Content-Length: five\r\n".to_owned()),
        ("folded", "Content-Length:\r\n 5\r\n".to_owned()),
        ("folded digits", "Content-Length: 5\r\n 0\r\n".to_owned()),
        ("folded by a tab", "Content-Length:\r\n\t5\r\n".to_owned()),
        ("a space before the colon", "Content-Length : 5\r\n".to_owned()),
        ("a tab before the colon", "Content-Length\t: 5\r\n".to_owned()),
        ("a space before the name", " Content-Length: 5\r\n".to_owned()),
        ("a space in the name", "Content Length: 5\r\n".to_owned()),
        ("a NUL in the name", "Content-Length\0: 5\r\n".to_owned()),
        ("a vertical tab in the name", "Content-Length\u{b}: 5\r\n".to_owned()),
        ("no colon", "Content-Length 5\r\n".to_owned()),
        ("bare CR before", "X: y\rContent-Length: 5\r\n".to_owned()),
        ("bare LF before", "X: y\nContent-Length: 5\r\n".to_owned()),
        ("bare CR behind", "Content-Length: 5\r\r\n".to_owned()),
    ] {
        cases.push(Case::new(name, post(&lines, &body), Want::Refused).half_close());
    }
    for (name, lines) in [
        ("plain", "Content-Length: 5\r\n"),
        ("white space around", "Content-Length: \t 5 \t\r\n"),
        ("no white space", "Content-Length:5\r\n"),
    ] {
        cases.push(Case::new(name, post(lines, "hello"), Want::Served).body("hello"));
    }
    cases.push(
        Case::new(
            "leading noughts",
            post("Content-Length: 0005\r\nConnection: close\r\n", &body),
            Want::RefusedOrClosed,
        )
        .body("hello"),
    );
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn only_chunked_alone_is_a_transfer_encoding() {
    let body = two_faced();
    let mut cases = Vec::new();
    for (name, lines) in [
        ("xchunked", "Transfer-Encoding: xchunked\r\n"),
        ("chunkedx", "Transfer-Encoding: chunkedx\r\n"),
        ("x-chunked", "Transfer-Encoding: x-chunked\r\n"),
        ("identity", "Transfer-Encoding: identity\r\n"),
        ("gzip", "Transfer-Encoding: gzip\r\n"),
        ("chunked, gzip", "Transfer-Encoding: chunked, gzip\r\n"),
        ("chunked, identity", "Transfer-Encoding: chunked, identity\r\n"),
        ("chunked, chunked", "Transfer-Encoding: chunked, chunked\r\n"),
        ("gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n"),
        ("identity, chunked", "Transfer-Encoding: identity, chunked\r\n"),
        ("empty member behind", "Transfer-Encoding: chunked,\r\n"),
        ("empty member before", "Transfer-Encoding: , chunked\r\n"),
        ("parameter", "Transfer-Encoding: chunked;q=1\r\n"),
        ("semicolon", "Transfer-Encoding: chunked;\r\n"),
        ("quotes", "Transfer-Encoding: \"chunked\"\r\n"),
        ("single quotes", "Transfer-Encoding: 'chunked'\r\n"),
        ("vertical tab before", "Transfer-Encoding: \u{b}chunked\r\n"),
        ("vertical tab behind", "Transfer-Encoding: chunked\u{b}\r\n"),
        ("form feed before", "Transfer-Encoding: \u{c}chunked\r\n"),
        ("NUL behind", "Transfer-Encoding: chunked\0\r\n"),
        ("delete behind", "Transfer-Encoding: chunked\u{7f}\r\n"),
        ("no-break space before", "Transfer-Encoding: \u{a0}chunked\r\n"),
        ("long s", "Transfer-Encoding: chun\u{212a}ed\r\n"),
        ("a space within", "Transfer-Encoding: chun ked\r\n"),
        ("empty", "Transfer-Encoding:\r\n"),
        ("a colon before", "Transfer-Encoding: :chunked\r\n"),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("folded by a tab", "Transfer-Encoding:\r\n\tchunked\r\n"),
        ("folded behind", "Transfer-Encoding: chunked\r\n , identity\r\n"),
        ("folded word", "Transfer-Encoding: chun\r\n ked\r\n"),
        (
            "two fields, equal",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "two fields, identity behind",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ),
        (
            "two fields, identity before",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "two fields, one in disguise",
            "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n",
        ),
        (
            "two fields, one empty",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n",
        ),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("a space before the name", " Transfer-Encoding: chunked\r\n"),
        ("a NUL in the name", "Transfer-Encoding\0: chunked\r\n"),
        ("a vertical tab in the name", "Transfer-Encoding\u{b}: chunked\r\n"),
        ("bare CR before", "X: y\rTransfer-Encoding: chunked\r\n"),
        ("bare LF before", "X: y\nTransfer-Encoding: chunked\r\n"),
        ("bare LF behind", "Transfer-Encoding: chunked\nX: y\r\n"),
    ] {
        cases.push(Case::new(name, post(lines, &body), Want::Refused).half_close());
    }
    for (name, lines) in [
        ("plain", "Transfer-Encoding: chunked\r\n"),
        ("case", "tRaNsFeR-EnCoDiNg: cHuNkEd\r\n"),
        ("tab before", "Transfer-Encoding:\tchunked\r\n"),
        ("tab behind", "Transfer-Encoding: chunked\t\r\n"),
        ("spaces around", "Transfer-Encoding:  chunked  \r\n"),
    ] {
        cases.push(Case::new(name, post(lines, "2\r\nok\r\n0\r\n\r\n"), Want::Served).body("ok"));
    }
    for (name, head) in [
        (
            "HTTP/1.0",
            "POST /x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HTTP/1.0, kept alive",
            "POST /x HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HTTP/1.0 with a length",
            "POST /x HTTP/1.0\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        cases.push(Case::new(name, format!("{head}{body}"), Want::Refused).half_close());
    }
    Bench::start().await.check(cases).await;
}

/// Some servers read `Content_Length` as `Content-Length` (CGI, RFC 3875 section 4.1.18).
#[tokio::test]
async fn names_with_underscores_never_reach_the_upstream_as_framing() {
    let mut cases = Vec::new();
    for (name, lines) in [
        ("Content_Length", "Content_Length: 5\r\n"),
        (
            "content_length beside it",
            "Content-Length: 2\r\ncontent_length: 50\r\n",
        ),
        (
            "Transfer_Encoding",
            "Content-Length: 2\r\nTransfer_Encoding: chunked\r\n",
        ),
        ("Transfer_Encoding alone", "Transfer_Encoding: chunked\r\n"),
        (
            "Connection by underscore",
            "Content-Length: 2\r\nProxy_Connection: close\r\n",
        ),
        (
            "two underscores",
            "Content-Length: 2\r\nTransfer__Encoding: chunked\r\n",
        ),
    ] {
        let with_body = lines.contains("Content-Length");
        let body = if with_body { "ok" } else { "" };
        cases.push(Case::new(name, post(lines, body), Want::Either).body(body));
    }
    for (name, lines) in [
        (
            "Content_Length alone does not frame",
            "Content_Length: 60\r\nConnection: close\r\n",
        ),
        (
            "Transfer_Encoding does not frame",
            "Transfer_Encoding: chunked\r\nConnection: close\r\n",
        ),
    ] {
        cases.push(Case::new(name, post(lines, &two_faced()), Want::RefusedOrClosed).body(""));
    }
    Bench::start().await.check(cases).await;
}
