//! Which version of an operation a request gets: the one that its `Accept` names, or the newest before it.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::catalogue::{Media, Operation, Version};
use crate::emulator::respond::{self, Answer};

/// What `Accept` names.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'h> {
    /// No version of Atlas's API.
    Any,
    /// `application/vnd.atlas.VERSION+MEDIA`
    Version(&'h str, Media),
    /// Something that can be no version.
    Senseless(&'h str),
}

fn asked(headers: &HeaderMap) -> Asked<'_> {
    let mut accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let Some(named) = accepted.find_map(|range| range.trim().strip_prefix("application/vnd.atlas.")) else {
        return Asked::Any;
    };
    let named = named.split(';').next().unwrap_or_default().trim();
    let (version, media) = named.split_once('+').unwrap_or((named, "json"));
    let media = match media {
        "json" => Media::Json,
        "gzip" => Media::Gzip,
        "csv" => Media::Csv,
        _ => return Asked::Senseless(version),
    };
    let date = version.len() == 10 && version.parse::<jiff::civil::Date>().is_ok();
    if date || version == "preview" {
        Asked::Version(version, media)
    } else {
        Asked::Senseless(version)
    }
}

/// The version that a request gets. `strict`: one that names none is refused, as Atlas does; else it gets the newest. `today`
/// decides what is gone.
pub(super) fn chosen<'o>(
    operation: &'o Operation,
    headers: &HeaderMap,
    strict: bool,
    today: &str,
) -> Result<&'o Version, Answer> {
    let of_media = |media| operation.versions.iter().filter(move |version| version.media == media);
    let newest = |versions: &mut dyn Iterator<Item = &'o Version>| versions.max_by_key(stable);
    let found = match asked(headers) {
        Asked::Senseless(version) => return Err(invalid(&[version])),
        Asked::Any if strict => return Err(invalid(&[])),
        Asked::Any => newest(&mut operation.versions.iter()),
        Asked::Version("preview", media) => of_media(media).find(|version| version.date == "preview"),
        Asked::Version(date, media) => {
            newest(&mut of_media(media).filter(|version| version.date != "preview" && version.date <= date))
        }
    };
    let Some(version) = found else {
        return Err(invalid(&[]));
    };
    match version.sunset {
        Some(sunset) if sunset <= today => {
            let detail = format!("Version {} of this resource is no longer supported.", version.date);
            let code = "VERSION_GONE";
            let mut answer = respond::error(StatusCode::GONE, code, &detail, &[version.date]);
            announce(operation, version, answer.headers_mut());
            Err(answer)
        }
        _ => Ok(version),
    }
}

/// Previews come last.
fn stable<'v>(version: &&'v Version) -> (bool, &'v str) {
    (version.date != "preview", version.date)
}

/// Says that a version will end, and since when another one takes its place.
pub(super) fn announce(operation: &Operation, version: &Version, headers: &mut HeaderMap) {
    let Some(sunset) = version.sunset else { return };
    let newer = operation
        .versions
        .iter()
        .map(|other| other.date)
        .filter(|date| *date > version.date && *date != "preview")
        .min();
    for (name, date) in [("deprecation", newer.unwrap_or(version.date)), ("sunset", sunset)] {
        if let Some(Ok(value)) = http_date(date).map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
}

/// Midnight of a day, as Atlas writes it: `Thu, 1 Jul 2027 00:00:00 GMT`.
fn http_date(date: &str) -> Option<String> {
    let date: jiff::civil::Date = date.parse().ok()?;
    Some(date.strftime("%a, %-d %b %Y 00:00:00 GMT").to_string())
}

fn invalid(parameters: &[&str]) -> Answer {
    let detail = "Invalid accept header or version date.";
    respond::error(StatusCode::NOT_ACCEPTABLE, "INVALID_VERSION_DATE", detail, parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn version(operation: &str, accept: &str, today: &str) -> Result<(&'static str, HeaderMap), StatusCode> {
        let catalogue = Catalogue::new();
        let operation = catalogue.get(catalogue.by_name(operation).unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        let chosen = chosen(operation, &headers, true, today).map_err(|refused| refused.status())?;
        let mut announced = HeaderMap::new();
        announce(operation, chosen, &mut announced);
        Ok((chosen.date, announced))
    }

    #[test]
    fn a_date_gets_the_newest_version_before_it() {
        let (date, announced) =
            version("getGroupCluster", "application/vnd.atlas.2024-10-23+json", "2026-08-21").unwrap();
        assert_eq!(date, "2024-08-05");
        assert!(announced.is_empty(), "{announced:?}");
        let (date, announced) =
            version("getGroupCluster", "application/vnd.atlas.2023-01-01+json", "2026-08-21").unwrap();
        assert_eq!(date, "2023-01-01");
        assert_eq!(announced["sunset"], "Thu, 1 Jul 2027 00:00:00 GMT");
        assert_eq!(announced["deprecation"], "Wed, 1 Feb 2023 00:00:00 GMT");
    }

    #[test]
    fn what_no_version_is_for_is_refused() {
        for accept in [
            "*/*",
            "application/json",
            "application/vnd.atlas.2020-01-01+json",
            "application/vnd.atlas.2023-13-01+json",
            "application/vnd.atlas.2024-08-05+csv",
            "application/vnd.atlas.latest+json",
        ] {
            assert_eq!(
                version("getGroupCluster", accept, "2026-08-21").unwrap_err(),
                406,
                "{accept}"
            );
        }
        let gzip = version(
            "downloadGroupClusterLog",
            "application/vnd.atlas.2023-02-01+gzip",
            "2026-08-21",
        );
        assert_eq!(gzip.unwrap().0, "2023-02-01");
    }

    #[test]
    fn a_version_is_gone_from_its_sunset_on() {
        let accept = "application/vnd.atlas.2023-01-01+json";
        assert!(version("getGroupCluster", accept, "2027-06-30").is_ok());
        assert_eq!(version("getGroupCluster", accept, "2027-07-01").unwrap_err(), 410);
    }
}
