//! What a finding comes to in words, for the log.

use jiff::civil::Date;

use super::finding::{Fate, Finding, VersionFrom};

impl Finding {
    /// In words: what is asked for, what becomes of it, and what to do.
    pub(super) fn told(&self, operation: &str, today: Option<Date>) -> String {
        let version = match (self.version, self.from) {
            (Some(version), VersionFrom::Default) => format!("version {version} (its listener's `default_accept`)"),
            (Some(version), _) => format!("version {version}"),
            (None, VersionFrom::Path) => "a path without versions".to_owned(),
            (None, _) => "no version that there is".to_owned(),
        };
        let fate = match (self.fate, self.sunset) {
            (Fate::Gone, _) => "which Atlas has ended (410)".to_owned(),
            (Fate::NotAcceptable, _) => "which Atlas does not take (406)".to_owned(),
            (Fate::Sunset, Some(end)) if today.is_some_and(|today| end <= today) => {
                format!("which Atlas was to end on {end}")
            }
            (Fate::Sunset, Some(end)) => format!("which Atlas ends on {end}"),
            (Fate::Sunset | Fate::Deprecated, _) => {
                "which Atlas advises against; it does not say until when".to_owned()
            }
        };
        let advice = match (self.newest.filter(|_| self.newest_stays), self.from) {
            (Some(newest), VersionFrom::Default) => {
                format!("try the client with {newest}, the newest that is known here, and set `default_accept` to it")
            }
            (Some(newest), VersionFrom::Client) if self.version.is_none() => {
                format!("let the client name one in `Accept`, such as {newest}, the newest that is known here, or set `default_accept`")
            }
            (Some(newest), VersionFrom::Client) => {
                format!("change the client to {newest}, the newest that is known here, or update it")
            }
            (Some(newest), VersionFrom::Path) => {
                format!("move the client to `/api/atlas/v2` and version {newest}, the newest that is known here, or update it")
            }
            (None, _) => "no version that stays is known here: look in Atlas's documentation for what takes the place of the operation".to_owned(),
        };
        format!("`{operation}` is called with {version}, {fate}: {advice}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{found, json};
    use super::*;

    #[test]
    fn the_words_say_what_ends_when_and_what_to_do() {
        use VersionFrom::{Client, Default, Path};
        let told = |operation: &str, asked: Option<&str>, from, status, fields: &[(&'static str, &str)]| {
            let accept = asked.and_then(json);
            let finding = found(operation, accept.as_deref(), from, status, fields).unwrap();
            finding.told(operation, Some(jiff::civil::date(2026, 11, 27)))
        };
        assert_eq!(
            told("listGroupClusters", Some("2023-01-01"), Client, 200, &[]),
            "`listGroupClusters` is called with version 2023-01-01, which Atlas ends on 2027-07-01: change the client to 2024-08-05, the \
             newest that is known here, or update it"
        );
        assert_eq!(
            told("listGroupClusters", Some("2023-02-01"), Default, 200, &[]),
            "`listGroupClusters` is called with version 2023-02-01 (its listener's `default_accept`), which Atlas ends on 2027-07-01: try \
             the client with 2024-08-05, the newest that is known here, and set `default_accept` to it"
        );
        assert_eq!(
            told("listOrgInvites", Some("2023-01-01"), Client, 200, &[]),
            "`listOrgInvites` is called with version 2023-01-01, which Atlas ends on 2027-07-01: no version that stays is known here: look \
             in Atlas's documentation for what takes the place of the operation"
        );
        let passed = told("listRateLimits", Some("preview"), Client, 200, &[]);
        assert!(
            passed.contains("preview, which Atlas was to end on 2026-04-21"),
            "{passed}"
        );
        let gone = told("listGroupClusters", Some("2023-01-01"), Client, 410, &[]);
        assert!(
            gone.contains("which Atlas has ended (410): change the client to 2024-08-05"),
            "{gone}"
        );
        let no_other = told(
            "listGroups",
            Some("2023-01-01"),
            Client,
            200,
            &[("sunset", "2027-07-01")],
        );
        assert!(no_other.contains("no version that stays is known here"), "{no_other}");
        let none = told("listGroups", None, Client, 406, &[]);
        assert!(
            none.contains("with no version that there is, which Atlas does not take (406): let the client name one in `Accept`, such as 2023-01-01"),
            "{none}"
        );
        let old = told("listGroups", None, Path, 200, &[("deprecation", "true")]);
        assert!(
            old.contains("a path without versions, which Atlas advises against"),
            "{old}"
        );
    }
}
