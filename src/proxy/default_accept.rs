//! The version that a request gets whose client names none (`default_accept`).

use http::{HeaderMap, HeaderValue, header};
use jiff::civil::Date;

use super::Pipeline;
use super::radar::VersionFrom;
use crate::access::Reading;
use crate::catalogue::{Media, Operation};

/// The date of the first version of the versioned API: Atlas has no operation for an earlier one.
const FIRST: Date = jiff::civil::date(2023, 1, 1);

/// Where versions are named by `Accept`. Older paths have their version in the path, and private ones have none.
const VERSIONED: &str = "/api/atlas/v2";

/// The version that is asked for in place of clients that name none, as a media type of each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultAccept {
    date: Date,
    json: HeaderValue,
    gzip: HeaderValue,
    csv: HeaderValue,
}

/// A text is no version that can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoVersion {
    /// It is no date.
    #[error("is not a date: write a day that there is as `YYYY-MM-DD`, such as `2025-03-12`")]
    NotADate,
    /// It is before the first version.
    #[error("is before the first version of Atlas's API: write `2023-01-01` or later, such as `2025-03-12`")]
    BeforeTheFirst,
    /// `preview`.
    #[error(
        "is a version that few operations have, and no request for another would be answered: write a date, such as `2025-03-12`, and let \
         the client ask for `preview` itself"
    )]
    Preview,
}

impl DefaultAccept {
    /// Reads `YYYY-MM-DD`.
    ///
    /// # Errors
    /// See [`NoVersion`].
    pub fn parse(text: &str) -> Result<Self, NoVersion> {
        if text == "preview" {
            return Err(NoVersion::Preview);
        }
        // What is parsed may be written in other ways, too, which Atlas does not take.
        let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
        let date = date.ok_or(NoVersion::NotADate)?;
        if date < FIRST {
            return Err(NoVersion::BeforeTheFirst);
        }
        let media_type = |suffix| {
            let value = HeaderValue::try_from(format!("application/vnd.atlas.{date}+{suffix}"));
            value.map_err(|_| NoVersion::NotADate)
        };
        Ok(Self {
            date,
            json: media_type("json")?,
            gzip: media_type("gzip")?,
            csv: media_type("csv")?,
        })
    }

    /// The day that names the version.
    pub fn date(&self) -> Date {
        self.date
    }

    /// Makes a request that leaves the version open ask for this one, with one `Accept`; whether it did. `operation` is what
    /// the catalogue takes the request for.
    fn give(&self, headers: &mut HeaderMap, operation: Option<&Operation>) -> bool {
        let Some(media) = Wanted::of(headers).and_then(|wanted| wanted.of_operation(operation)) else {
            return false;
        };
        let value = match media {
            Media::Json => &self.json,
            Media::Gzip => &self.gzip,
            Media::Csv => &self.csv,
        };
        headers.insert(header::ACCEPT, value.clone());
        true
    }
}

impl Pipeline {
    /// Makes a request that leaves the version open ask for the listener's, where it has one and the path has versions. Returns
    /// where the version is from.
    pub(super) fn settle_version(&self, reading: &Reading<'_>, path: &str, headers: &mut HeaderMap) -> VersionFrom {
        if !is_versioned(reading.template(), path) {
            return VersionFrom::Path;
        }
        let operation = reading.operation().map(|id| self.shared.catalogue.get(id));
        let default = self.rules.default_accept.as_ref();
        if default.is_some_and(|default| default.give(headers, operation)) {
            VersionFrom::Default
        } else {
            VersionFrom::Client
        }
    }
}

/// Whether Atlas reads a version from `Accept` on this path. `template`: the path of the operation that it is, empty where it
/// is none of the catalogue.
fn is_versioned(template: &str, path: &str) -> bool {
    let path = if template.is_empty() { path } else { template };
    let rest = path.strip_prefix(VERSIONED);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a client takes that names no version.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// JSON by its name, or it does not say.
    json: bool,
    gzip: bool,
    csv: bool,
    /// Whatever there is.
    any: bool,
}

impl Wanted {
    /// `None`: the client names a version, and gets what it asks for.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let fields = headers.get_all(header::ACCEPT).iter();
        let ranges = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
        let (mut wanted, mut silent) = (Self::default(), true);
        for range in ranges {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let essence = parts.next().unwrap_or_default();
            silent &= essence.is_empty();
            if begins(essence, b"application/vnd.atlas") {
                return None;
            }
            if parts.any(is_weight_zero) {
                continue;
            }
            let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
            wanted.json |= is("application/json");
            wanted.gzip |= is("application/gzip");
            wanted.csv |= is("text/csv");
            wanted.any |= is("*/*") || is("application/*");
        }
        wanted.json |= silent;
        Some(wanted)
    }

    /// Which of an operation's kinds of media it is given: JSON where there is JSON, unless it wants another by its name. A
    /// client whose every request says `application/json` gets a log file, too. `None`: nothing that the client takes.
    fn of_operation(&self, operation: Option<&Operation>) -> Option<Media> {
        let versions = operation.map_or(&[][..], |operation| &operation.versions);
        let has = |media| versions.iter().any(|version| version.media == media);
        let usual = match versions.first() {
            Some(first) if !has(Media::Json) => first.media,
            _ => Media::Json,
        };
        match self {
            Self { json: true, .. } => Some(usual),
            Self { csv: true, .. } if has(Media::Csv) => Some(Media::Csv),
            Self { gzip: true, .. } if has(Media::Gzip) => Some(Media::Gzip),
            Self { any: true, .. } => Some(usual),
            _ => None,
        }
    }
}

