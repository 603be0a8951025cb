//! The resources of the API: which there are, is one table; how they are read and written, is the same for all.

mod clusters;
mod documents;
mod generic;
mod paging;
mod rules;
mod seeds;
mod service_accounts;
mod store;
mod table;
mod views;

use http::StatusCode;
use serde_json::Value;

use super::api::Call;
use super::respond::Answer;
use super::server::Shared;
use super::settings::{EmulatorSettings, Realm};

pub(super) use generic::answer;
pub(super) use paging::number;
pub(super) use seeds::{API_KEY_ID, SAMPLE};
pub(super) use store::Store;

use store::Segments;

/// One resource.
struct Resource {
    /// Its path below `/api/atlas/v2/`, as the API's description writes it.
    path: &'static str,
    kind: Kind,
}

/// What stands at a path.
enum Kind {
    /// Documents that clients make, change and remove.
    Collection(Collection),
    /// A document that always exists: what it is as long as nobody changed it.
    Document(fn(&Place<'_>) -> Value),
    /// What follows from other resources.
    View(fn(&Call, &Place<'_>, &Shared) -> Answer),
}

/// How the members of a collection are listed, made, known and removed.
struct Collection {
    /// The paths of one member, after the collection's own.
    member: &'static [&'static str],
    /// Whether a member is the one that these segments name, in the order of the path.
    is: fn(&Value, &[String]) -> bool,
    list: Listing,
    /// What a POST adds, and what it answers.
    adds: Adds,
    /// Attributes that a new member must come with.
    needs: &'static [&'static str],
    /// A new member of an id, from what the client gave.
    make: fn(&Place<'_>, &str, &Value) -> Value,
    /// What else a new member or a change brings about, from what the client gave.
    settle: fn(&mut Store, &Place<'_>, &Value, &mut Value),
    /// Why a new member or a change can't be.
    refuse: fn(&Place<'_>, &Value) -> Option<Answer>,
    /// Why a member can't be removed.
    holds: fn(&mut Store, &Place<'_>, &Value) -> Option<Answer>,
    /// A member as a version of the API shows it; `None`: one of the API before versions.
    shown: fn(Value, Option<&str>) -> Value,
    /// There is no such member.
    unknown: fn(&mut Store, &Place<'_>, &[String]) -> Answer,
    /// There is such a member already; `None`: there may be several.
    taken: Option<fn(&Place<'_>, &Value) -> Answer>,
    /// Of a DELETE.
    removed: StatusCode,
    /// Members take their time to be made and removed, and say so in `stateName`.
    slow: bool,
}

/// How a collection is listed.
enum Listing {
    /// `{links, results, totalCount}`
    Page,
    /// `[…]`
    Array,
    /// An object of the collection's own.
    Object(fn(Vec<Value>) -> Value),
}

/// What a POST adds to a collection.
enum Adds {
    /// One member, which is answered with this status.
    One(StatusCode),
    /// Those of an array; answered with the first page of all, and this status.
    Several(StatusCode),
}

/// What a request is about, for whoever makes or reads a document.
struct Place<'c> {
    base: &'c str,
    realm: Realm,
    /// Of the collection or the document.
    at: &'c [String],
    /// The path that was asked for.
    path: &'c str,
    /// Whether a DELETE asks.
    deletes: bool,
}

impl Place<'_> {
    /// The project or organization that it is in.
    fn owner(&self) -> &str {
        self.at.get(1).map_or("", String::as_str)
    }
}

impl Store {
    /// What exists from the start.
    pub(super) fn seeded(settings: &EmulatorSettings, base: String) -> Self {
        seeds::seeded(settings, base)
    }
}

/// The segments of a place.
fn segments<const N: usize>(parts: [&str; N]) -> Segments {
    parts.map(str::to_owned).to_vec()
}
