//! What an answer of Atlas, and the version that it was asked for, say of that version's end.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::versions::{AllVersions, Version};
use crate::catalogue::OperationId;
use crate::time::http_date;

/// RFC 9745.
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// RFC 8594.
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// What becomes of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Atlas will end it on a day that is told, or has ended it by then.
    Sunset,
    /// Atlas advises against it, and doesn't say when it ends.
    Deprecated,
    /// Atlas has ended it (410).
    Gone,
    /// Atlas has none that fits what was asked for, or none was asked for (406).
    NotAcceptable,
}

impl Fate {
    /// Its name in log and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sunset => "sunset",
            Self::Deprecated => "deprecated",
            Self::Gone => "gone",
            Self::NotAcceptable => "not_acceptable",
        }
    }
}

/// Where a request's version comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum VersionFrom {
    /// The client.
    Client,
    /// `default_accept`.
    Default,
    /// The path, which is not one of those whose versions `Accept` names.
    Path,
}

/// What was seen of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) fate: Fate,
    /// The version that was asked for.
    pub(super) version: Option<Version>,
    /// The day from which Atlas no longer answers in it.
    pub(super) sunset: Option<Date>,
    /// The newest version of the operation that is known.
    pub(super) newest: Option<Version>,
    /// Whether that one is another, and stays longer, than what is answered now.
    pub(super) newest_stays: bool,
    pub(super) from: VersionFrom,
}

/// A request, and the head of its answer.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Sight<'a> {
    pub(in crate::proxy) operation: Option<OperationId>,
    pub(in crate::proxy) from: VersionFrom,
    /// As sent.
    pub(in crate::proxy) request: &'a HeaderMap,
    pub(in crate::proxy) status: StatusCode,
    pub(in crate::proxy) answer: &'a HeaderMap,
}

impl Finding {
    /// `None`: the version is there to stay, as far as is known. Allocates nothing then.
    pub(super) fn of(sight: Sight<'_>, versions: &AllVersions) -> Option<Self> {
        let Sight {
            operation,
            from,
            request,
            status,
            answer,
        } = sight;
        let refused = match status {
            StatusCode::GONE => Some(Fate::Gone),
            StatusCode::NOT_ACCEPTABLE => Some(Fate::NotAcceptable),
            _ => None,
        };
        let told = answer.contains_key(SUNSET);
        let said = refused.is_some() || told || answer.contains_key(DEPRECATION);
        let by_accept = from != VersionFrom::Path;
        let may_end = by_accept && versions.have_an_end(operation);
        if !said && !may_end {
            return None;
        }
        let version = by_accept.then(|| Version::asked_for(request)).flatten();
        let answered = version.and_then(|version| versions.answered(operation, version));
        let known = answered.and_then(|life| life.sunset);
        let sunset = answer.get(SUNSET).and_then(day).or(known);
        let fate = match refused {
            Some(fate) => fate,
            None if told || sunset.is_some() => Fate::Sunset,
            None if said => Fate::Deprecated,
            None => return None,
        };
        let newest = versions.newest(operation);
        let stays = newest.is_some_and(|newest| {
            let later = fate == Fate::NotAcceptable || answered.is_none_or(|now| newest.version > now.version);
            later
                && newest
                    .sunset
                    .is_none_or(|end| sunset.is_some_and(|sunset| end > sunset))
        });
        Some(Self {
            fate,
            version,
            sunset,
            newest: newest.map(|life| life.version),
            newest_stays: stays,
            from,
        })
    }
}

/// The day of a `Sunset`: an HTTP-date (RFC 8594), or as others write it, `YYYY-MM-DD`, RFC 3339, or `@` and seconds since
/// 1970.
fn day(value: &HeaderValue) -> Option<Date> {
    let text = value.to_str().ok()?.trim();
    if let Some(seconds) = text.strip_prefix('@') {
        return day_of(Timestamp::from_second(seconds.parse().ok()?).ok()?);
    }
    if let Some(date) = text.get(..10).and_then(|start| start.parse().ok()) {
        return Some(date);
    }
    day_of(Timestamp::try_from(http_date(text)?).ok()?)
}

