//! One reading of a path.

use super::*;

#[test]
fn without_rules_nothing_passes() {
    let caller = Caller::new(&[]);
    assert_eq!(caller.says("GET", "groups"), "unmatched");
    assert_eq!(caller.says("GET", "/api/private/ipinfo"), "unmatched");
}

#[test]
fn all_keys_must_match_and_values_are_alternatives() {
    let caller = Caller::new(&[
        "allow operations=listGroupClusters,getGroupCluster,getGroupSettings tags=Clusters,Projects methods=GET \
         projects=5a0a1e7e0f2912c554080adc,5a0a1e7e0f2912c554080aaa path=/api/atlas/v2/groups/{project}/**",
    ]);
    for project in [PROJECT, OTHER] {
        assert_eq!(caller.says("GET", &format!("groups/{project}/clusters")), "allow 1");
        assert_eq!(caller.says("GET", &format!("groups/{project}/clusters/c")), "allow 1");
        // Another tag, another operation, another method.
        assert_eq!(
            caller.says("GET", &format!("groups/{project}/databaseUsers")),
            "unmatched"
        );
        assert_eq!(caller.says("GET", &format!("groups/{project}/settings")), "allow 1");
        assert_eq!(caller.says("GET", &format!("groups/{project}/limits")), "unmatched");
        assert_eq!(
            caller.says("DELETE", &format!("groups/{project}/clusters/c")),
            "unmatched"
        );
    }
    assert_eq!(
        caller.says("GET", "groups/5a0a1e7e0f2912c554080abb/clusters"),
        "unmatched"
    );
}

#[test]
fn the_first_rule_that_matches_decides() {
    let caller = Caller::new(&[
        "allow operations=getGroupCluster",
        "deny tags=Clusters",
        "allow methods=GET,DELETE",
    ]);
    assert_eq!(caller.says("GET", "groups/1/clusters/c"), "allow 1");
    assert_eq!(caller.says("GET", "groups/1/clusters"), "deny 2");
    assert_eq!(caller.says("DELETE", "groups/1/clusters/c"), "deny 2");
    assert_eq!(caller.says("GET", "groups/1"), "allow 3");
    assert_eq!(caller.says("DELETE", "groups/1"), "allow 3");
    assert_eq!(caller.says("PATCH", "groups/1"), "unmatched");
}

#[test]
fn ids_are_compared_without_case() {
    let caller = Caller::new(&[
        "allow methods=GET projects=5A0a1e7e0f2912c554080adc",
        "allow methods=GET organizations=5a0a1e7e0f2912c554080AAA",
    ]);
    assert_eq!(
        caller.says("GET", &format!("groups/{}/clusters", PROJECT.to_uppercase())),
        "allow 1"
    );
    assert_eq!(caller.says("GET", &format!("orgs/{OTHER}/users")), "allow 2");
    assert_eq!(caller.says("GET", &format!("orgs/{PROJECT}/users")), "unmatched");
    assert_eq!(caller.says("GET", &format!("groups/{OTHER}/clusters")), "unmatched");
    assert_eq!(caller.says("GET", "groups"), "unmatched");
    assert_eq!(
        caller.says(
            "GET",
            &format!("federationSettings/{PROJECT}/connectedOrgConfigs/{OTHER}")
        ),
        "allow 2"
    );
    // A blank at the end is another id, unless it is to keep out.
    assert_eq!(
        caller.says("GET", &format!("groups/{PROJECT}%20/clusters")),
        "unmatched"
    );
    let keeping_out = Caller::new(&["deny projects=5a0a1e7e0f2912c554080adc", "allow methods=GET"]);
    assert_eq!(
        keeping_out.says("GET", &format!("groups/{PROJECT}%20/clusters")),
        "deny 1"
    );
    assert_eq!(keeping_out.says("GET", &format!("groups/{OTHER}/clusters")), "allow 2");
}