fn begins(text: &[u8], with: &[u8]) -> bool {
    text.get(..with.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(with))
}

/// `q=0`: the client does not take it (RFC 9110 section 12.4.2).
fn is_weight_zero(parameter: &[u8]) -> bool {
    begins(parameter, b"q=") && parameter[2..].iter().all(|byte| matches!(byte, b'0' | b'.'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::Catalogue;

    fn accept(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        headers
    }

    /// The values of `Accept` afterwards.
    fn given(operation: &str, values: &[&str]) -> Vec<String> {
        let catalogue = Catalogue::new();
        let operation = catalogue.by_name(operation).map(|id| catalogue.get(id));
        let (mut headers, before) = (accept(values), accept(values));
        let gave = DefaultAccept::parse("2025-03-12")
            .unwrap()
            .give(&mut headers, operation);
        assert_eq!(gave, headers != before, "{values:?}");
        let all = headers.get_all(header::ACCEPT).iter();
        all.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_version_is_a_day_that_there_is_since_the_first() {
        for good in ["2023-01-01", "2025-03-12", "2024-02-29"] {
            let json = DefaultAccept::parse(good).unwrap().json;
            assert_eq!(json, format!("application/vnd.atlas.{good}+json"));
        }
        for wrong in [
            "",
            "2025",
            "2025-3-12",
            "2025-02-29",
            "2025-13-01",
            "20250312",
            "2025-03-12T00:00",
            " 2025-03-12",
            "2025-03-12\n",
            "v2",
            "Preview",
        ] {
            assert_eq!(DefaultAccept::parse(wrong), Err(NoVersion::NotADate), "{wrong:?}");
        }
        assert_eq!(DefaultAccept::parse("2022-12-31"), Err(NoVersion::BeforeTheFirst));
        assert_eq!(DefaultAccept::parse("preview"), Err(NoVersion::Preview));
    }

    #[test]
    fn no_operation_has_an_earlier_version() {
        let catalogue = Catalogue::new();
        let all = catalogue.operations().iter().flat_map(|operation| &operation.versions);
        let first = all.map(|version| version.date).min();
        assert_eq!(first, Some(FIRST.to_string().as_str()));
    }

    #[test]
    fn who_names_none_gets_one_and_who_names_one_keeps_it() {
        let version = ["application/vnd.atlas.2025-03-12+json"];
        for open in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/json"],
            &["Application/JSON; charset=utf-8"],
            &["application/json, text/plain, */*"],
            &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
            &["application/*;q=0.001"],
            &["text/plain", "application/json"],
            &["application/json", "application/json"],
        ] {
            assert_eq!(given("listGroups", open), version, "{open:?}");
            assert_eq!(given("no such operation", open), version, "{open:?}");
        }
        for named in [
            &["application/vnd.atlas.2023-01-01+json"][..],
            &["application/vnd.atlas.2023-01-01+json;q=0.5, */*"],
            &["*/*", "APPLICATION/VND.ATLAS.2023-01-01+JSON"],
            &["application/vnd.atlas.preview+json"],
            &["application/vnd.atlas+json"],
            // Something else is asked for: Atlas says that it has none.
            &["text/html"],
            &["application/json;q=0"],
            &["*/*; Q=0.00"],
            &["text/csv"],
        ] {
            assert_eq!(given("listGroups", named), named, "{named:?}");
        }
    }

    #[test]
    fn an_operation_gives_what_it_has() {
        let (json, gzip, csv) = (
            ["application/vnd.atlas.2025-03-12+json"],
            ["application/vnd.atlas.2025-03-12+gzip"],
            ["application/vnd.atlas.2025-03-12+csv"],
        );
        for open in [
            "*/*",
            "application/json",
            "application/gzip",
            "text/csv, application/gzip",
        ] {
            assert_eq!(given("downloadGroupClusterLog", &[open]), gzip, "{open}");
        }
        assert_eq!(given("getOrgInvoiceCsv", &["*/*"]), csv);
        for (wanted, gets) in [
            ("*/*", json),
            ("application/json, text/csv", json),
            ("text/csv", csv),
            ("text/csv, */*;q=0.1", csv),
        ] {
            assert_eq!(given("getOrgInvoice", &[wanted]), gets, "{wanted}");
        }
        assert_eq!(given("downloadGroupClusterLog", &["text/csv"]), ["text/csv"]);
    }

    #[test]
    fn versions_are_named_under_v2_alone() {
        for path in ["/api/atlas/v2", "/api/atlas/v2/", "/api/atlas/v2/groups"] {
            assert!(
                is_versioned("", path) && is_versioned(path, "/api/%61tlas/v2/x"),
                "{path}"
            );
        }
        for path in [
            "/api/atlas/v1.0/groups",
            "/api/atlas/v20/groups",
            "/api/private/ipinfo",
            "/api/public/v1.0/groups",
            "/",
        ] {
            assert!(
                !is_versioned("", path) && !is_versioned(path, "/api/atlas/v2/x"),
                "{path}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_value_panics_and_what_is_given_is_one(values in proptest::collection::vec("[ -~]{0,40}", 0..3)) {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            if DefaultAccept::parse("2025-03-12").unwrap().give(&mut headers, None) {
                prop_assert_eq!(headers.get_all(header::ACCEPT).iter().count(), 1);
            }
        }
    }
}
