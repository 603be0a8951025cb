#![allow(clippy::unwrap_used)]

use super::*;

fn name<'c>(catalogue: &'c Catalogue, method: &str, path: &str) -> Option<&'c str> {
    let found = catalogue.find(&Method::from_bytes(method.as_bytes()).unwrap(), path)?;
    Some(catalogue.get(found.operation).name)
}

/// The template with a value at each placeholder.
fn filled(template: &str, value: &str) -> String {
    let part = |segment: &str| match segment.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((_, ending)) => format!("{value}{ending}"),
        None => segment.to_owned(),
    };
    template.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn every_operation_is_found_by_its_own_path() {
    let catalogue = Catalogue::new();
    assert_eq!(catalogue.operations().len(), 540);
    assert_eq!(catalogue.tags().len(), 58);
    for id in catalogue.ids() {
        let operation = catalogue.get(id);
        let path = filled(operation.path, "5a0a1e7e0f2912c554080adc");
        let found = catalogue.find(&operation.method, &path).unwrap();
        assert_eq!(found.operation, id, "{path}");
        let at = |placeholder: &str| {
            operation
                .path
                .contains(placeholder)
                .then_some("5a0a1e7e0f2912c554080adc")
        };
        assert_eq!(found.project, at("{groupId}"), "{path}");
        assert_eq!(found.organization, at("{orgId}"), "{path}");
        assert_eq!(catalogue.by_name(operation.name), Some(id));
        assert_eq!(catalogue.find_loosely(&operation.method, &path), Some(id), "{path}");
        let odd = format!("/{}/", path.to_uppercase());
        assert_eq!(catalogue.find_loosely(&operation.method, &odd), Some(id), "{odd}");
        assert_eq!(name(&catalogue, "OPTIONS", &path), None);
    }
}

#[test]
fn the_data_says_what_it_should() {
    let catalogue = Catalogue::new();
    let get = |name: &str| catalogue.get(catalogue.by_name(name).unwrap());
    assert_eq!(get("createOrgApiKey").body, Content::Required);
    assert_eq!(
        get("pinGroupClusterFeatureCompatibilityVersion").body,
        Content::Optional
    );
    assert_eq!(get("restartGroupClusterPrimaries").body, Content::None);
    assert_eq!(get("deleteGroup").roles, ["Project Owner"]);
    assert!(get("listGroups").roles.is_empty());
    assert!(get("addGroupAccessUser").deprecated && !get("deleteGroup").deprecated);
    let version = &get("downloadGroupClusterLog").versions[0];
    assert_eq!(
        (version.date, version.sunset, version.media),
        ("2023-01-01", Some("2027-07-01"), Media::Gzip)
    );
    let of = |mark: fn(&Operation) -> bool| catalogue.operations().iter().filter(|o| mark(o)).count();
    assert_eq!(of(|o| o.grants), 80);
    assert_eq!(of(|o| o.crosses), 14);
    assert_eq!(of(|o| o.body == Content::Optional), 2);
    assert!(of(|o| o.deprecated) == 58 && of(|o| o.versions.is_empty()) == 0);
    assert_eq!(catalogue.tags()[get("getGroupCluster").tag.index()], "Clusters");
}

#[test]
fn head_is_a_get_and_other_methods_are_none() {
    let catalogue = Catalogue::new();
    let path = "/api/atlas/v2/groups";
    assert_eq!(name(&catalogue, "GET", path), Some("listGroups"));
    assert_eq!(name(&catalogue, "HEAD", path), Some("listGroups"));
    for method in ["get", "Head", "PUT", "DELETE", "OPTIONS", "X"] {
        assert_eq!(name(&catalogue, method, path), None, "{method}");
    }
    let list = catalogue.by_name("listGroups");
    for method in ["get", "Head", "GET"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(catalogue.find_loosely(&method, path), list);
    }
}

#[test]
fn a_literal_wins_over_a_placeholder_where_it_leads_somewhere() {
    let catalogue = Catalogue::new();
    for (method, path, expected) in [
        ("GET", "groups/byName/clusters", "getGroupByName"),
        ("GET", "groups/byName/clusters/c", "getGroupCluster"),
        ("GET", "groups/byName", "getGroup"),
        ("DELETE", "groups/byName", "deleteGroup"),
        ("DELETE", "groups/1/clusters/tenantUpgrade", "deleteGroupCluster"),
        (
            "POST",
            "groups/1/clusters/tenantUpgrade",
            "upgradeGroupClusterTenantUpgrade",
        ),
        ("GET", "orgs/1/invoices/pending", "listOrgInvoicePending"),
    ] {
        let path = format!("/api/atlas/v2/{path}");
        assert_eq!(name(&catalogue, method, &path), Some(expected), "{path}");
    }
}

