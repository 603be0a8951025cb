//! Paths with placeholders, and the values that stand at them in a path.

use std::borrow::Cow;

use super::tree::MOST_SEGMENTS;

/// The values at the placeholders of a path, in their order.
pub(super) type Values<'p> = [&'p str; MOST_SEGMENTS];

/// The ending of a placeholder's segment, `:verb` or none; `None`: it is a literal.
fn ending(part: &str) -> Option<&str> {
    part.strip_prefix('{')?.split_once('}').map(|(_, ending)| ending)
}

/// What stands in `path` at the placeholders of `template`, which it is.
pub(super) fn values<'p>(template: &str, path: &'p str) -> Values<'p> {
    let mut values = [""; MOST_SEGMENTS];
    let parts = template.split('/').zip(path.split('/'));
    let found = parts.filter_map(|(part, segment)| {
        let value = segment.len().saturating_sub(ending(part)?.len());
        Some(segment.get(..value).unwrap_or(segment))
    });
    for (place, value) in values.iter_mut().zip(found) {
        *place = value;
    }
    values
}

/// The segments of a template with these values. All paths of an operation have the same placeholders in the same order, which
/// the tests see to.
pub(super) fn filled<'p>(template: &'static str, values: Values<'p>) -> impl Iterator<Item = Cow<'p, str>> {
    let mut values = values.into_iter();
    template.split('/').skip(1).map(move |part| match ending(part) {
        None => Cow::Borrowed(part),
        Some("") => Cow::Borrowed(values.next().unwrap_or_default()),
        Some(ending) => Cow::Owned(format!("{}{ending}", values.next().unwrap_or_default())),
    })
}
