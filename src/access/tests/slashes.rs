//! `%2F`: two readings of a path.

use super::*;
use crate::guard::SlashReading;

const ENTRY: &str = "groups/5a0a1e7e0f2912c554080adc/accessList/10.1.0.0%2F16";

#[test]
fn a_reading_that_is_no_operation_is_passed_over() {
    let caller = Caller::new(&["allow operations=getGroupAccessListEntry,deleteGroupAccessListEntry"]);
    assert_eq!(caller.says("GET", ENTRY), "allow 1");
    assert_eq!(caller.says("DELETE", &ENTRY.replace("%2F", "%2f")), "allow 1");
    let decision = caller.decide("GET", &format!("/api/atlas/v2/{ENTRY}"));
    assert_eq!(decision.operation, caller.catalogue.by_name("getGroupAccessListEntry"));
    assert_eq!(decision.reading, Some(SlashReading::Part));
    // The other way round: `clusters%2Fc` is no name of anything.
    let separated = Caller::new(&["allow operations=getGroupCluster"]);
    assert_eq!(separated.says("GET", "groups/1/clusters%2Fc"), "allow 1");
    let method = Method::GET;
    let reading = Reading::of(&separated.catalogue, &method, "/api/atlas/v2/groups/1/clusters%2Fc");
    assert_eq!(reading.operation(), None);
}

#[test]
fn every_reading_that_is_an_operation_must_be_allowed() {
    let path = "groups/5a0a1e7e0f2912c554080adc/accessList/10.1.0.0%2Fstatus";
    let inside = "operations=getGroupAccessListEntry";
    let separated = "operations=getGroupAccessListStatus";
    let both = "operations=getGroupAccessListEntry,getGroupAccessListStatus";
    for (rules, expected) in [
        (vec![format!("allow {both}")], "allow 1"),
        (vec![format!("allow {inside}")], "unmatched"),
        (vec![format!("allow {separated}")], "unmatched"),
        (vec![format!("allow {inside}"), format!("deny {separated}")], "deny 2"),
        (
            vec![format!("warn {separated}"), format!("allow {inside}")],
            "allow 2, warn 1",
        ),
    ] {
        let lines: Vec<&str> = rules.iter().map(String::as_str).collect();
        assert_eq!(Caller::new(&lines).says("GET", path), expected, "{rules:?}");
    }
    let only_inside = Caller::new(&[&format!("allow {inside}")]);
    let told = only_inside.decide("GET", &format!("/api/atlas/v2/{path}"));
    let told = told.told(&only_inside.catalogue).to_string();
    assert_eq!(
        told,
        "with `%2F` as a separator: no rule allows getGroupAccessListStatus"
    );
}

#[test]
fn projects_are_judged_by_reading() {
    let caller = Caller::new(&["allow methods=GET projects=5a0a1e7e0f2912c554080adc"]);
    assert_eq!(caller.says("GET", ENTRY), "allow 1");
    assert_eq!(
        caller.says("GET", "groups%2F5a0a1e7e0f2912c554080adc%2Fclusters"),
        "allow 1"
    );
    assert_eq!(
        caller.says("GET", "groups%2F5a0a1e7e0f2912c554080aaa%2Fclusters"),
        "unmatched"
    );
    // Inside: the project's id has a slash, and it is none of the rule's.
    assert_eq!(
        caller.says("GET", "groups/5a0a1e7e0f2912c554080adc%2Fclusters"),
        "unmatched"
    );
}

#[test]
fn path_rules_see_every_reading() {
    let user = "groups/1/databaseUsers/admin/a%2Fb";
    let allow = "allow operations=getGroupDatabaseUser";
    for (rules, expected) in [
        (vec![allow], "allow 1"),
        (
            vec![allow, "deny path=/api/atlas/v2/groups/*/databaseUsers/admin/A/**"],
            "deny 2",
        ),
        (
            vec!["deny path=/api/atlas/v2/groups/*/databaseUsers/admin/a/b", allow],
            "deny 1",
        ),
        (
            vec![
                "deny methods=POST path=/api/atlas/v2/groups/*/databaseUsers/admin/a/b",
                allow,
            ],
            "allow 2",
        ),
        // A path that lets in one reading says nothing of the other.
        (vec!["allow path=/api/atlas/v2/groups/*/databaseUsers/*/*"], "unmatched"),
        (vec!["warn path=/api/atlas/v2/groups/*/databaseUsers/*/*"], "unmatched"),
        (vec!["allow path=/api/atlas/v2/groups/*/databaseUsers/**"], "allow 1"),
        (
            vec![
                "allow operations=getGroupDatabaseUser path=/api/atlas/v2/groups/*/databaseUsers/*/*",
                "warn methods=GET path=/api/atlas/v2/groups/*/databaseUsers/**",
            ],
            "allow 1, warn 2",
        ),
        // The first one that matches decides of a reading.
        (
            vec![
                "allow path=/api/atlas/v2/groups/*/databaseUsers/**",
                "deny path=/api/atlas/v2/groups/*/databaseUsers/admin/a/b",
            ],
            "allow 1",
        ),
    ] {
        assert_eq!(Caller::new(&rules).says("GET", user), expected, "{rules:?}");
    }
}

#[test]
fn a_disguise_is_seen_in_every_reading() {
    let caller = Caller::new(&["allow operations=getGroupDatabaseUser,listGroupDatabaseUsers"]);
    // A slash at the end means nothing, in either reading.
    assert_eq!(caller.says("GET", "groups/1/databaseUsers/admin/a%2F"), "allow 1");
    let status = "groups/1/accessList/10.1.0.0%2FSTATUS";
    let entries = Caller::new(&["allow operations=getGroupAccessListEntry"]);
    assert_eq!(entries.says("GET", status), "disguised getGroupAccessListStatus");
}

#[test]
fn outside_the_catalogue_both_readings_must_be_allowed() {
    let one = "allow operations=unknown methods=GET path=/api/other/*/x";
    let two = "allow operations=unknown methods=GET path=/api/other/a/b/x";
    assert_eq!(Caller::new(&[one]).says("GET", "/api/other/a%2Fb/x"), "unmatched");
    assert_eq!(Caller::new(&[two]).says("GET", "/api/other/a%2Fb/x"), "unmatched");
    assert_eq!(Caller::new(&[one, two]).says("GET", "/api/other/a%2Fb/x"), "allow 1");
    // Two readings that are none of the catalogue's, below its path.
    let new = "allow operations=unknown methods=GET path=/api/atlas/v2/new/*";
    assert_eq!(Caller::new(&[new]).says("GET", "new/a%2Fb"), "unmatched");
    // Nothing is passed over where the beginning is not written as it is.
    let caller = Caller::new(&["allow operations=getGroup"]);
    assert_eq!(caller.says("GET", "/api%2Fatlas/v2/groups/1"), "unmatched");
}

#[test]
fn an_unclear_reading_is_denied() {
    let caller = Caller::new(&["allow methods=GET", "allow operations=unknown methods=GET path=/**"]);
    for path in [
        "groups/a%2F..%2Fb",
        "groups/a%2F%2Fb",
        "groups/%2Fa",
        "groups/a%2F;x",
        "groups/a%252Fb",
    ] {
        assert!(caller.says("GET", path).starts_with("unclear"), "{path}");
    }
}
