//! What can be a request at all: a decision about anything else would hold by accident.

use http::Method;

/// Reads a method.
///
/// # Errors
/// When no request has it; says what to write instead.
pub fn method(text: &str) -> Result<Method, String> {
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        return Err(format!("`{text}` must be written in capitals: `{upper}`"));
    }
    text.parse()
        .map_err(|_| format!("`{text}` is not an HTTP method, such as `GET`"))
}

/// Whether a path is one that a request can have.
///
/// # Errors
/// When it is not; says what to write instead.
pub fn path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err(format!(
            "`{text}` does not begin with a slash: write the path alone, without scheme and host, as in `/api/atlas/v2/groups`"
        ));
    }
    if let Some((path, _)) = text.split_once(['?', '#']) {
        return Err(format!(
            "rules look at no query, and a path ends before it: write `{path}`"
        ));
    }
    if text.contains(['{', '}']) {
        return Err(format!(
            "`{text}` has a placeholder, and a request has a value there: write one, such as `5a0a1e7e0f2912c554080adc`"
        ));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "`{text}` has a character that no path has as it is: write it percent-encoded, as in `a%20b`"
        ));
    }
    Ok(())
}
