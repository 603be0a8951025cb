//! Rules that are wrong, or can match nothing.

use super::*;

fn error(line: &str) -> RuleError {
    match Rule::new(parts(line), &Catalogue::new()) {
        Ok(_) => panic!("{line} is taken"),
        Err(error) => error,
    }
}

#[test]
fn an_unknown_name_is_an_error_with_the_nearest() {
    let wrong = error("allow operations=getGroupCluser");
    assert_eq!(wrong.key, Some("operations"));
    assert!(
        wrong.to_string().contains("the nearest is `getGroupCluster`"),
        "{wrong}"
    );
    let wrong = error("allow tags=Cluster");
    assert_eq!(wrong.key, Some("tags"));
    assert!(wrong.to_string().contains("the nearest is `Clusters`"), "{wrong}");
    for line in [
        "allow operations=getgroupcluster",
        "allow operations=get*Cluser",
        "allow operations=Unknown",
        "deny operations=getGroupCluser",
        "allow operations=getGroupCluster,nothing",
    ] {
        assert_eq!(error(line).key, Some("operations"), "{line}");
    }
}

#[test]
fn a_rule_that_can_match_nothing_is_an_error_that_says_why() {
    for (line, key, why) in [
        (
            "allow operations=getGroupCluster tags=Projects",
            Some("operations"),
            "has one of the `tags`",
        ),
        (
            "allow operations=get*Cluster methods=DELETE",
            Some("operations"),
            "has one of the `methods`",
        ),
        (
            "allow operations=getGroupCluster methods=GET,DELETE",
            Some("methods"),
            "`DELETE`",
        ),
        ("allow tags=Clusters methods=GET,OPTIONS", Some("methods"), "`OPTIONS`"),
        (
            "allow operations=getGroupCluster path=/api/atlas/v2/groups/*",
            Some("operations"),
            "`path`",
        ),
        ("allow path=/api/atlas/v2/grops/**", None, "`path`"),
        (
            "allow projects=5a0a1e7e0f2912c554080adc path=/api/atlas/v2/groups/5a0a1e7e0f2912c554080aaa/**",
            None,
            "names another id",
        ),
        (
            "allow operations=unknown methods=GET,POST path=/api/atlas/v2/groups",
            Some("operations"),
            "that of `listGroups`",
        ),
        (
            "allow operations=unknown methods=GET path=/api/atlas/v2/Groups/",
            Some("operations"),
            "that of `listGroups`",
        ),
        ("warn path=/api/private/**", None, "operations = [\"unknown\"]"),
        ("allow path=/api/atlas/v2/groups/", None, "`path`"),
        ("allow path=/api/atlas/v2/Groups", None, "`path`"),
        ("allow methods=OPTIONS", None, "`methods`"),
        (
            "allow operations=createOrgApi*",
            Some("operations"),
            "`createOrgApiKey` makes or changes credentials",
        ),
        (
            "allow methods=PUT tags=Teams,Projects",
            Some("tags"),
            "has one of the `methods`",
        ),
        (
            "warn operations=createGroupApiKey*",
            Some("operations"),
            "by its full name",
        ),
        (
            "allow operations=listOrgs projects=5a0a1e7e0f2912c554080adc",
            Some("operations"),
            "`listOrgs` names no project",
        ),
        (
            "deny operations=getGroupCluster organizations=5a0a1e7e0f2912c554080adc",
            Some("operations"),
            "names no organization",
        ),
        (
            "allow operations=createGroupLiveMig* projects=5a0a1e7e0f2912c554080adc",
            Some("operations"),
            "the body of `createGroupLiveMigration`",
        ),
        (
            "allow projects=5a0a1e7e0f2912c554080adc organizations=5a0a1e7e0f2912c554080adc",
            Some("organizations"),
            "not both",
        ),
    ] {
        let wrong = error(line);
        assert_eq!(wrong.key, key, "{line}: {wrong}");
        assert!(wrong.to_string().contains(why), "{line}: {wrong}");
    }
}

#[test]
fn each_name_must_be_able_to_match() {
    let line = "allow operations=getGroupCluster,createOrgApiKey*";
    assert!(
        error(line).to_string().contains("`createOrgApiKey*` can match nothing"),
        "{}",
        error(line)
    );
    let line = "allow tags=Clusters,Projects operations=getGroupCluster";
    assert!(
        error(line).to_string().contains("`Projects` can match nothing"),
        "{}",
        error(line)
    );
    // A denying rule sees what is marked, however it is named.
    assert!(Rule::new(parts("deny operations=createOrgApi*"), &Catalogue::new()).is_ok());
}

#[test]
fn lists_ids_and_methods_are_looked_at() {
    let empty = |change: fn(&mut RuleParts)| {
        let mut given = parts("allow methods=GET");
        change(&mut given);
        Rule::new(given, &Catalogue::new()).unwrap_err()
    };
    assert_eq!(
        empty(|parts| parts.operations = Some(Vec::new())).key,
        Some("operations")
    );
    assert_eq!(empty(|parts| parts.tags = Some(Vec::new())).key, Some("tags"));
    assert_eq!(empty(|parts| parts.methods = Some(Vec::new())).key, Some("methods"));
    assert_eq!(empty(|parts| parts.projects = Some(Vec::new())).key, Some("projects"));
    assert_eq!(
        empty(|parts| parts.organizations = Some(Vec::new())).key,
        Some("organizations")
    );
    for id in ["5a0a", "5a0a1e7e0f2912c554080adg", "*", "5a0a1e7e0f2912c554080adc0"] {
        assert_eq!(error(&format!("allow projects={id}")).key, Some("projects"), "{id}");
        assert_eq!(
            error(&format!("deny organizations={id}")).key,
            Some("organizations"),
            "{id}"
        );
    }
    for method in ["get", "Delete", "x"] {
        let wrong = error(&format!(
            "allow operations=unknown methods={method} path=/api/private/**"
        ));
        assert_eq!(wrong.key, Some("methods"), "{method}");
        assert!(
            wrong.to_string().contains(&format!("`{}`", method.to_uppercase())),
            "{wrong}"
        );
    }
}

#[test]
fn a_rule_for_unknown_needs_methods_and_a_path() {
    for line in [
        "allow operations=unknown",
        "allow operations=unknown methods=GET",
        "allow operations=unknown path=/api/private/**",
        "warn operations=unknown,getGroupCluster",
        "deny operations=unknown methods=GET",
    ] {
        let wrong = error(line);
        assert_eq!(wrong.key, Some("operations"), "{line}: {wrong}");
        assert!(wrong.to_string().contains("the rule needs"), "{line}: {wrong}");
    }
    for more in [
        "tags=Clusters",
        "projects=5a0a1e7e0f2912c554080adc",
        "organizations=5a0a1e7e0f2912c554080adc",
    ] {
        let wrong = error(&format!(
            "allow operations=unknown methods=GET path=/api/private/** {more}"
        ));
        assert_eq!(wrong.key, more.split('=').next(), "{wrong}");
    }
}
