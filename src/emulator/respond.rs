//! Answers in Atlas's shapes: errors, envelopes, pretty printing, versioned media types.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

pub(super) type Answer = Response<BoxBody<Bytes, io::Error>>;

/// The version that a request without one gets.
const LATEST: &str = "2025-03-12";

pub(super) fn full(bytes: impl Into<Bytes>) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

pub(super) fn empty() -> BoxBody<Bytes, io::Error> {
    full(Bytes::new())
}

/// Some data, then the connection breaks.
pub(super) fn broken(data: Bytes) -> BoxBody<Bytes, io::Error> {
    struct Broken(Option<Bytes>);
    impl Body for Broken {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(Some(match self.0.take() {
                Some(data) => Ok(Frame::data(data)),
                None => Err(io::Error::other("a truncation was ordered")),
            }))
        }
    }
    Broken(Some(data)).boxed()
}

pub(super) fn json(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(full(value.to_string()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn text(text: &'static str) -> Answer {
    let mut answer = Response::new(full(text));
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain;charset=iso-8859-1"),
    );
    common(&mut answer);
    answer
}

/// `{detail, error, errorCode, parameters, reason}` and `X-Error-Code`.
pub(super) fn error(status: StatusCode, code: &'static str, detail: &str, parameters: &[&str]) -> Answer {
    let mut answer = json(
        status,
        &json!({
            "detail": detail,
            "error": status.as_u16(),
            "errorCode": code,
            "parameters": parameters,
            "reason": status.canonical_reason().unwrap_or_default(),
        }),
    );
    answer
        .headers_mut()
        .insert("x-error-code", HeaderValue::from_static(code));
    common(&mut answer);
    answer
}

/// As recorded: without limits, and pretty-printed.
pub(super) fn unauthorized(challenge: Option<String>) -> Answer {
    let mut answer = json(StatusCode::UNAUTHORIZED, &Value::Null);
    let body = json!({
        "error": 401,
        "reason": "Unauthorized",
        "detail": "You are not authorized for this resource.",
        "errorCode": "UNEXPECTED_ERROR",
    });
    *answer.body_mut() = full(pretty(&body));
    let headers = answer.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("mdbws"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(Ok(challenge)) = challenge.map(HeaderValue::try_from) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

fn common(answer: &mut Answer) {
    let headers = answer.headers_mut();
    for (name, value) in [
        ("server", "mdbws"),
        ("strict-transport-security", "max-age=31536000; includeSubdomains;"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-permitted-cross-domain-policies", "none"),
        ("x-envoy-upstream-service-time", "7"),
        ("x-java-method", "EmulatedResource::answer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// How a request wants its answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Format {
    pub(super) pretty: bool,
    pub(super) envelope: bool,
    pub(super) gzip: bool,
    pub(super) v1: bool,
}

/// A document of the API.
pub(super) fn document(status: StatusCode, value: Value, shape: Format, version: Option<&str>) -> Answer {
    let value = if shape.envelope {
        json!({"status": status.as_u16(), "content": value})
    } else {
        value
    };
    let mut body = if shape.pretty {
        pretty(&value).into_bytes()
    } else {
        value.to_string().into_bytes()
    };
    let mut answer = Response::new(empty());
    *answer.status_mut() = if shape.envelope { StatusCode::OK } else { status };
    let media = if shape.v1 {
        "application/json".to_owned()
    } else {
        format!("application/vnd.atlas.{}+json;charset=utf-8", version.unwrap_or(LATEST))
    };
    if let Ok(media) = HeaderValue::from_str(&media) {
        answer.headers_mut().insert(header::CONTENT_TYPE, media);
    }
    if shape.gzip && body.len() > 1024 {
        if let Some(packed) = super::logs::gzip(&body) {
            body = packed;
            answer
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
            .headers_mut()
            .insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    *answer.body_mut() = full(body);
    common(&mut answer);
    answer
}

pub(super) fn no_content(version: Option<&str>) -> Answer {
    let mut answer = document(StatusCode::NO_CONTENT, Value::Null, Format::default(), version);
    *answer.body_mut() = empty();
    answer
}

/// As Atlas prints: `"key" : value`.
pub(super) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    print(value, 0, &mut out);
    out
}

fn print(value: &Value, depth: usize, out: &mut String) {
    let indent = |out: &mut String, depth: usize| out.extend(std::iter::repeat_n("  ", depth));
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push_str("{\n");
            for (n, (key, member)) in members.iter().enumerate() {
                indent(out, depth + 1);
                // Writing to a string can't fail.
                let _ = write!(out, "{} : ", Value::String(key.clone()));
                print(member, depth + 1, out);
                out.push_str(if n + 1 < members.len() { ",\n" } else { "\n" });
            }
            indent(out, depth);
            out.push('}');
        }
        Value::Array(items) if !items.is_empty() => {
            out.push_str("[ ");
            for (n, item) in items.iter().enumerate() {
                print(item, depth, out);
                out.push_str(if n + 1 < items.len() { ", " } else { " ]" });
            }
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pretty_is_as_atlas_prints() {
        let value = json!({"error": 401, "parameters": [], "links": [{"a": 1}, 2]});
        let text = pretty(&value);
        assert!(text.starts_with("{\n  \"error\" : 401,\n"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