#[test]
fn a_star_stands_within_a_name() {
    let caller = Caller::new(&["allow operations=list*Cluster*,*GroupCluster,get*Search*ment"]);
    for (method, path, expected) in [
        ("GET", "groups/1/clusters", "allow 1"),
        ("GET", "groups/1/clusters/c", "allow 1"),
        ("DELETE", "groups/1/clusters/c", "allow 1"),
        ("GET", "groups/1/clusters/c/search/deployment", "allow 1"),
        ("DELETE", "groups/1/clusters/c/search/deployment", "unmatched"),
        ("GET", "groups", "unmatched"),
    ] {
        assert_eq!(caller.says(method, path), expected, "{method} {path}");
    }
}

#[test]
fn head_follows_get_and_odd_methods_never_pass() {
    let caller = Caller::new(&[
        "allow methods=GET,DELETE",
        "allow operations=unknown methods=GET path=/**",
    ]);
    assert_eq!(caller.says("HEAD", "groups/1"), "allow 1");
    assert_eq!(caller.says("HEAD", "/api/other"), "allow 2");
    for method in ["get", "Head", "delete", "dELETE"] {
        assert_eq!(
            caller.says(method, "groups/1").split(' ').next(),
            Some("disguised"),
            "{method}"
        );
    }
    assert_eq!(caller.says("get", "/api/other"), "unmatched");
    assert_eq!(caller.says("head", "/api/other"), "unmatched");
    let heads = Caller::new(&[
        "allow methods=HEAD tags=Projects",
        "deny methods=GET",
        "allow tags=Projects methods=DELETE",
    ]);
    assert_eq!(heads.says("HEAD", "groups/1"), "allow 1");
    assert_eq!(heads.says("GET", "groups/1"), "deny 2");
    let denied = Caller::new(&["deny methods=GET", "allow tags=Projects methods=HEAD"]);
    assert_eq!(denied.says("HEAD", "groups/1"), "deny 1");
}

#[test]
fn what_grants_needs_its_full_name() {
    let grants = ("POST", "orgs/1/apiKeys");
    for rule in [
        "allow operations=create*",
        "allow operations=createOrgApiKe*,getGroupCluster,create*",
        "allow tags=Programmatic_API_Keys",
        "allow methods=POST",
        "allow path=/api/atlas/v2/orgs/**",
        "warn operations=create*",
        "warn methods=POST",
    ] {
        let rule = rule.replace("createOrgApiKe*,", "");
        assert_eq!(Caller::new(&[&rule]).says(grants.0, grants.1), "unmatched", "{rule}");
    }
    for (rule, expected) in [
        ("allow operations=createOrgApiKey", "allow 1"),
        ("allow operations=create*,createOrgApiKey methods=POST", "allow 1"),
        ("warn operations=createOrgApiKey", "warn 1"),
        ("deny operations=create*", "deny 1"),
        ("deny tags=Programmatic_API_Keys", "deny 1"),
        ("deny methods=POST", "deny 1"),
        ("deny path=/api/atlas/v2/orgs/**", "deny 1"),
    ] {
        let caller = Caller::new(&[rule, "allow operations=createOrgApiKey"]);
        assert_eq!(
            caller.says(grants.0, grants.1),
            expected.replace("warn 1", "allow 2, warn 1"),
            "{rule}"
        );
    }
    let said = Caller::new(&["allow methods=POST"]);
    let told = said
        .decide("POST", "/api/atlas/v2/orgs/1/apiKeys")
        .told(&said.catalogue)
        .to_string();
    assert!(
        told.contains("createOrgApiKey") && told.contains("by its full name"),
        "{told}"
    );
}

#[test]
fn what_crosses_needs_its_full_name_where_ids_are_named() {
    let path = format!("groups/{PROJECT}/liveMigrations");
    let ids = format!("projects={PROJECT}");
    for (rule, expected) in [
        ("allow methods=POST".to_owned(), "allow 1"),
        ("allow operations=create*".to_owned(), "allow 1"),
        (format!("allow methods=POST {ids}"), "unmatched"),
        (format!("allow operations=create* {ids}"), "unmatched"),
        (format!("warn operations=create* {ids}"), "unmatched"),
        (format!("allow operations=createGroupLiveMigration {ids}"), "allow 1"),
        (
            format!("allow operations=create*,createGroupLiveMigration {ids}"),
            "allow 1",
        ),
        (format!("deny operations=create* {ids}"), "deny 1"),
    ] {
        assert_eq!(Caller::new(&[&rule]).says("POST", &path), expected, "{rule}");
    }
}

