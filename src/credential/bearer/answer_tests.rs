#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use http::header;

use super::*;

fn parse(status: u16, body: &str) -> Result<Granted, Refusal> {
    let status = StatusCode::from_u16(status).unwrap();
    parse_answer(status, &HeaderMap::new(), body.as_bytes(), SystemTime::UNIX_EPOCH)
}

fn outcome(status: u16, body: &str) -> Outcome {
    parse(status, body).unwrap_err().outcome
}

#[test]
fn a_grant_is_read() {
    // Shape as Atlas documents it for service accounts.
    let granted = parse(
        200,
        r#"{"access_token":"eyJ.a-b_c~+/==","expires_in":3600,"token_type":"Bearer"}"#,
    )
    .unwrap();
    assert_eq!(granted.header(), "Bearer eyJ.a-b_c~+/==");
    assert!(granted.header().is_sensitive());
    assert_eq!(granted.life(), Duration::from_secs(3600));
    assert!(!format!("{granted:?}").contains("eyJ"));
    let lax = " {\"token_type\":\"bEARER\",\"scope\":null,\"expires_in\":1.0,\"access_token\":\"x\"}\n";
    assert_eq!(parse(200, lax).unwrap().life(), Duration::from_secs(1));
}

#[test]
fn whatever_is_not_quite_a_grant_is_malformed() {
    let with = |token: &str, kind: &str, life: &str| {
        format!(r#"{{"access_token":{token},"token_type":{kind},"expires_in":{life}}}"#)
    };
    let good = r#""t""#;
    let bearer = r#""Bearer""#;
    assert!(parse(200, &with(good, bearer, "2592000")).is_ok(), "30 days, the bound");
    let mut bad = vec![
        String::new(),
        "null".into(),
        "[]".into(),
        r#"["t","Bearer",3600]"#.into(),
        "{}".into(),
        "<html>".into(),
        "\u{feff}{}".into(),
        r#"{"access_token":"t","token_type":"Bearer","expires_in":3600"#.into(),
        r#"{"access_token":"t","token_type":"Bearer"}"#.into(),
        r#"{"access_token":"t","expires_in":3600}"#.into(),
        r#"{"token_type":"Bearer","expires_in":3600}"#.into(),
        r#"{"access_token":"t","access_token":"u","token_type":"Bearer","expires_in":3600}"#.into(),
        format!("{} trailing", with(good, bearer, "3600")),
        "[".repeat(100_000),
        format!("{{\"a\":{}", "[".repeat(60_000)),
    ];
    for token in [
        r#""""#,
        "null",
        "7",
        r#"" ""#,
        r#""a b""#,
        r#""a\r\nX: y""#,
        r#""é""#,
        r#""\u0000""#,
        r#""\u007f""#,
    ] {
        bad.push(with(token, bearer, "3600"));
    }
    for kind in [r#""mac""#, r#""Bearer ""#, "null", r#""""#, "true"] {
        bad.push(with(good, kind, "3600"));
    }
    for life in [
        "0",
        "-1",
        "0.5",
        "-3600",
        r#""3600""#,
        r#""soon""#,
        "null",
        "true",
        "{}",
        "2592001",
        "1e12",
        "1000000000000",
        "99999999999999999999999999",
        "1e999",
        "-0",
    ] {
        bad.push(with(good, bearer, life));
    }
    for body in bad {
        let refusal = parse(200, &body).unwrap_err();
        assert_eq!(refusal.outcome, Outcome::Malformed, "{}", &body[..body.len().min(80)]);
    }
}

#[test]
fn bodies_and_tokens_have_a_bound() {
    let body = |n: usize| {
        format!(
            r#"{{"access_token":"{}","token_type":"Bearer","expires_in":60}}"#,
            "t".repeat(n)
        )
    };
    assert!(parse(200, &body(MOST_TOKEN_BYTES)).is_ok());
    assert!(parse(200, &body(MOST_TOKEN_BYTES + 1)).is_err());
    let padded = |n: usize| {
        let body = body(10);
        let blanks = " ".repeat(n - body.len());
        body + &blanks
    };
    assert!(parse(200, &padded(MOST_BODY_BYTES)).is_ok());
    assert!(parse(200, &padded(MOST_BODY_BYTES + 1)).is_err());
}

#[test]
fn refusals_are_told_apart() {
    // Bodies as Atlas sends them.
    let invalid = r#"{"error":"invalid_client","error_description":"Invalid credentials provided."}"#;
    assert_eq!(outcome(401, invalid), Outcome::Rejected);
    assert_eq!(outcome(400, invalid), Outcome::Rejected);
    assert_eq!(
        outcome(500, invalid),
        Outcome::Error,
        "a broken server says nothing about the secret"
    );
    assert_eq!(outcome(401, ""), Outcome::Error, "some other 401, perhaps of a gateway");
    let limit = r#"{"error":"access_denied","error_description":"Access Token limit reached. Wait."}"#;
    assert_eq!(outcome(403, limit), Outcome::TokenLimit);
    assert_eq!(outcome(403, r#"{"error":"access_denied"}"#), Outcome::Error);
    let rate = r#"{"error":429,"errorCode":"RATE_LIMITED","reason":"Too Many Requests","parameters":[]}"#;
    assert_eq!(outcome(429, rate), Outcome::RateLimited);
    assert_eq!(outcome(429, "<html>"), Outcome::RateLimited);
    for status in [201, 204, 301, 302, 400, 404, 407, 500, 502, 503, 504] {
        let refusal = parse(status, r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#).unwrap_err();
        assert_eq!(refusal.outcome, Outcome::Error, "{status}");
        assert!(refusal.cause.contains(&status.to_string()));
    }
}

#[test]
fn what_the_server_wrote_is_not_repeated() {
    let echo = "mdb_sa_sk_hunter2";
    let json =
        format!(r#"{{"error":"{echo}","error_description":"{echo}","errorCode":"{echo}","access_token":"{echo} "}}"#);
    for status in [200, 302, 400, 401, 403, 429, 500] {
        for body in [json.as_str(), echo] {
            let refusal = parse(status, body).unwrap_err();
            assert!(!format!("{refusal} {refusal:?}").contains("hunter2"), "{refusal:?}");
        }
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let asked = |retry: &str, date: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, retry.parse().unwrap());
        if let Some(date) = date {
            headers.insert(header::DATE, date.parse().unwrap());
        }
        // RFC 9110 section 5.6.7 prints this instant in all three formats.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        parse_answer(StatusCode::TOO_MANY_REQUESTS, &headers, b"", now)
            .unwrap_err()
            .retry_after
    };
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(asked("17", None), seconds(17));
    assert_eq!(asked(" 0 ", None), seconds(0));
    assert_eq!(asked("99999999999999999999999", None), seconds(u64::MAX));
    assert_eq!(asked("Sun, 06 Nov 1994 08:50:07 GMT", None), seconds(30));
    assert_eq!(asked("Sunday, 06-Nov-94 08:50:07 GMT", None), seconds(30));
    assert_eq!(asked("Sun Nov  6 08:50:07 1994", None), seconds(30));
    assert_eq!(asked("Sun, 06 Nov 1994 08:40:00 GMT", None), seconds(0));
    let date = Some("Mon, 23 Nov 2026 10:00:00 GMT");
    assert_eq!(
        asked("Mon, 23 Nov 2026 10:00:09 GMT", date),
        seconds(9),
        "our clock is off, theirs counts"
    );
    for bad in ["-1", "1.5", "soon", "", "Sun, 06 Nov 1994", "+5"] {
        assert_eq!(asked(bad, None), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(status in 100u16..600, body in proptest::collection::vec(any::<u8>(), 0..300),
                                retry in "[ -~]{0,40}") {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, retry.parse().unwrap());
        let answer = parse_answer(StatusCode::from_u16(status).unwrap(), &headers, &body, SystemTime::UNIX_EPOCH);
        if let Err(refusal) = answer {
            prop_assert!(refusal.outcome != Outcome::Ok);
        }
    }

    #[test]
    fn what_is_granted_is_one_header_value(token in "\\PC{0,40}", life in any::<f64>()) {
        let body = serde_json::json!({"access_token": token, "token_type": "bearer", "expires_in": life}).to_string();
        if let Ok(granted) = parse_answer(StatusCode::OK, &HeaderMap::new(), body.as_bytes(), SystemTime::UNIX_EPOCH) {
            prop_assert_eq!(granted.header().to_str().unwrap(), &format!("Bearer {token}"));
            prop_assert!(granted.life() >= Duration::from_secs(1) && granted.life() <= MOST_LIFE);
        }
    }
}