#[test]
fn a_placeholder_takes_no_verb_of_the_catalogue() {
    let catalogue = Catalogue::new();
    let clusters = "/api/atlas/v2/groups/1/clusters";
    for (method, segment, expected) in [
        (
            "POST",
            "c:grantMongoDBEmployeeAccess",
            Some("grantGroupClusterMongoDbEmployeeAccess"),
        ),
        ("GET", "c:grantMongoDBEmployeeAccess", None),
        ("DELETE", "c:grantmongodbemployeeaccess", None),
        ("POST", ":grantMongoDBEmployeeAccess", None),
        ("DELETE", ":grantMongoDBEmployeeAccess", None),
        ("DELETE", "c:other", Some("deleteGroupCluster")),
    ] {
        assert_eq!(
            name(&catalogue, method, &format!("{clusters}/{segment}")),
            expected,
            "{segment}"
        );
    }
    let migrate = catalogue
        .find(&Method::POST, "/api/atlas/v2/groups/5a0a:migrate")
        .unwrap();
    assert_eq!(migrate.project, Some("5a0a"));
    assert_eq!(
        name(&catalogue, "GET", "/api/atlas/v2/groups/5a0a:migrate/clusters"),
        None
    );
    let loosely = catalogue.find_loosely(&Method::POST, "/api/atlas/v2/groups/:MIGRATE");
    assert_eq!(loosely, catalogue.by_name("migrateGroup"));
}

#[test]
fn odd_paths_are_no_operation() {
    let catalogue = Catalogue::new();
    for path in [
        "",
        "/",
        "api/atlas/v2",
        "//api/atlas/v2",
        "/api/atlas/v2/groups//clusters",
        "/api/atlas/v2/groups/../clusters",
        "/api/atlas/v2/groups/./clusters",
        "/api/private/ipinfo",
        "/api/atlas/v3/groups",
    ] {
        assert_eq!(name(&catalogue, "GET", path), None, "{path}");
    }
    // A slash at the end means nothing, two are another path.
    assert_eq!(name(&catalogue, "GET", "/api/atlas/v2/groups/"), Some("listGroups"));
    assert_eq!(name(&catalogue, "GET", "/api/atlas/v2/groups//"), None);
    let deep = format!("/api/atlas/v2/groups{}", "/x".repeat(100_000));
    assert_eq!(name(&catalogue, "GET", &deep), None);
    assert_eq!(catalogue.find_loosely(&Method::GET, &deep), None);
}

#[test]
fn twins_are_what_their_operation_is() {
    let catalogue = Catalogue::new();
    let (mut seen, mut grants) = (0, 0);
    for line in include_str!("twins.tsv").lines().filter(|line| !line.starts_with('#')) {
        let [method, path, operation, source]: [&str; 4] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let id = catalogue.by_name(operation).unwrap();
        let known = catalogue.get(id);
        assert_eq!(known.method.as_str(), method, "{line}");
        assert!(source.contains(": ") && source.contains('.'), "{line}");
        let bases = ["/api/atlas/v1.0", "/api/atlas/v1.5", "/api/public/v1.0"];
        assert!(bases.iter().any(|base| path.starts_with(base)), "{line}");
        // The placeholders for ids of projects and organizations have their names.
        for placeholder in ["{groupId}", "{orgId}"] {
            assert_eq!(path.contains(placeholder), known.path.contains(placeholder), "{line}");
        }
        let filled = filled(path, "5a0a1e7e0f2912c554080adc");
        let found = catalogue.find(&known.method, &filled).unwrap();
        assert_eq!(found.operation, id, "{line}");
        assert_eq!(found.project.is_some(), path.contains("{groupId}"), "{line}");
        assert!(catalogue.paths(id).contains(&path));
        seen += 1;
        grants += u32::from(known.grants);
    }
    assert!(seen > 300 && grants > 40, "{seen} {grants}");
    for (method, path, expected) in [
        (
            "DELETE",
            "/api/atlas/v1.0/groups/1/clusters/c",
            Some("deleteGroupCluster"),
        ),
        (
            "DELETE",
            "/api/atlas/v1.5/groups/1/clusters/c",
            Some("deleteGroupCluster"),
        ),
        ("POST", "/api/public/v1.0/orgs/1/apiKeys", Some("createOrgApiKey")),
        // Another product's clusters.
        ("GET", "/api/public/v1.0/groups/1/clusters", None),
        ("GET", "/api/atlas/v1.5/groups/1/databaseUsers", None),
    ] {
        assert_eq!(name(&catalogue, method, path), expected, "{path}");
    }
}

#[test]
fn all_paths_of_an_operation_have_the_same_placeholders_in_the_same_order() {
    let catalogue = Catalogue::new();
    let placeholders = |path: &'static str| {
        let named = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.split_once('}'));
        named.map(|(name, _)| name).collect::<Vec<_>>()
    };
    for id in catalogue.ids() {
        let paths = catalogue.paths(id);
        for path in paths {
            assert_eq!(placeholders(path), placeholders(paths[0]), "{path}");
        }
    }
}

#[test]
fn twins_have_the_values_of_the_path_that_was_sent() {
    let catalogue = Catalogue::new();
    let path = "/api/atlas/v1.5/groups/1/clusters/c/";
    let found = catalogue.find(&Method::GET, path).unwrap();
    let twins = catalogue.twins(found.operation, found.template, path);
    let twins: Vec<String> = twins
        .map(|twin| twin.map(|part| format!("/{part}")).collect())
        .collect();
    assert!(
        twins.contains(&"/api/atlas/v2/groups/1/clusters/c".to_owned()),
        "{twins:?}"
    );
    assert!(
        twins.iter().all(|twin| twin.ends_with("/groups/1/clusters/c")),
        "{twins:?}"
    );
    assert!(
        !twins.contains(&"/api/atlas/v1.5/groups/1/clusters/c".to_owned()),
        "{twins:?}"
    );
}
