//! How much of a path a line shows.

use super::keys::PathKey;

/// Words of the API's paths that stand before any name.
const WORDS: &[&str] = &[
    "", "api", "atlas", "public", "private", "oauth", "v1.0", "v1.5", "v2", "groups", "orgs",
];

/// The path with a keyed hash, `h:` and hexadecimal digits, in place of each segment that is neither a literal of the
/// operation's path (`template`; empty: it is no operation) nor one of `shown`.
pub(super) fn hidden(path: &str, template: &str, shown: [Option<&str>; 2], key: &PathKey) -> String {
    let segments = path.split('/').count();
    let mut template = (template.split('/').count() == segments).then(|| template.split('/'));
    let mut only_words = true;
    let mut hidden = String::with_capacity(path.len());
    for (at, segment) in path.split('/').enumerate() {
        let plain = match template.as_mut().and_then(Iterator::next) {
            Some(part) => part == segment,
            None => {
                only_words &= WORDS.contains(&segment);
                only_words
            }
        };
        if at > 0 {
            hidden.push('/');
        }
        if plain || shown.contains(&Some(segment)) {
            hidden.push_str(segment);
        } else {
            let name = percent_encoding::percent_decode_str(segment).collect::<Vec<u8>>();
            hidden.push_str("h:");
            hidden.push_str(&key.hash(&name));
        }
    }
    hidden
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::crypto::RootKey;

    #[test]
    fn only_names_are_hidden_and_equal_names_stay_equal() {
        let key = PathKey::of(&RootKey::generate().unwrap());
        let project = "5a0a1e7e0f2912c554080adc";
        let template = "/api/atlas/v2/groups/{groupId}/databaseUsers/{databaseName}/{username}";
        let hide = |user: &str| {
            let path = format!("/api/atlas/v2/groups/{project}/databaseUsers/admin/{user}");
            hidden(&path, template, [Some(project), None], &key)
        };
        let shown = hide("jane.doe");
        assert!(!shown.contains("jane") && !shown.contains("admin"), "{shown}");
        assert!(
            shown.starts_with(&format!("/api/atlas/v2/groups/{project}/databaseUsers/h:")),
            "{shown}"
        );
        assert_eq!(hide("jane%2Edoe"), shown);
        assert_ne!(hide("john.doe"), shown);
        // No operation: all but the words before the first name.
        let unknown = hidden("/api/atlas/v2/groups/x/secret/api", "", [None, None], &key);
        assert!(unknown.starts_with("/api/atlas/v2/groups/h:"), "{unknown}");
        assert_eq!(unknown.matches("h:").count(), 3, "{unknown}");
    }
}