#[test]
fn warn_lets_through_and_later_denials_hold() {
    let caller = Caller::new(&[
        "warn tags=Clusters",
        "warn operations=deleteGroupCluster",
        "deny operations=updateGroupCluster",
        "allow operations=getGroupCluster",
    ]);
    assert_eq!(caller.says("GET", "groups/1/clusters"), "warn 1");
    assert_eq!(caller.says("DELETE", "groups/1/clusters/c"), "warn 1");
    assert_eq!(caller.says("PATCH", "groups/1/clusters/c"), "deny 3");
    assert_eq!(caller.says("GET", "groups/1/clusters/c"), "allow 4, warn 1");
    assert_eq!(caller.says("GET", "groups/1"), "unmatched");
    let decision = caller.decide("PATCH", "/api/atlas/v2/groups/1/clusters/c");
    assert_eq!(decision.warned, None);
}

#[test]
fn what_is_unknown_needs_a_rule_that_says_so() {
    for rule in [
        "allow methods=GET",
        "allow path=/api/**",
        "allow path=/**",
        "allow operations=*",
        "warn path=/**",
        "allow operations=unknown methods=POST path=/**",
        "allow operations=unknown methods=GET path=/api/more/**",
    ] {
        assert_eq!(Caller::new(&[rule]).says("GET", "/api/other/x"), "unmatched", "{rule}");
    }
    let caller = Caller::new(&["allow operations=unknown,getGroup methods=GET path=/api/**"]);
    assert_eq!(caller.says("GET", "/api/other/x"), "allow 1");
    assert_eq!(caller.says("GET", "groups/1"), "allow 1");
    // What is an operation is not unknown; one whose method the catalogue does not have is.
    assert_eq!(caller.says("GET", "groups/1/clusters"), "unmatched");
    let options = Caller::new(&["allow operations=unknown methods=OPTIONS path=/api/atlas/v2/**"]);
    assert_eq!(options.says("OPTIONS", "groups/1"), "allow 1");
    let warn = Caller::new(&["warn operations=unknown methods=GET path=/api/other/*"]);
    assert_eq!(warn.says("GET", "/api/other/x"), "warn 1");
}

#[test]
fn denials_see_what_is_unknown() {
    let allow = "allow operations=unknown methods=GET,POST path=/api/**";
    for (rule, path) in [
        ("deny path=/api/other/**", "/api/Other/x"),
        ("deny path=/api/other/**", "/api/%20other/x"),
        ("deny methods=GET", "/api/other/x"),
        ("deny operations=unknown methods=GET path=/api/other/x", "/api/other/x/"),
        (
            "deny projects=5a0a1e7e0f2912c554080adc",
            "/api/other/5A0a1e7e0f2912c554080adc",
        ),
        (
            "deny organizations=5a0a1e7e0f2912c554080adc",
            "/api/5a0a1e7e0f2912c554080adc%20/x",
        ),
    ] {
        assert_eq!(Caller::new(&[rule, allow]).says("GET", path), "deny 1", "{rule} {path}");
    }
    for rule in [
        "deny tags=Projects",
        "deny operations=get*",
        "deny methods=POST",
        "deny path=/api/more/**",
        "deny projects=5a0a1e7e0f2912c554080adc",
    ] {
        assert_eq!(
            Caller::new(&[rule, allow]).says("GET", "/api/other/x"),
            "allow 2",
            "{rule}"
        );
    }
}

