//! Which resources there are.

use http::StatusCode;

use super::Kind::{Collection as Members, Document, View};
use super::{Adds, Collection, Listing, Resource, clusters, documents, rules, views};

/// What most collections are like.
const USUAL: Collection = Collection {
    member: &[],
    is: |_, _| false,
    list: Listing::Page,
    adds: Adds::One(StatusCode::CREATED),
    needs: &[],
    make: documents::plain,
    settle: |_, _, _, _| {},
    refuse: |_, _| None,
    holds: |_, _, _| None,
    shown: |member, _| member,
    unknown: rules::no_resource,
    taken: None,
    removed: StatusCode::NO_CONTENT,
    slow: false,
};

/// The users of an organization or project.
const USERS: Collection = Collection {
    member: &["/{userId}"],
    is: rules::has_id,
    needs: &["username", "roles"],
    make: documents::user,
    shown: documents::user_of_version,
    ..USUAL
};

const fn of(path: &'static str, kind: super::Kind) -> Resource {
    Resource { path, kind }
}

/// All of them. Paths and their placeholders are those of the API's description; a test holds them against it.
pub(super) const TABLE: &[Resource] = &[
    of(
        "orgs",
        Members(Collection {
            member: &["/{orgId}"],
            is: rules::has_id,
            unknown: rules::no_organization,
            holds: |_, _, _| Some(rules::organization_in_use()),
            ..USUAL
        }),
    ),
    of("orgs/{orgId}/settings", Document(documents::organization_settings)),
    of("orgs/{orgId}/groups", View(views::groups_of_organization)),
    of("orgs/{orgId}/users", Members(USERS)),
    of(
        "orgs/{orgId}/teams",
        Members(Collection {
            member: &["/{teamId}"],
            is: rules::has_id,
            needs: &["name"],
            make: documents::team,
            settle: documents::add_team_members,
            ..USUAL
        }),
    ),
    of("orgs/{orgId}/teams/byName/{teamName}", View(views::team_by_name)),
    of(
        "orgs/{orgId}/teams/{teamId}/users",
        Members(Collection {
            member: &["/{userId}"],
            is: rules::has_id,
            adds: Adds::Several(StatusCode::OK),
            needs: &["id"],
            make: documents::plain,
            settle: documents::as_in_organization,
            shown: documents::user_of_version,
            ..USUAL
        }),
    ),
    of("orgs/{orgId}/events", View(views::empty_page)),
    of("orgs/{orgId}/serviceAccounts", View(views::service_accounts)),
    of("orgs/{orgId}/serviceAccounts/{clientId}", View(views::service_account)),
    of(
        "orgs/{orgId}/serviceAccounts/{clientId}/secrets",
        View(views::service_account),
    ),
    of(
        "orgs/{orgId}/serviceAccounts/{clientId}/secrets/{secretId}",
        View(views::service_account),
    ),
    of(
        "groups",
        Members(Collection {
            member: &["/{groupId}"],
            is: rules::has_id,
            needs: &["name", "orgId"],
            make: documents::group,
            refuse: rules::region_restriction,
            holds: rules::has_clusters,
            unknown: rules::no_group,
            ..USUAL
        }),
    ),
    of("groups/byName/{groupName}", View(views::group_by_name)),
    of("groups/{groupId}/settings", Document(documents::group_settings)),
    of("groups/{groupId}/limits", View(views::limits)),
    of("groups/{groupId}/limits/{limitName}", View(views::limit)),
    of("groups/{groupId}/ipAddresses", View(views::ip_addresses)),
    of("groups/{groupId}/users", Members(USERS)),
    of(
        "groups/{groupId}/teams",
        Members(Collection {
            member: &["/{teamId}"],
            is: |team, key| key == [team["teamId"].as_str().unwrap_or_default()],
            adds: Adds::Several(StatusCode::CREATED),
            needs: &["teamId", "roleNames"],
            make: documents::team_role,
            ..USUAL
        }),
    ),
    of(
        "groups/{groupId}/accessList",
        Members(Collection {
            member: &["/{entryValue}"],
            is: rules::is_entry,
            adds: Adds::Several(StatusCode::CREATED),
            make: documents::access_list_entry,
            refuse: rules::access_list_entry,
            unknown: rules::no_entry,
            ..USUAL
        }),
    ),
    of(
        "groups/{groupId}/accessList/{entryValue}/status",
        Document(|_| serde_json::json!({"STATUS": "ACTIVE"})),
    ),
    of(
        "groups/{groupId}/databaseUsers",
        Members(Collection {
            member: &["/{databaseName}/{username}"],
            is: rules::is_user,
            needs: &["username"],
            make: documents::database_user,
            unknown: rules::no_user,
            taken: Some(rules::user_exists),
            ..USUAL
        }),
    ),
    of(
        "groups/{groupId}/clusters",
        Members(Collection {
            member: &["/{clusterName}"],
            is: rules::is_named,
            needs: &["name"],
            make: clusters::cluster,
            settle: clusters::add_containers,
            holds: rules::is_protected,
            unknown: rules::no_cluster,
            taken: Some(rules::cluster_exists),
            removed: StatusCode::ACCEPTED,
            slow: true,
            ..USUAL
        }),
    ),
    of(
        "groups/{groupId}/clusters/{clusterName}/processArgs",
        Document(clusters::process_args),
    ),
    of(
        "groups/{groupId}/clusters/{clusterName}/status",
        Document(|_| serde_json::json!({"changeStatus": "APPLIED"})),
    ),
    of(
        "groups/{groupId}/clusters/{hostName}/logs/{logName}.gz",
        View(views::log),
    ),
    of(
        "groups/{groupId}/flexClusters",
        Members(Collection {
            member: &["/{name}"],
            is: rules::is_named,
            needs: &["name", "providerSettings"],
            make: clusters::flex_cluster,
            refuse: rules::provider_settings,
            holds: rules::is_protected,
            unknown: rules::no_flex_cluster,
            taken: Some(rules::cluster_exists),
            slow: true,
            ..USUAL
        }),
    ),
    of("groups/{groupId}/processes", View(views::processes)),
    of("groups/{groupId}/processes/{processId}", View(views::process)),
    of(
        "groups/{groupId}/cloudProviderAccess",
        Members(Collection {
            member: &["/{roleId}", "/{cloudProvider}/{roleId}"],
            is: |role, key| key.last().is_some_and(|id| role["roleId"] == id.as_str()),
            list: Listing::Object(documents::roles_by_provider),
            adds: Adds::One(StatusCode::OK),
            needs: &["providerName"],
            make: documents::access_role,
            settle: documents::authorize,
            refuse: rules::access_role,
            unknown: rules::no_role,
            ..USUAL
        }),
    ),
    of(
        "groups/{groupId}/customDBRoles/roles",
        Members(Collection {
            member: &["/{roleName}"],
            is: |role, key| key == [role["roleName"].as_str().unwrap_or_default()],
            list: Listing::Array,
            adds: Adds::One(StatusCode::ACCEPTED),
            needs: &["roleName"],
            make: documents::database_role,
            unknown: rules::no_database_role,
            ..USUAL
        }),
    ),
    of(
        "groups/{groupId}/alertConfigs",
        Members(Collection {
            member: &["/{alertConfigId}"],
            is: rules::has_id,
            needs: &["eventTypeName"],
            make: documents::plain,
            ..USUAL
        }),
    ),
    of("groups/{groupId}/serviceAccounts", View(views::service_accounts)),
    of(
        "groups/{groupId}/serviceAccounts/{clientId}",
        View(views::service_account),
    ),
    of(
        "groups/{groupId}/serviceAccounts/{clientId}/secrets",
        View(views::service_account),
    ),
    of(
        "groups/{groupId}/serviceAccounts/{clientId}/secrets/{secretId}",
        View(views::service_account),
    ),
    of("groups/{groupId}/managedSlowMs", View(views::slow_operations)),
    of("groups/{groupId}/managedSlowMs/enable", View(views::slow_operations)),
    of("groups/{groupId}/managedSlowMs/disable", View(views::slow_operations)),
    of(
        "groups/{groupId}/maintenanceWindow",
        Document(documents::maintenance_window),
    ),
    of(
        "groups/{groupId}/encryptionAtRest",
        Document(documents::encryption_at_rest),
    ),
    of("groups/{groupId}/auditLog", Document(documents::audit_log)),
    of("groups/{groupId}/userSecurity", Document(documents::user_security)),
    of(
        "groups/{groupId}/backupCompliancePolicy",
        Document(|_| serde_json::json!({})),
    ),
    of(
        "groups/{groupId}/privateEndpoint/regionalMode",
        Document(|_| serde_json::json!({"enabled": false})),
    ),
    of(
        "groups/{groupId}/privateEndpoint/{cloudProvider}/endpointService",
        View(views::empty_array),
    ),
    of("groups/{groupId}/peers", View(views::empty_page)),
    of("groups/{groupId}/containers", View(views::containers)),
    of("groups/{groupId}/containers/all", View(views::containers)),
    of("groups/{groupId}/integrations", View(views::empty_page)),
    of("groups/{groupId}/alerts", View(views::empty_page)),
    of("groups/{groupId}/events", View(views::empty_page)),
];

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn each_path_is_one_of_the_api() {
        let catalogue = Catalogue::new();
        let known: Vec<&str> = catalogue
            .operations()
            .iter()
            .filter_map(|operation| operation.path.strip_prefix("/api/atlas/v2/"))
            .collect();
        for resource in TABLE {
            let members = match &resource.kind {
                Kind::Collection(collection) => collection.member,
                _ => &[],
            };
            for member in std::iter::once(&"").chain(members) {
                let path = format!("{}{member}", resource.path);
                assert!(known.contains(&path.as_str()), "{path}");
            }
        }
    }
}
