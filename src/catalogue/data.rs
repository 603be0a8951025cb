//! The data in the binary: lines of fields between tabs, `#` before what is no line. They are ours, so that a line that
//! does not read is a fault of the build, which the tests find.

use http::Method;

use super::{Content, Media, Operation, TagId, Version};

const OPERATIONS: &str = include_str!("operations.tsv");
const TWINS: &str = include_str!("twins.tsv");

/// A path of an older version of the API that leads to an operation.
pub(super) struct Twin {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) operation: &'static str,
}

fn lines<const N: usize>(text: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        fields.try_into().expect("a line has all of its fields")
    })
}

fn method(text: &str) -> Method {
    text.parse().expect("a method")
}

/// `-`: none.
fn list(text: &'static str, between: &'static str) -> impl Iterator<Item = &'static str> {
    text.split(between).filter(|item| *item != "-")
}

/// The operations; their tags join `tags`.
pub(super) fn operations(tags: &mut Vec<&'static str>) -> Vec<Operation> {
    let of = |[
        name_of_method,
        path,
        name,
        tag,
        body,
        versions,
        roles,
        deprecated,
        marks,
    ]: [&'static str; 9]| {
        let known = tags.iter().position(|known| *known == tag);
        let tag_at = known.unwrap_or_else(|| {
            tags.push(tag);
            tags.len() - 1
        });
        Operation {
            name,
            method: method(name_of_method),
            path,
            tag: TagId(u16::try_from(tag_at).expect("few tags")),
            body: match body {
                "-" => Content::None,
                "body" => Content::Required,
                "body?" => Content::Optional,
                _ => unreachable!("no other mark of a body"),
            },
            versions: list(versions, ",").map(version).collect(),
            roles: list(roles, "; ").collect(),
            deprecated: deprecated == "deprecated",
            grants: list(marks, ",").any(|mark| mark == "grants"),
            crosses: list(marks, ",").any(|mark| mark == "crosses"),
        }
    };
    lines(OPERATIONS).map(of).collect()
}

/// `2023-01-01+gzip!2027-07-01`: the date, the media type where it is not JSON, the sunset.
fn version(text: &'static str) -> Version {
    let (version, sunset) = match text.split_once('!') {
        Some((version, sunset)) => (version, Some(sunset)),
        None => (text, None),
    };
    let (date, media) = match version.split_once('+') {
        Some((date, "gzip")) => (date, Media::Gzip),
        Some((date, "csv")) => (date, Media::Csv),
        Some(_) => unreachable!("no other media type"),
        None => (version, Media::Json),
    };
    Version { date, sunset, media }
}

pub(super) fn twins() -> impl Iterator<Item = Twin> {
    lines(TWINS).map(|[name_of_method, path, operation, _source]: [&'static str; 4]| Twin {
        method: method(name_of_method),
        path,
        operation,
    })
}