#[test]
fn private_paths_need_a_pattern_that_begins_so() {
    let wide = Caller::new(&["allow operations=unknown methods=GET path=/**"]);
    let starred = Caller::new(&["allow operations=unknown methods=GET path=/api/*/ipinfo"]);
    let named = Caller::new(&["allow operations=unknown methods=GET path=/api/private/**"]);
    assert_eq!(wide.says("GET", "/api/privatex"), "allow 1");
    assert_eq!(named.says("GET", "/api/private/ipinfo"), "allow 1");
    for path in [
        "/api/private/ipinfo",
        "/api/PRIVATE/ipinfo",
        "/api/private",
        "/api/%20private/ipinfo",
    ] {
        assert_eq!(wide.says("GET", path), "unmatched", "{path}");
        assert_eq!(starred.says("GET", path), "unmatched", "{path}");
    }
    assert_eq!(named.says("GET", "/api/Private/ipinfo"), "unmatched");
}

#[test]
fn what_only_looks_like_no_operation_is_denied() {
    let caller = Caller::new(&[
        "allow operations=unknown methods=GET,DELETE,POST path=/**",
        "allow methods=GET,DELETE,POST",
    ]);
    for (method, path, operation) in [
        ("DELETE", "groups/1/Clusters/c", "deleteGroupCluster"),
        // A verb that the catalogue does not know is no part of an id.
        ("GET", "groups/5a0a1e7e0f2912c554080adc:anything", "getGroup"),
        ("GET", "groups/5a0a1e7e0f2912c554080adc%3Aanything", "getGroup"),
        ("DELETE", "/API/atlas/v2/groups/1/clusters/c", "deleteGroupCluster"),
        ("DELETE", "groups/1/clusters%20/c", "deleteGroupCluster"),
        ("DELETE", "groups/1/clu%E2%80%8Bsters/c", "deleteGroupCluster"),
        ("DELETE", "groups/1/%EF%BD%83lusters/c", "deleteGroupCluster"),
        ("delete", "groups/1/clusters/c", "deleteGroupCluster"),
        (
            "POST",
            "groups/1/clusters/c:GRANTMongoDBEmployeeAccess",
            "grantGroupClusterMongoDbEmployeeAccess",
        ),
        (
            "POST",
            "groups/1/clusters/:grantMongoDBEmployeeAccess",
            "grantGroupClusterMongoDbEmployeeAccess",
        ),
        // It is an operation, too, but a server that knows no case would take it for another one.
        ("GET", "orgs/1/invoices/Pending", "listOrgInvoicePending"),
    ] {
        assert_eq!(
            caller.says(method, path),
            format!("disguised {operation}"),
            "{method} {path}"
        );
    }
    let told = caller.decide("DELETE", "/api/atlas/v2/groups/1/Clusters/c");
    let told = told.told(&caller.catalogue).to_string();
    assert!(told.contains("deleteGroupCluster: send it in its plain form"), "{told}");
}

#[test]
fn a_path_that_servers_read_differently_is_denied() {
    let caller = Caller::new(&["allow operations=unknown methods=GET path=/**", "allow methods=GET"]);
    for path in [
        "/api/atlas/v2/groups/../groups",
        "/api//atlas/v2/groups",
        "/api/atlas/v2/groups;x",
        "/api/atlas/v2/%67roups",
        "/api/atlas/v2/groups/%252e",
        "/api/atlas/v2/groups\\x",
        "/api/atlas/v2/groups/\u{e9}",
        "*",
        "",
    ] {
        assert!(
            caller.says("GET", path).starts_with("unclear") || !path.starts_with('/'),
            "{path}"
        );
        assert!(!caller.decide("GET", path).allowed, "{path}");
    }
}

