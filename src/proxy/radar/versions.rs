//! The versions of operations, and until when they live, by the catalogue.

use std::fmt;

use http::{HeaderMap, header};
use jiff::civil::Date;

use crate::catalogue::{Catalogue, Operation, OperationId};

/// The version of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// One that may change at any time.
    Preview,
    /// The one of this day.
    Of(Date),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preview => f.write_str("preview"),
            Self::Of(date) => date.fmt(f),
        }
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "preview" => Some(Self::Preview),
            text if text.len() == 10 => text.parse().ok().map(Self::Of),
            _ => None,
        }
    }

    /// The one that a request asks for: the first that is named in `Accept`.
    pub(super) fn asked_for(headers: &HeaderMap) -> Option<Self> {
        const BEFORE: &str = "application/vnd.atlas.";
        let fields = headers.get_all(header::ACCEPT).iter();
        // Other ranges of the same field may be no text.
        let mut ranges = fields
            .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
            .filter_map(|range| std::str::from_utf8(range).ok());
        ranges.find_map(|range| {
            let (before, version) = range.trim().split_at_checked(BEFORE.len())?;
            let named = before.eq_ignore_ascii_case(BEFORE);
            named.then(|| Self::parse(version.split(['+', ';']).next()?.trim()))?
        })
    }
}

/// A version of an operation, and the day from which Atlas no longer answers in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) version: Version,
    pub(super) sunset: Option<Date>,
}

/// The versions of one operation, the oldest first.
#[derive(Debug, Default)]
struct Versions {
    all: Vec<Life>,
    /// Whether the end of one of them is known.
    end: bool,
}

impl Versions {
    fn of(operation: &Operation) -> Self {
        let mut all: Vec<Life> = Vec::new();
        for version in &operation.versions {
            let Some(named) = Version::parse(version.date) else {
                continue;
            };
            let sunset = version.sunset.and_then(|date| date.parse().ok());
            // A write has a line for its request beside that for its answer, and only one of them has the end.
            match all.iter_mut().find(|life| life.version == named) {
                Some(life) => life.sunset = life.sunset.or(sunset),
                None => all.push(Life { version: named, sunset }),
            }
        }
        all.sort_by_key(|life| life.version);
        Self {
            end: all.iter().any(|life| life.sunset.is_some()),
            all,
        }
    }
}

/// The versions of all operations.
#[derive(Debug)]
pub(super) struct AllVersions(Box<[Versions]>);

impl AllVersions {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        Self(catalogue.operations().iter().map(Versions::of).collect())
    }

    fn get(&self, operation: Option<OperationId>) -> Option<&Versions> {
        self.0.get(operation?.index())
    }

    /// Whether the end of a version of this operation is known. Costs next to nothing.
    pub(super) fn have_an_end(&self, operation: Option<OperationId>) -> bool {
        self.get(operation).is_some_and(|versions| versions.end)
    }

    /// The version that Atlas answers in when one is asked for: the latest that is not after it.
    pub(super) fn answered(&self, operation: Option<OperationId>, asked: Version) -> Option<Life> {
        let all = self.get(operation)?.all.iter();
        let fits = |version| match asked {
            Version::Preview => version == Version::Preview,
            Version::Of(_) => version != Version::Preview && version <= asked,
        };
        all.copied().rfind(|life| fits(life.version))
    }

    /// The newest.
    pub(super) fn newest(&self, operation: Option<OperationId>) -> Option<Life> {
        self.get(operation)?.all.last().copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn the_version_that_is_asked_for_is_read_from_accept() {
        let asked = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            Version::asked_for(&headers).map(|version| version.to_string())
        };
        for (values, expected) in [
            (&["application/vnd.atlas.2024-08-05+json"][..], Some("2024-08-05")),
            (&["*/*, APPLICATION/vnd.atlas.2023-01-01+gzip;q=1"], Some("2023-01-01")),
            (&["text/html", " application/vnd.atlas.preview+json"], Some("preview")),
            (&["application/vnd.atlas.2023-01-01+json, x/\u{e4}"], Some("2023-01-01")),
            (&["application/vnd.atlas.2024-08-05"], Some("2024-08-05")),
            (&["application/vnd.atlas.2024-13-05+json"], None),
            (&["application/vnd.atlas.2024-08-05T00:00+json"], None),
            (&["application/vnd.atlas"], None),
            (&["*/*", "", "\u{e4}"], None),
            (&[], None),
        ] {
            assert_eq!(asked(values).as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn atlas_answers_in_the_latest_version_that_is_not_after_the_day() {
        let catalogue = Catalogue::new();
        let all = AllVersions::new(&catalogue);
        let of = |operation: &str, asked: &str| {
            let life = all.answered(catalogue.by_name(operation), version(asked))?;
            let sunset = life.sunset.map_or_else(String::new, |date| format!(" until {date}"));
            Some(format!("{}{sunset}", life.version))
        };
        for (operation, asked, expected) in [
            ("listGroupClusters", "2023-01-01", Some("2023-01-01 until 2027-07-01")),
            ("listGroupClusters", "2024-08-04", Some("2023-02-01 until 2027-07-01")),
            ("listGroupClusters", "2024-08-05", Some("2024-08-05")),
            ("listGroupClusters", "2099-01-01", Some("2024-08-05")),
            ("listGroupClusters", "2022-01-01", None),
            ("listGroupClusters", "preview", None),
            // Its request has no end in the catalogue, its answer has.
            ("createGroupCluster", "2024-08-05", Some("2024-08-05 until 2027-03-01")),
            ("listRateLimits", "preview", Some("preview until 2026-04-21")),
            ("listRateLimits", "2025-03-12", Some("2025-03-12")),
            ("listGroups", "2024-01-01", Some("2023-01-01")),
        ] {
            assert_eq!(of(operation, asked).as_deref(), expected, "{operation} {asked}");
        }
        let end = |operation: &str| all.have_an_end(catalogue.by_name(operation));
        assert!(end("createGroupCluster") && end("listOrgInvites"));
        assert!(!end("listGroups") && !end("no such operation"));
        let newest = all.newest(catalogue.by_name("getGroupMaintenanceWindow")).unwrap();
        assert_eq!(newest.version, version("2023-01-01"), "a preview is no successor");
    }

    #[test]
    fn every_version_and_end_of_the_catalogue_is_a_day() {
        for operation in Catalogue::new().operations() {
            for version in &operation.versions {
                assert!(Version::parse(version.date).is_some(), "{}", operation.name);
                assert!(
                    version.sunset.is_none_or(|date| date.parse::<Date>().is_ok()),
                    "{}",
                    operation.name
                );
            }
        }
    }
}
