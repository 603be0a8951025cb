#!/usr/bin/env bash
# h2spec (conformance with HTTP/2) against a listener of the proxy that speaks TLS.
. "$(dirname "$0")/lib.sh"
. "$HERE/build.sh"
command -v openssl >/dev/null || cannot "needs openssl"
built h2spec $H2SPEC_VERSION h2spec
start_demo

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout server.key -out server.crt 2>/dev/null
cat >proxy.toml <<END
[[listener]]
bind = "127.0.0.1:0"
[listener.tls]
certificate = "server.crt"
key = "server.key"
[admin]
bind = "off"
END
start proxy env "MONGODB_ATLAS_CLIENT_ID=$CLIENT_ID" "MONGODB_ATLAS_CLIENT_SECRET_FILE=$CLIENT_SECRET_FILE" \
    "$PROGRAM" run --config proxy.toml --base-url "$EMULATOR" --upstream-ca "$AUTHORITY" --log-format json
listening() { grep -ohE 'serves https://127.0.0.1:[0-9]+' proxy.out proxy.err | grep -oE '[0-9]+$'; }
wait_for 30 "the proxy" listening
port=$(listening)

check "an answer of Atlas by HTTP/2 comes first" 'search-e2e-200.* HTTP/2 200$' curl --silent --http2 --cacert server.crt -w ' HTTP/%{http_version} %{http_code}' \
    -H 'Accept: application/vnd.atlas.2023-01-01+json' "https://localhost:$port/api/atlas/v2/groups"
check "h2spec" '145 tests, 145 passed, 0 skipped, 0 failed' "$BUILT" --tls --insecure --host localhost --port "$port" --path /api/oauth/caller
finish "h2spec ${H2SPEC_VERSION%+*}"