#[test]
fn wildcards_take_no_verb_where_they_let_in() {
    let verb = ("POST", "groups/1/clusters/c:pinFeatureCompatibilityVersion");
    for (rule, expected) in [
        (
            "allow methods=POST path=/api/atlas/v2/groups/*/clusters/*/*",
            "unmatched",
        ),
        (
            "warn methods=POST path=/api/atlas/v2/groups/*/clusters/*/*",
            "unmatched",
        ),
        ("allow path=/api/atlas/v2/groups/*/clusters/**", "allow 1"),
        (
            "allow path=/api/atlas/v2/groups/*/clusters/c:pinFeatureCompatibilityVersion",
            "allow 1",
        ),
        ("deny path=/api/atlas/v2/groups/*/clusters/*", "deny 1"),
    ] {
        assert_eq!(Caller::new(&[rule]).says(verb.0, verb.1), expected, "{rule}");
    }
    let one = Caller::new(&[
        "allow methods=GET,POST path=/api/atlas/v2/groups/*/clusters/*",
        "allow operations=unknown methods=GET,POST path=/api/atlas/v2/groups/*/clusters/*",
    ]);
    assert_eq!(one.says("GET", "groups/1/clusters/c"), "allow 1");
    assert_eq!(one.says(verb.0, verb.1), "unmatched");
    assert_eq!(one.says("GET", verb.1), "unmatched");
    assert_eq!(one.says("POST", "groups/1/clusters/c:other"), "allow 2");
}

#[test]
fn paths_keep_out_loosely_and_let_in_exactly() {
    let caller = Caller::new(&[
        "deny path=/api/atlas/v2/groups/*/clusters/SECRET/**",
        "allow path=/api/atlas/v2/groups/*/clusters/Open/**",
        "allow operations=listGroupClusters",
    ]);
    for cluster in ["SECRET", "secret", "%20secret", "sec%C2%ADret"] {
        assert_eq!(
            caller.says("GET", &format!("groups/1/clusters/{cluster}")),
            "deny 1",
            "{cluster}"
        );
    }
    assert_eq!(caller.says("GET", "groups/1/clusters/Open"), "allow 2");
    assert_eq!(caller.says("GET", "groups/1/clusters/open"), "unmatched");
    let deep = format!("/api/atlas/v2/groups/1/clusters/secret{}", "/x".repeat(1000));
    assert_eq!(caller.says("GET", &deep), "deny 1");
}

#[test]
fn what_is_denied_by_a_path_is_denied_by_every_path_of_the_operation() {
    let caller = Caller::new(&[
        "deny methods=DELETE path=/api/atlas/v2/groups/*/clusters/prod",
        "deny path=/api/atlas/v1.0/groups/*/databaseUsers/**",
        "allow tags=Clusters,Database_Users",
        "allow path=/api/atlas/v2/groups",
    ]);
    for (method, path, says) in [
        ("DELETE", "/api/atlas/v2/groups/1/clusters/prod", "deny 1"),
        ("DELETE", "/api/atlas/v1.5/groups/1/clusters/prod", "deny 1"),
        ("DELETE", "/api/atlas/v1.0/groups/1/clusters/PROD/", "deny 1"),
        ("DELETE", "/api/atlas/v1.5/groups/1/clusters/test", "allow 3"),
        ("GET", "/api/atlas/v1.5/groups/1/clusters/prod", "allow 3"),
        ("GET", "/api/atlas/v2/groups/1/databaseUsers/admin/u", "deny 2"),
        // What lets in means what it says.
        ("GET", "/api/atlas/v2/groups", "allow 4"),
        ("GET", "/api/atlas/v1.0/groups", "unmatched"),
    ] {
        assert_eq!(caller.says(method, path), says, "{method} {path}");
    }
}

#[test]
fn the_root_is_a_path_like_others() {
    let caller = Caller::new(&["allow operations=unknown methods=GET path=/"]);
    assert_eq!(caller.says("GET", "/"), "allow 1");
    assert_eq!(caller.says("GET", "/x"), "unmatched");
    let caller = Caller::new(&[
        "deny operations=unknown path=/ methods=GET",
        "allow operations=unknown methods=GET path=/**",
    ]);
    assert_eq!(caller.says("GET", "/"), "deny 1");
    assert_eq!(caller.says("GET", "/x"), "allow 2");
    assert_eq!(caller.says("GET", "/x/"), "allow 2");
}

