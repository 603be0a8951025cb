//! What a credential value must look like, and the mistakes that are worth a sentence of their own. No message holds any
//! part of a value.

use zeroize::Zeroizing;

use super::problem::looks_like_a_secret;

/// The largest credential file that is read, bytes. Atlas's own values have less than 100.
pub(crate) const LARGEST: usize = 16 << 10;

/// One part of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    ClientId,
    ClientSecret,
    PublicKey,
    PrivateKey,
}

impl Field {
    /// Whether messages must not show it.
    pub(crate) fn is_secret(self) -> bool {
        matches!(self, Self::ClientSecret | Self::PrivateKey)
    }

    /// Its name in messages.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::ClientId => "client id",
            Self::ClientSecret => "client secret",
            Self::PublicKey => "public key",
            Self::PrivateKey => "private key",
        }
    }
}

/// The value of a variable or of a file: trimmed, and fit for an `Authorization` header.
pub(crate) fn clean(field: Field, bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = text(bytes)?;
    check(field, text)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The one line of text that a file must hold; `what` names it in messages.
#[cfg(feature = "token-store")]
pub(crate) fn line(bytes: &[u8], what: &str) -> Result<Zeroizing<String>, String> {
    let text = text(bytes)?;
    if text.is_empty() {
        return Err(format!("this is empty: it must hold the {what}"));
    }
    if text.contains(['\r', '\n']) {
        return Err(format!("this has more than one line: it must hold the {what} alone"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// The text without a UTF-8 byte order mark and without line breaks at its end.
fn text(bytes: &[u8]) -> Result<&str, String> {
    const SAVE_AS: &str = "save it as plain text, without a byte order mark";
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(format!("this is UTF-16, not UTF-8: {SAVE_AS}"));
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| format!("this is not UTF-8 text: {SAVE_AS}"))?;
    // Editors and `echo` end a file with a line break, on Windows with two characters of it.
    Ok(text.trim_end_matches(['\r', '\n']))
}

fn check(field: Field, text: &str) -> Result<(), String> {
    let title = field.title();
    if text.is_empty() {
        return Err(format!("this is empty: it must hold the {title}"));
    }
    if text.len() > LARGEST {
        return Err(format!("this has {} bytes: it is no {title}", text.len()));
    }
    let quoted = |q: char| text.len() > 1 && text.starts_with(q) && text.ends_with(q);
    if quoted('"') || quoted('\'') {
        return Err(format!(
            "the {title} is in quotation marks: remove them, they are no part of it"
        ));
    }
    if text.contains(['\r', '\n']) {
        return Err(format!("this has more than one line: it must hold the {title} alone"));
    }
    if text.chars().any(char::is_whitespace) {
        return Err(format!("the {title} holds a blank: remove it, a {title} has none"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("the {title} holds a control character: copy it once more"));
    }
    if !text.is_ascii() {
        return Err(format!("the {title} holds a character beyond ASCII: copy it once more"));
    }
    // The user name of Basic and Digest ends at the first colon (RFC 7617 section 2).
    if matches!(field, Field::ClientId | Field::PublicKey) && text.contains(':') {
        return Err(format!("the {title} holds a colon: it must be the {title} alone"));
    }
    wrong_field(field, text)
}

/// Recognises values that belong into another field.
fn wrong_field(field: Field, text: &str) -> Result<(), String> {
    let is_id = text.starts_with("mdb_sa_id_");
    let is_secret = text.starts_with("mdb_sa_sk_");
    match field {
        Field::ClientId if is_secret => Err(
            "this holds a client secret (it starts with mdb_sa_sk_), where the client \
                                             id (mdb_sa_id_…) belongs: were the two swapped?"
                .to_owned(),
        ),
        Field::ClientSecret if is_id => Err("this holds a client id (it starts with mdb_sa_id_), where the client \
                                             secret (mdb_sa_sk_…) belongs: were the two swapped?"
            .to_owned()),
        Field::PublicKey | Field::PrivateKey if text.starts_with("mdb_sa_") => Err(format!(
            "this holds a part of a service account (it starts with mdb_sa_), not the {} of an API key: set \
             MONGODB_ATLAS_CLIENT_ID and MONGODB_ATLAS_CLIENT_SECRET instead (in the file: `client_id`, \
             `client_secret_file`)",
            field.title()
        )),
        // An id is no secret, so that it may be shown: a private key must not be taken for one.
        Field::PublicKey if looks_like_a_secret(text) => Err(format!(
            "this has the shape of the private key of an API key, where the {} belongs: were the two swapped?",
            field.title()
        )),
        _ => Ok(()),
    }
}
