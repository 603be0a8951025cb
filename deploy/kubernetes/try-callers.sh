#!/usr/bin/env bash
# Callers known by the tokens of a Kubernetes cluster, tried with a real API server: two service accounts, the cluster's keys
# fetched with a token, a wrong audience, another signing key in the middle, and a service account that is deleted.
#
#   deploy/kubernetes/try-callers.sh PROGRAM [ROTATE...]
#
# PROGRAM is atlas-auth-proxy with its demo. ROTATE is a command that gives the API server another signing key beside the first;
# left out, that is not tried. Needs kubectl with KUBECONFIG of a cluster where it may do everything, curl, openssl. Makes the
# namespace `try-callers` and removes it.
set -euo pipefail
program=$(realpath "${1:?which program}")
shift
folder=$(mktemp -d)
pids=()
cleanup() {
    kill "${pids[@]}" 2>/dev/null || true
    kubectl delete namespace try-callers --wait=false >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap cleanup EXIT
fail() {
    echo "FAILED: $*" >&2
    tail -n 5 "$folder/log" >&2 || true
    exit 1
}

"$program" demo >"$folder/demo" 2>"$folder/demo.log" &
pids+=($!)
for _ in $(seq 100); do grep -q '^ready' "$folder/demo" && break; sleep 0.1; done
upstream=$(sed -n 's/.*emulators, and their fault controls *\(https:[^ ]*\).*/\1/p' "$folder/demo")
demo=$(sed -n 's/.*MONGODB_ATLAS_CLIENT_SECRET_FILE=\([^ ]*\)\/client-secret .* check .*/\1/p' "$folder/demo" | head -n 1)
client_id=$(sed -n 's/.*MONGODB_ATLAS_CLIENT_ID=\([^ ]*\).*/\1/p' "$folder/demo" | head -n 1)

cluster=$(kubectl config view --minify -o 'jsonpath={.clusters[0].cluster.server}')
kubectl config view --minify --raw -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d >"$folder/ca.crt"
[ -s "$folder/ca.crt" ] || cp "$(kubectl config view --minify -o 'jsonpath={.clusters[0].cluster.certificate-authority}')" "$folder/ca.crt"
issuer=$(kubectl get --raw /.well-known/openid-configuration | sed 's/.*"issuer":"\([^"]*\)".*/\1/')
audience=https://atlas-gateway.platform.svc
kubectl create namespace try-callers >/dev/null
for name in billing deployer gateway; do kubectl -n try-callers create serviceaccount "$name" >/dev/null; done
token() { kubectl -n try-callers create token "$1" --audience "${2:-$audience}" --duration 10m; }
(umask 077 && kubectl -n try-callers create token gateway --duration 1h >"$folder/token")

gateway() { # arguments: the lines that say how the keys are fetched
    cat >"$folder/gateway.toml" <<TOML
[[listener]]
name = "gateway"
bind = "127.0.0.1:18080"

[[caller]]
name = "billing"
jwt = [{ issuer = "cluster", subject = "system:serviceaccount:try-callers:billing" }]
[[caller.rule]]
operations = ["listGroups"]
action = "allow"

[[caller]]
name = "deployer"
jwt = [{ issuer = "cluster", subject = "system:serviceaccount:try-callers:deployer" }]
[[caller.rule]]
operations = ["listGroups", "createGroup"]
action = "allow"

[[issuer]]
name = "cluster"
issuer = "$issuer"
audience = "$audience"
jwks_url = "$cluster/openid/v1/jwks"
ca_file = "$folder/ca.crt"
$1

[passes]

[account.default]
base_url = "$upstream"
ca_file = "$demo/ca-0.pem"
client_id = "$client_id"
client_secret_file = "$demo/client-secret"

[admin]
bind = "127.0.0.1:19091"
TOML
    if [ -n "${running:-}" ]; then kill "$running" && wait "$running" 2>/dev/null || true; fi
    "$program" run --config "$folder/gateway.toml" --log-format json >"$folder/run" 2>"$folder/log" &
    running=$!
    pids+=("$running")
    for _ in $(seq 100); do curl -s -o "$folder/out" http://127.0.0.1:19091/readyz && grep -qs ok "$folder/out" && break; sleep 0.1; done
    # The keys are fetched in the background.
    for _ in $(seq 50); do curl -s http://127.0.0.1:19091/status.json | grep -q '"lastError":"\|"keys": *[1-9]' && break; sleep 0.1; done
}
api=http://127.0.0.1:18080
version='Accept: application/vnd.atlas.2023-01-01+json'
who() { curl -s -H "Authorization: Bearer $1" "$api/api/oauth/caller" | sed 's/.*"caller":"\([^"]*\)".*/\1/'; }
status() { curl -s -o "$folder/out" -w '%{http_code}' -H "$version" -H "Authorization: Bearer $1" "${@:2}"; }
is() { # what, found, right
    [ "$2" = "$3" ] || fail "$1: $2 and not $3: $(cat "$folder/out" 2>/dev/null)"
    echo "ok  $1: $2"
}

gateway ""
is "without a token the cluster gives no key, and nobody is known" "$(status "$(token billing)" "$api/api/atlas/v2/groups")" 401
echo "    check: $("$program" check --config "$folder/gateway.toml" | grep -E '^[A-Za-z]+ +issuer' | head -n 1)"

gateway "token_file = \"$folder/token\""
billing=$(token billing) deployer=$(token deployer)
is "the token of one service account" "$(who "$billing")" billing
is "the token of another" "$(who "$deployer")" deployer
is "billing lists projects" "$(status "$billing" "$api/api/atlas/v2/groups")" 200
project='{"name":"ByDeployer","orgId":"5a0a1e7e0f2912c554080adc"}'
is "billing makes no project" "$(status "$billing" -H 'Content-Type: application/json' -d "$project" "$api/api/atlas/v2/groups")" 403
is "deployer makes one" "$(status "$deployer" -H 'Content-Type: application/json' -d "$project" "$api/api/atlas/v2/groups")" 201
is "a token for another audience" "$(status "$(token billing https://other.example.org)" "$api/api/atlas/v2/groups")" 401
is "a token of a service account that is no caller" "$(status "$(token gateway)" "$api/api/atlas/v2/groups")" 401
pass=$(curl -s -u "anything:$billing" -d grant_type=client_credentials "$api/api/oauth/token" | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
is "the token as a client secret buys a pass" "$(who "$pass")" billing

if [ $# -gt 0 ]; then
    "$@" >"$folder/rotate" 2>&1 || fail "the command that rotates: $(cat "$folder/rotate")"
    fresh=$(token billing)
    before=$(printf %s "$billing" | cut -d. -f1) after=$(printf %s "$fresh" | cut -d. -f1)
    [ "$before" != "$after" ] || fail "the new token is signed by the old key"
    is "a token of the new key, which was not known" "$(who "$fresh")" billing
    is "a token of the old key" "$(who "$billing")" billing
else
    echo "NOT CHECKED: another signing key (no command was given)"
fi

kubectl -n try-callers delete serviceaccount billing >/dev/null
is "the token of a deleted service account goes on until its exp" "$(status "$billing" "$api/api/atlas/v2/groups")" 200
echo "all is well"