#[test]
fn a_path_of_many_segments_costs_no_more_than_a_look_at_each() {
    let ids: Vec<String> = (0..1000).map(|n| format!("5a0a1e7e0f2912c5{n:08x}")).collect();
    let caller = Caller::new(&[
        &format!("deny projects={}", ids.join(",")),
        "allow operations=unknown methods=GET path=/**",
    ]);
    let path = |last: &str| format!("/x/{}{last}", "%C3%A9/".repeat(9000));
    assert_eq!(caller.says("GET", &path("y")), "allow 2");
    assert_eq!(caller.says("GET", &path(&ids[7])), "deny 1");
    assert_eq!(
        caller.says("GET", &path(&format!("%E2%80%8B{}%20", ids[999].to_uppercase()))),
        "deny 1"
    );
}

#[test]
fn the_accounts_own_credential_is_out_of_reach() {
    let rules = &[
        "allow operations=createOrgServiceAccountSecret,deleteOrgServiceAccount,inviteGroupServiceAccount",
        "allow methods=GET",
        "warn operations=unknown methods=GET path=/**",
    ];
    let (caller, owner) = (Caller::new(rules), Caller::with(rules, true));
    for (method, path) in [
        ("GET", "orgs/1/serviceAccounts/mdb_sa_id_0123456789AbCdEf"),
        ("GET", "orgs/1/serviceAccounts/MDB_SA_ID_0123456789abcdef"),
        ("DELETE", "orgs/1/serviceAccounts/mdb_sa_id_0123456789AbCdEf"),
        ("POST", "orgs/1/serviceAccounts/mdb_sa_id_0123456789AbCdEf/secrets"),
        ("POST", "groups/1/serviceAccounts/mdb_sa_id_0123456789AbCdEf:invite"),
        ("GET", "orgs/1/serviceAccounts/mdb_sa_id_0123456789AbCdEf%20"),
        ("GET", "orgs/1/serviceAccounts/mdb_sa_id_0123456789AbCdEf%E2%80%8B"),
        ("GET", "/api/new/mdb_sa_id_0123456789AbCdEf%2Fx"),
        ("GET", "/api/new/mdb_sa_id_0123456789AbCdEf"),
        ("GET", "/api/new/mdb_sa_id_0123456789AbCdEf:x"),
    ] {
        assert_eq!(caller.says(method, path), "own credential", "{path}");
        assert!(owner.decide(method, &path_of(path)).allowed, "{path}");
    }
    assert_eq!(
        caller.says("GET", "orgs/1/serviceAccounts/mdb_sa_id_0123456789AbCdEf0"),
        "allow 2"
    );
    let unknown = OwnCredential::new(None);
    let method = Method::GET;
    let reading = Reading::of(&caller.catalogue, &method, "/api/atlas/v2/groups");
    assert!(caller.rules.decide(&reading, &unknown).allowed);
}

#[test]
fn an_api_key_whose_id_is_not_known_keeps_all_of_them_out_of_reach() {
    let rules = &[
        "allow operations=deleteOrgApiKey,updateOrgApiKey,createOrgApiKey,addGroupApiKey,createOrgApiKeyAccessListEntry",
        "allow methods=GET",
        "warn operations=unknown methods=POST,DELETE path=/**",
    ];
    let (mut caller, mut owner) = (Caller::new(rules), Caller::with(rules, true));
    let change = [
        ("DELETE", "orgs/1/apiKeys/5c47503320eef5699e1cce8d"),
        ("PATCH", "orgs/1/apiKeys/5c47503320eef5699e1cce8d"),
        ("PATCH", "orgs/1/apiKeys/5c47503320eef5699e1cce8d/"),
        ("DELETE", "/api/atlas/v1.0/orgs/1/apiKeys/5c47503320eef5699e1cce8d"),
        ("POST", "groups/1/apiKeys/5c47503320eef5699e1cce8d"),
        ("POST", "orgs/1/apiKeys/5c47503320eef5699e1cce8d/accessList"),
        ("POST", "/api/new/APIKeys/5c47503320eef5699e1cce8d"),
    ];
    for (method, path) in change {
        assert!(caller.decide(method, &path_of(path)).allowed, "{path}");
    }
    caller.own = caller.own.with_a_key_without_id();
    owner.own = owner.own.with_a_key_without_id();
    for (method, path) in change.into_iter().chain([
        ("DELETE", "/api/new/apiKeys%2F5c47503320eef5699e1cce8d"),
        ("DELETE", "/api/new/apiKeys%E2%80%8B/5c47503320eef5699e1cce8d"),
    ]) {
        assert_eq!(caller.says(method, path), "own perhapskey", "{method} {path}");
        assert!(owner.decide(method, &path_of(path)).allowed, "{path}");
    }
    assert_eq!(caller.says("GET", "orgs/1/apiKeys/5c47503320eef5699e1cce8d"), "allow 2");
    assert_eq!(caller.says("POST", "orgs/1/apiKeys"), "allow 1");
    let other = OwnCredential::new(["abcdefgh", "5C47503320EEF5699E1CCE8D"]);
    caller.own = other;
    for (method, path) in change {
        assert_eq!(caller.says(method, path), "own credential", "{method} {path}");
    }
    assert_eq!(
        caller.says("DELETE", "orgs/1/apiKeys/5c47503320eef5699e1cce8e"),
        "allow 1"
    );
}

