#!/usr/bin/env bash
# The Atlas Kubernetes operator on a real API server: a project and a database user become ready, and go again.
. "$(dirname "$0")/lib.sh"
. "$HERE/build.sh"
kubeconfig=${KUBECONFIG:-${K_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/atlas-auth-proxy-kubernetes}/run/kubeconfig}
bin=${K_BIN:-${K_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/atlas-auth-proxy-kubernetes}/bin}
export KUBECONFIG=$kubeconfig PATH=$bin:$PATH
answers() { command -v kubectl && timeout 10 kubectl get --raw /readyz; }
[ -n "$SDK" ] || [ -x "$WORK/built/operator-${OPERATOR_VERSION#v}/operator" ] || cannot "needs --sdk (github.com/mongodb/atlas-sdk-go)"
answers >/dev/null 2>&1 || [ -n "$KUBERNETES" ] || cannot "needs an API server: KUBECONFIG and kubectl, or --kubernetes"
built operator $OPERATOR_VERSION operator
if ! answers >/dev/null 2>&1; then
    stop_kubernetes() { "$KUBERNETES" stop; }
    AT_END+=(stop_kubernetes)
    if ! "$KUBERNETES" build >build.out 2>&1 || ! "$KUBERNETES" start; then cannot "no API server: $KUBERNETES build and start failed"; fi
fi
start_demo

namespace=atlas-clients-$$
wipe() {
    # Where a check failed, nobody is left who would do what the finalizers wait for.
    for kind in atlasdatabaseuser atlasproject; do
        kubectl --namespace "$namespace" patch "$kind" from-operator --type merge -p '{"metadata":{"finalizers":[]}}' >/dev/null 2>&1 || true
    done
    kubectl delete namespace "$namespace" --wait=false >/dev/null 2>&1
}
AT_END+=(wipe)
kubectl apply --server-side --force-conflicts -f "$(dirname "$BUILT")/crds" >crds.out
kubectl create namespace "$namespace" >/dev/null
kubectl wait --for=condition=Established --timeout=60s -f "$(dirname "$BUILT")/crds" >/dev/null
start operator env "OPERATOR_POD_NAME=podname-797f946f88-97f2q" "OPERATOR_NAMESPACE=$namespace" "WATCH_NAMESPACE=$namespace" \
    "$BUILT" "--atlas-domain=http://localhost:$BEARER/" "--kubeconfig=$KUBECONFIG" --metrics-bind-address=127.0.0.1:0 \
    --health-probe-bind-address=127.0.0.1:0 --object-deletion-protection=false --log-encoder=console

here() { kubectl --namespace "$namespace" "$@"; }
ready() { here wait --for=condition=Ready --timeout=180s "$@"; }
check "the resources are taken" 'atlasdatabaseuser.* created' here apply -f "$HERE/operator/resources.yaml"
check "AtlasProject is Ready" 'condition met' ready atlasproject/from-operator
check "AtlasDatabaseUser is Ready" 'condition met' ready atlasdatabaseuser/from-operator
check "Atlas has the project" '"name": ?"from-operator"' ask_atlas "$BEARER" groups/byName/from-operator
project=$(grep -oE '"id": ?"[0-9a-f]{24}"' <<<"$PRINTED" | grep -oE '[0-9a-f]{24}')
check "Atlas has the access list entry" '203\.0\.113\.10' ask_atlas "$BEARER" "groups/$project/accessList"
check "Atlas has the database user" '"username": ?"operator-user"' ask_atlas "$BEARER" "groups/$project/databaseUsers/admin/operator-user"

check "a change of the user is made" 'patched' here patch atlasdatabaseuser from-operator --type merge -p '{"spec":{"roles":[{"roleName":"read","databaseName":"app"}]}}'
changed() { ask_atlas "$BEARER" "groups/$project/databaseUsers/admin/operator-user" | grep -qE '"roleName": ?"read"'; }
wait_for 120 "the change of the user in Atlas" changed

check "AtlasDatabaseUser is deleted" 'deleted' here delete atlasdatabaseuser from-operator --timeout=120s
refused "Atlas has it no more" 'USERNAME_NOT_FOUND|USER_NOT_FOUND' ask_atlas "$BEARER" "groups/$project/databaseUsers/admin/operator-user"
check "AtlasProject is deleted" 'deleted' here delete atlasproject from-operator --timeout=120s
refused "Atlas has it no more" 'GROUP_NOT_FOUND' ask_atlas "$BEARER" "groups/$project"
finish "operator ${OPERATOR_VERSION#v} on Kubernetes $(kubectl get --raw /version | sed -n 's/.*"gitVersion": "\(.*\)",/\1/p')"
