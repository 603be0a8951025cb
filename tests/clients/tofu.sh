#!/usr/bin/env bash
# OpenTofu (by another name: Terraform) with the Terraform provider of MongoDB Atlas: what it makes is there, a second plan is empty,
# and what it destroys is gone.
. "$(dirname "$0")/lib.sh"
. "$HERE/build.sh"
[ -n "$PROVIDER" ] && [ -n "$SDK" ] || [ -x "$WORK/built/provider-${PROVIDER_VERSION#v}/terraform-provider-mongodbatlas" ] ||
    cannot "needs --provider (github.com/mongodb/terraform-provider-mongodbatlas) and --sdk (github.com/mongodb/atlas-sdk-go)"
if [ "$CLIENT" = terraform ]; then
    TOOL=$(command -v terraform) || cannot "there is no terraform on this machine"
else
    built tofu $TOFU_VERSION tofu
    TOOL=$BUILT
fi
built provider $PROVIDER_VERSION terraform-provider-mongodbatlas
start_demo

folder=$(dirname "$BUILT")
cat >rc <<END
provider_installation {
  dev_overrides {
    "registry.terraform.io/mongodb/mongodbatlas" = "$folder"
    "registry.opentofu.org/mongodb/mongodbatlas" = "$folder"
  }
}
END
export TF_CLI_CONFIG_FILE=$PWD/rc CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1

# try NAME PORT VARIABLE=VALUE...: everything of main.tf, through the listener at that port, with this in the environment.
tool() {
    local port=$1
    shift
    env "MONGODB_ATLAS_BASE_URL=http://localhost:$port/" "${credential[@]}" "$TOOL" "$@"
}
try() {
    local name=$1 port=$2 folder=$3 parallelism=$4 resources=$5
    credential=("${@:6}")
    cp -r "$HERE/tofu/$folder" "$name"
    cd "$name"
    local began=$SECONDS
    check "$name: apply" "Apply complete! Resources: $resources added" tool "$port" apply -no-color -auto-approve "-parallelism=$parallelism"
    echo "        in $((SECONDS - began)) s"
    # 2 would be: there is something to change.
    check "$name: a second plan is empty" 'No changes' tool "$port" plan -no-color -detailed-exitcode "-parallelism=$parallelism"
    check "$name: Atlas has the project" '"name": ?"from-tofu"' ask_atlas "$port" groups/byName/from-tofu
    check "$name: destroy" "Destroy complete! Resources: $resources destroyed" tool "$port" destroy -no-color -auto-approve "-parallelism=$parallelism"
    refused "$name: Atlas has it no more" '"error": ?404' ask_atlas "$port" groups/byName/from-tofu
    cd ..
}
token=MONGODB_ATLAS_ACCESS_TOKEN=placeholder
key=(MONGODB_ATLAS_PUBLIC_API_KEY=placeholder MONGODB_ATLAS_PRIVATE_API_KEY=placeholder)
account=(MONGODB_ATLAS_CLIENT_ID=mdb_sa_id_placeholder MONGODB_ATLAS_CLIENT_SECRET=mdb_sa_sk_placeholder)
try Bearer "$BEARER" everything 10 9 $token
try Digest "$DIGEST" everything 10 9 "${key[@]}"
try government "$GOVERNMENT" everything 10 9 "${account[@]}" TF_VAR_regions=GOV_REGIONS_ONLY
try 200-users-Bearer "$BEARER" users 64 201 $token
try 200-users-Digest "$DIGEST" users 64 201 "${key[@]}"
finish "$("$TOOL" version | head -n 1), provider ${PROVIDER_VERSION#v}"