fn path_of(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/api/atlas/v2/{path}")
    }
}

#[test]
fn a_decision_is_told_in_words() {
    let caller = Caller::new(&[
        "allow operations=getGroup",
        "deny operations=deleteGroup",
        "warn operations=listGroups",
        "allow methods=POST projects=5a0a1e7e0f2912c554080adc",
    ]);
    for (method, path, expected) in [
        ("GET", "/api/atlas/v2/groups/1", "rule 1 allows getGroup"),
        ("DELETE", "/api/atlas/v2/groups/1", "rule 2 denies deleteGroup"),
        (
            "GET",
            "/api/atlas/v2/groups",
            "rule 3 warns of listGroups and lets it pass",
        ),
        ("PATCH", "/api/atlas/v2/groups/1", "no rule allows updateGroup"),
        (
            "GET",
            "/api/atlas/v2/x",
            "no rule allows unknown: what is no operation passes by `operations = [\"unknown\"]` only",
        ),
    ] {
        let told = caller.decide(method, path).told(&caller.catalogue).to_string();
        assert_eq!(told, expected);
    }
    let crossing = format!("/api/atlas/v2/groups/{PROJECT}/liveMigrations");
    let told = caller.decide("POST", &crossing).told(&caller.catalogue).to_string();
    assert!(told.contains("whose body names another project"), "{told}");
}

#[test]
fn twins_are_their_operation() {
    let caller = Caller::new(&[
        "deny operations=deleteGroupCluster",
        "allow tags=Clusters projects=5a0a1e7e0f2912c554080adc",
        "allow path=/api/atlas/v1.0/groups/*/peers",
        "allow operations=unknown methods=DELETE,GET,POST path=/api/atlas/v1.0/**",
    ]);
    for version in ["v1.0", "v1.5", "v2"] {
        let clusters = format!("/api/atlas/{version}/groups/{PROJECT}/clusters");
        assert_eq!(caller.says("GET", &clusters), "allow 2", "{version}");
        assert_eq!(caller.says("DELETE", &format!("{clusters}/c")), "deny 1", "{version}");
        assert_eq!(caller.says("DELETE", &format!("{clusters}/c/")), "deny 1", "{version}");
        let other = format!("/api/atlas/{version}/groups/{OTHER}/clusters");
        assert_eq!(caller.says("GET", &other), "unmatched", "{version}");
    }
    assert_eq!(caller.says("GET", "/api/atlas/v1.0/groups/1/peers"), "allow 3");
    assert_eq!(caller.says("GET", "groups/1/peers"), "unmatched");
    assert_eq!(caller.says("POST", "/api/atlas/v1.0/orgs/1/apiKeys"), "unmatched");
    assert_eq!(caller.says("DELETE", "/api/atlas/v1.0/groups/1/dataLakes/x"), "allow 4");
}