fn day_of(at: Timestamp) -> Option<Date> {
    Some(at.to_zoned(TimeZone::UTC).date())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use http::header::ACCEPT;
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::Catalogue;

    pub(in super::super) fn found(
        operation: &str,
        accept: Option<&str>,
        from: VersionFrom,
        status: u16,
        fields: &[(&'static str, &str)],
    ) -> Option<Finding> {
        let catalogue = Catalogue::new();
        let (mut request, mut answer) = (HeaderMap::new(), HeaderMap::new());
        if let Some(accept) = accept {
            request.insert(ACCEPT, accept.parse().unwrap());
        }
        for (name, value) in fields {
            answer.insert(*name, value.parse().unwrap());
        }
        let sight = Sight {
            operation: catalogue.by_name(operation),
            from,
            request: &request,
            status: StatusCode::from_u16(status).unwrap(),
            answer: &answer,
        };
        Finding::of(sight, &AllVersions::new(&catalogue))
    }

    pub(in super::super) fn json(date: &str) -> Option<String> {
        Some(format!("application/vnd.atlas.{date}+json"))
    }

    #[test]
    fn days_are_read_as_they_are_written() {
        for text in [
            // Atlas's own, recorded.
            "Thu, 1 Jul 2027 00:00:00 GMT",
            "Thu, 01 Jul 2027 23:59:59 GMT",
            "Thursday, 01-Jul-27 00:00:00 GMT",
            "2027-07-01",
            " 2027-07-01 ",
            "2027-07-01T00:00:00Z",
            "@1814400000",
        ] {
            let found = day(&text.parse().unwrap()).map(|date| date.to_string());
            assert_eq!(found.as_deref(), Some("2027-07-01"), "{text}");
        }
        for text in [
            "",
            "true",
            "@",
            "@-",
            "@99999999999999999999",
            "2027-02-30",
            "soon",
            "\u{e4}",
        ] {
            assert_eq!(day(&text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn what_stays_is_not_found() {
        use VersionFrom::{Client, Default, Path};
        for (operation, asked, from, status) in [
            ("listGroups", json("2023-01-01"), Client, 200),
            ("listGroups", None, Client, 404),
            ("listGroupClusters", json("2024-08-05"), Client, 200),
            ("listGroupClusters", json("2025-03-12"), Default, 500),
            ("listGroupClusters", json("2022-01-01"), Client, 200),
            // The older API knows nothing of versions.
            ("listGroupClusters", json("2023-01-01"), Path, 200),
            ("unknown", json("2023-01-01"), Client, 200),
        ] {
            assert_eq!(
                found(operation, asked.as_deref(), from, status, &[]),
                None,
                "{operation} {asked:?}"
            );
        }
    }

    #[test]
    fn an_end_is_known_by_the_answer_or_by_the_catalogue() {
        use VersionFrom::{Client, Path};
        let recorded = [
            ("deprecation", "Mon, 5 Aug 2024 00:00:00 GMT"),
            ("sunset", "Thu, 1 Jul 2027 00:00:00 GMT"),
        ];
        let old = json("2023-01-01");
        for (operation, accept, from, status, fields, fate, sunset) in [
            (
                "listGroupClusters",
                &old,
                Client,
                200,
                &[][..],
                Fate::Sunset,
                Some("2027-07-01"),
            ),
            (
                "listGroupClusters",
                &old,
                Client,
                503,
                &[],
                Fate::Sunset,
                Some("2027-07-01"),
            ),
            (
                "listGroups",
                &old,
                Client,
                200,
                &recorded,
                Fate::Sunset,
                Some("2027-07-01"),
            ),
            // What Atlas says counts more than what was once known.
            (
                "listGroupClusters",
                &old,
                Client,
                200,
                &[("sunset", "2028-01-01")],
                Fate::Sunset,
                Some("2028-01-01"),
            ),
            (
                "listGroupClusters",
                &old,
                Client,
                200,
                &[("sunset", "soon")],
                Fate::Sunset,
                Some("2027-07-01"),
            ),
            (
                "listGroups",
                &old,
                Client,
                200,
                &[("sunset", "soon")],
                Fate::Sunset,
                None,
            ),
            (
                "listGroups",
                &old,
                Client,
                200,
                &[("deprecation", "true")],
                Fate::Deprecated,
                None,
            ),
            (
                "listGroups",
                &old,
                Path,
                200,
                &[("deprecation", "@1688169599")],
                Fate::Deprecated,
                None,
            ),
            (
                "unknown",
                &None,
                Client,
                200,
                &recorded,
                Fate::Sunset,
                Some("2027-07-01"),
            ),
            ("listGroups", &old, Client, 410, &[], Fate::Gone, None),
            ("listGroups", &None, Client, 406, &[], Fate::NotAcceptable, None),
            (
                "listGroups",
                &None,
                Client,
                406,
                &recorded,
                Fate::NotAcceptable,
                Some("2027-07-01"),
            ),
        ] {
            let finding = found(operation, accept.as_deref(), from, status, fields).unwrap();
            let end = finding.sunset.map(|date| date.to_string());
            assert_eq!(
                (finding.fate, end.as_deref()),
                (fate, sunset),
                "{operation} {status} {fields:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(value in "[ -~]{0,40}") {
            let _ = day(&value.parse().unwrap());
        }
    }
}
