#!/usr/bin/env bash
# The Atlas CLI, with an API key that means nothing: what people make, list and delete with it.
. "$(dirname "$0")/lib.sh"
. "$HERE/build.sh"
[ -n "$ATLAS_CLI" ] && [ -n "$SDK" ] || [ -x "$WORK/built/atlas-cli-${ATLAS_CLI_VERSION#v}/atlas" ] ||
    cannot "needs --atlas-cli (github.com/mongodb/mongodb-atlas-cli) and --sdk (github.com/mongodb/atlas-sdk-go)"
built atlas-cli $ATLAS_CLI_VERSION atlas
start_demo

port=$BEARER project=$SAMPLE_PROJECT service=cloud
atlas() {
    env -i "PATH=$PATH" "HOME=$PWD" MONGODB_ATLAS_SKIP_UPDATE_CHECK=yes MONGODB_ATLAS_TELEMETRY_ENABLED=false \
        MONGODB_ATLAS_PUBLIC_API_KEY=placeholder MONGODB_ATLAS_PRIVATE_API_KEY=placeholder "MONGODB_ATLAS_SERVICE=$service" \
        "MONGODB_ATLAS_OPS_MANAGER_URL=http://localhost:$port/" "MONGODB_ATLAS_ORG_ID=$ORGANIZATION" \
        "MONGODB_ATLAS_PROJECT_ID=$project" timeout 120 "$BUILT" "$@"
}
# The first identifier in what was printed.
identifier() { grep -oE '[0-9a-f]{24}' <<<"$PRINTED" | head -n 1; }

# scene CREDENTIAL: all of it, in a project of its own.
scene() {
    check "$1: projects are listed" '^ID +NAME.*payments.*search-e2e-200' atlas projects list
    check "$1: a project is made" "^Project '[0-9a-f]{24}' created" atlas projects create from-cli
    project=$(identifier)
    check "$1: it is described" "$project +from-cli" atlas projects describe "$project"
    check "$1: its settings are read" 'PERFORMANCE ADVISOR ENABLED' atlas projects settings describe
    check "$1: its settings are changed" 'settings updated' atlas projects settings update --disableDataExplorer
    check "$1: the change is there" '"isDataExplorerEnabled": false' atlas projects settings describe --output json

    for user in plain "$ODD_NAME"; do
        check "$1: a database user is made: $user" "'$user' successfully created" atlas dbusers create --username "$user" --password placeholder-1 --role readWrite@app
        check "$1: it is described: $user" '"roleName": "readWrite"' atlas dbusers describe "$user" --output json
        check "$1: it is changed: $user" 'Successfully updated' atlas dbusers update "$user" --role read@app
        check "$1: the change is there: $user" '"roleName": "read"' atlas dbusers describe "$user" --output json
    done
    check "$1: database users are listed" "^USERNAME +DATABASE.*plain +admin.*$ODD_NAME +admin|^USERNAME.*$ODD_NAME +admin.*plain +admin" atlas dbusers list
    for user in plain "$ODD_NAME"; do
        check "$1: a database user is deleted: $user" "'$user' deleted" atlas dbusers delete "$user" --force
        refused "$1: it is gone: $user" 'USERNAME_NOT_FOUND' atlas dbusers describe "$user"
    done

    check "$1: an access list entry is made" 'Created a new IP access list' atlas accessLists create 203.0.113.7 --comment office
    check "$1: entries are listed" '203\.0\.113\.7/32' atlas accessLists list
    check "$1: it is deleted" "'203.0.113.7' deleted" atlas accessLists delete 203.0.113.7 --force
    check "$1: no entry is left" '^CIDR BLOCK +AWS SECURITY GROUP[[:space:]]*$' atlas accessLists list

    check "$1: a cloud provider role is made" 'Atlas AWS Account ARN: arn:aws:iam::' atlas cloudProviders accessRoles aws create
    local role
    role=$(identifier)
    check "$1: roles are listed" "$role +AWS" atlas cloudProviders accessRoles list
    check "$1: it is authorized" 'successfully authorized' atlas cloudProviders accessRoles aws authorize "$role" --iamAssumedRoleArn arn:aws:iam::123456789012:role/atlas
    check "$1: the authorization is there" 'arn:aws:iam::123456789012:role/atlas' atlas cloudProviders accessRoles list --output json
    check "$1: it is taken away" 'successfully deauthorized' atlas cloudProviders accessRoles aws deauthorize "$role" --force
    check "$1: no role is left" '^ID +PROVIDER[^0-9]*$' atlas cloudProviders accessRoles list

    check "$1: a flex cluster is made and waited for" "'flex0' created successfully" atlas clusters create flex0 --tier FLEX --provider AWS --region US_EAST_1 --watch
    check "$1: flex clusters are listed" 'flex0 .*IDLE' atlas clusters list --tier FLEX
    check "$1: it is deleted and waited for" 'Cluster deleted' atlas clusters delete flex0 --force --watch
    check "$1: no flex cluster is left" '^ID +NAME[^0-9]*$' atlas clusters list --tier FLEX

    check "$1: a team is made" "'from-cli' created" atlas teams create from-cli --username user@example.org
    check "$1: teams are listed" '[0-9a-f]{24} +from-cli' atlas teams list
    local team
    team=$(identifier)
    check "$1: the team gets a role in the project" 'added' atlas projects teams add "$team" --role GROUP_READ_ONLY
    check "$1: teams of the project are listed" "$team" atlas projects teams list
    check "$1: it is taken from the project" 'removed|deleted' atlas projects teams delete "$team" --force
    check "$1: the team is deleted" 'deleted' atlas teams delete "$team" --force
    check "$1: no team is left" '^ID +NAME[[:space:]]*$' atlas teams list

    check "$1: a generated command" "\"id\":\"$project\".*\"links\":\[\{\"href\":\"http://localhost:$port/api/atlas/v2/groups/$project\"" \
        atlas api projects getProject --groupId "$project" --version 2023-01-01
    check "$1: the project is deleted" "'$project' deleted" atlas projects delete "$project" --force
    refused "$1: it is gone" 'GROUP_NOT_FOUND.*Detail: ' atlas projects describe "$project"
    project=$SAMPLE_PROJECT
}

scene Bearer
check "processes are listed" 'shard-00-00\..*:27017 .*shard-00-01\..*shard-00-02\.' atlas processes list
host=$(grep -m 1 -oE '[^ ]+-shard-00-00\.[^ :]+' <<<"$PRINTED")
check "a log is downloaded" 'Download of log\.gz completed' atlas logs download "$host" mongodb.gz --out log.gz
check "it is whole" '"msg":"Connection accepted"' gunzip -c log.gz

port=$DIGEST
scene Digest

port=$GOVERNMENT service=cloudgov
check "government: a project is made" "^Project '[0-9a-f]{24}' created" atlas projects create from-cli --govCloudRegionsOnly
project=$(identifier)
check "government: its regions are what was asked for" '"regionUsageRestrictions": ?"GOV_REGIONS_ONLY"' ask_atlas "$port" "groups/$project"
check "government: it is deleted" "'$project' deleted" atlas projects delete "$project" --force
finish "Atlas CLI ${ATLAS_CLI_VERSION#v}"
