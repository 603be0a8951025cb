//! Parses text into types. An error message is one sentence that shows the text and says what is expected.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use super::problem::{looks_like_a_secret, shown};
use crate::log::LogFormat;
use crate::server::Bind;
use crate::units;
use crate::upstream::HttpVersion;

/// The longest wait that can be set: long enough for everything, and far from overflow in clock arithmetic.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// `sun_path` of a socket address on Linux holds 108 bytes, the last of which is zero.
const LONGEST_SOCKET_PATH: usize = 107;
/// More threads than any machine this runs on has cores; a larger number is a typing error.
const MOST_WORKERS: usize = 512;

type Parsed<T> = Result<T, String>;

pub(crate) fn boolean(text: &str) -> Parsed<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("{} is neither `true` nor `false`", shown(text))),
    }
}

pub(crate) fn count(text: &str) -> Parsed<usize> {
    text.trim()
        .parse()
        .map_err(|_| format!("{} is not a whole number", shown(text)))
}

pub(crate) fn workers(text: &str) -> Parsed<NonZeroUsize> {
    count(text)
        .ok()
        .filter(|n| *n <= MOST_WORKERS)
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| format!("{} is not a number of threads from 1 to {MOST_WORKERS}", shown(text)))
}

/// A wait of at least a millisecond.
pub(crate) fn wait(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        Duration::ZERO => Err(format!(
            "{} would end before it began: write more than zero",
            shown(text)
        )),
        wait => Ok(wait),
    }
}

pub(crate) fn duration(text: &str) -> Parsed<Duration> {
    let duration = units::parse_duration(text).map_err(|e| e.to_string())?;
    if duration > LONGEST_WAIT {
        return Err(format!("{} is more than a day, the most that can be set", shown(text)));
    }
    Ok(duration)
}

pub(crate) fn size(text: &str) -> Parsed<usize> {
    let bytes = units::parse_size(text).map_err(|e| e.to_string())?;
    usize::try_from(bytes).map_err(|_| format!("{} is more than this machine can address", shown(text)))
}

pub(crate) fn level(text: &str) -> Parsed<LevelFilter> {
    match text.trim().to_ascii_lowercase().as_str() {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(one_of(text, &["error", "warn", "info", "debug", "trace"])),
    }
}

pub(crate) fn log_format(text: &str) -> Parsed<LogFormat> {
    match text.trim() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(one_of(text, &["text", "json"])),
    }
}

pub(crate) fn http_version(text: &str) -> Parsed<HttpVersion> {
    match text.trim() {
        "auto" => Ok(HttpVersion::Auto),
        "1" => Ok(HttpVersion::Http1),
        "2" => Ok(HttpVersion::Http2),
        _ => Err(one_of(text, &["auto", "1", "2"])),
    }
}

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`.
pub(crate) fn address(text: &str) -> Parsed<SocketAddr> {
    let trimmed = text.trim();
    if let Some(port) = trimmed.strip_prefix("localhost:") {
        return address(&format!("127.0.0.1:{port}")).map_err(|_| not_an_address(text));
    }
    trimmed.parse().map_err(|_| not_an_address(text))
}

fn not_an_address(text: &str) -> String {
    let port = text.trim().trim_start_matches(':');
    let hint = if port.parse::<u16>().is_ok() {
        format!("`127.0.0.1:{port}`")
    } else {
        "`127.0.0.1:8080` or `[::1]:8080`".to_owned()
    };
    format!("{} is not an IP address with a port: write it like {hint}", shown(text))
}

/// An address as [`address`] reads it, or `unix:/path`.
pub(crate) fn bind(text: &str) -> Parsed<Bind> {
    if let Some(port) = text.trim().strip_prefix("localhost:") {
        let port = port.parse().map_err(|_| not_an_address(text))?;
        return Ok(Bind::Localhost { port });
    }
    let Some(path) = text.trim().strip_prefix("unix:") else {
        return address(text)
            .map(Bind::Tcp)
            .map_err(|e| format!("{e}, or `unix:/path`"));
    };
    if !path.starts_with('/') {
        return Err(format!(
            "{} is not a unix socket with an absolute path: write it like `unix:/run/atlas-auth-proxy/proxy.sock`",
            shown(text)
        ));
    }
    if path.len() > LONGEST_SOCKET_PATH || path.contains('\0') {
        return Err(format!(
            "{} is too long: the path of a unix socket has at most {LONGEST_SOCKET_PATH} bytes",
            shown(text)
        ));
    }
    Ok(Bind::Unix {
        path: PathBuf::from(path),
        mode: 0o600,
        uids: Vec::new(),
    })
}

/// Permission bits in octal: `0600`, `600`, `0o600`.
pub(crate) fn mode(text: &str) -> Parsed<u32> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0o").unwrap_or(digits);
    if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(not_a_mode(text));
    }
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| not_a_mode(text))
}

fn not_a_mode(text: &str) -> String {
    format!("{} is not a file mode: write it in octal, like \"0600\"", shown(text))
}

/// A network, or one address.
pub(crate) fn network(text: &str) -> Parsed<IpNet> {
    let trimmed = text.trim();
    trimmed
        .parse::<IpNet>()
        .map(|net| net.trunc())
        .or_else(|_| trimmed.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            format!(
                "{} is not a network: write it like `10.1.0.0/16`, `fd00::/8` or `10.1.2.3`",
                shown(text)
            )
        })
}

pub(crate) fn method(text: &str) -> Parsed<Method> {
    // Method names are case-sensitive (RFC 9110 section 9.1): `get` would never match anything.
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if method.as_str() == upper => Ok(method),
        Ok(_) => Err(format!("{} must be written in capitals: `{upper}`", shown(text))),
        Err(_) => Err(format!("{} is not an HTTP method, such as `GET`", shown(text))),
    }
}

pub(crate) fn header_name(text: &str) -> Parsed<HeaderName> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        format!(
            "{} is not the name of a header, such as `X-Atlas-Auth-Proxy`",
            shown(text)
        )
    })
}

/// The name of a listener or an account: it becomes a label, part of a log line, and of an admin path.
pub(crate) fn name(text: &str) -> Parsed<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 64 || !text.chars().all(fits) || looks_like_a_secret(text) {
        return Err(format!(
            "{} is not a name: 1 to 64 letters, digits, `.`, `_` and `-`",
            shown(text)
        ));
    }
    Ok(text.to_owned())
}

/// "X is none of `a`, `b`; did you mean `b`?"
pub(crate) fn one_of(text: &str, choices: &[&str]) -> String {
    let list = choices.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
    let meant = nearest(text, choices.iter().copied()).map_or_else(String::new, |c| format!("; did you mean `{c}`?"));
    format!("{} is none of {list}{meant}", shown(text))
}

/// The choice that is nearest, however far.
pub(crate) fn closest<'a>(text: &str, choices: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    choices.min_by_key(|choice| strsim::damerau_levenshtein(text, choice))
}

/// The choice that was probably meant, if one is near enough.
pub(crate) fn nearest<'a>(text: &str, choices: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.trim().to_ascii_lowercase().replace('-', "_");
    choices
        .map(|choice| (strsim::damerau_levenshtein(&text, choice), choice))
        .min()
        .filter(|(distance, choice)| *distance <= (choice.len() / 3).max(1))
        .map(|(_, choice)| choice)
}
