# What the scripts of the clients share; `run` sets WORK, PROGRAM and the sources' places. To be sourced.
# shellcheck shell=bash disable=SC2034 # variables are for the scripts that source this
set -euo pipefail
exec </dev/null
CLIENT=$(basename "$0" .sh)
HERE=$(cd "$(dirname "$0")" && pwd)
RUN=$WORK/run/$CLIENT
rm -rf "$RUN/files"
mkdir -p "$RUN/files"
cd "$RUN/files"
# What the clients and the proxy would find there of whoever starts this. Everything that is asked is on this machine.
for name in $(compgen -e); do
    case $name in MONGODB_* | ATLAS_PROXY_* | MDB_* | TF_*) unset "$name" ;; esac
done
export NO_PROXY=${NO_PROXY:+$NO_PROXY,}localhost,127.0.0.1
export no_proxy=$NO_PROXY

# What the emulator has.
ORGANIZATION=5a0a1e7e0f2912c554080adc
SAMPLE_PROJECT=6a793f8a2c88faeba59bc7c2
ODD_NAME='odd user/ü'

# Ends the script: it can't be done here.
cannot() {
    echo "$*"
    exit 77
}

# start NAME COMMAND...: in the background until the script ends; what it prints is in NAME.out and NAME.err.
PROCESSES=()
start() {
    local name=$1
    shift
    "$@" >"$name.out" 2>"$name.err" &
    PROCESSES+=($!)
}
# What else is to be done at the end: names of functions, the last first.
AT_END=()
ending() {
    local n
    for ((n = ${#AT_END[@]} - 1; n >= 0; n--)); do "${AT_END[n]}" || true; done
    [ ${#PROCESSES[@]} = 0 ] || kill "${PROCESSES[@]}" 2>/dev/null || true
    wait
}
trap ending EXIT

# wait_for SECONDS WHAT COMMAND...: until the command ends well.
wait_for() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $until ]; then
            tail -n 20 ./*.err
            echo "$what: not in time"
            exit 1
        fi
        sleep 0.2
    done
}

# Starts the emulator with proxies before it. Sets BEARER, DIGEST, GOVERNMENT (the proxies' ports), EMULATOR and its AUTHORITY.
start_demo() {
    start demo "$PROGRAM" demo
    wait_for 30 "the demo" grep -q '^ready' demo.out
    port() { sed -n "s|^  $1 *http://127.0.0.1:\([0-9]*\).*|\1|p" demo.out; }
    BEARER=$(port 'commercial, service account (Bearer)') DIGEST=$(port 'commercial, API key (Digest)')
    GOVERNMENT=$(port 'government, service account (Bearer)')
    EMULATOR=$(sed -n 's|^  emulators, .* \(https://localhost:[0-9]*\) .*, .*|\1|p' demo.out)
    # The next line of what it prints has a command that names the files for others who ask the emulator.
    AUTHORITY=$(grep -m 1 -oE -- '--upstream-ca [^ ]+' demo.out | cut -d ' ' -f 2)
    CLIENT_ID=$(grep -m 1 -oE 'MONGODB_ATLAS_CLIENT_ID=[^ ]+' demo.out | cut -d = -f 2)
    CLIENT_SECRET_FILE=$(grep -m 1 -oE 'MONGODB_ATLAS_CLIENT_SECRET_FILE=[^ ]+' demo.out | cut -d = -f 2)
    [ -n "$BEARER" ] && [ -n "$DIGEST" ] && [ -n "$GOVERNMENT" ] && [ -n "$EMULATOR" ] && [ -n "$AUTHORITY" ]
}

# check WHAT PATTERN COMMAND...: it ends well, and all that it prints matches the extended regular expression (`.` is any
# character). refused: the same for one that must fail. What it printed is in $PRINTED.
CHECKS=0 FAILED=0
check() { examine 0 "$@"; }
refused() { examine 1 "$@"; }
examine() {
    local expected=$1 what=$2 pattern=$3 code=0
    shift 3
    PRINTED=$("$@" 2>&1) || code=$?
    CHECKS=$((CHECKS + 1))
    if [ $((code != 0)) = "$expected" ] && [[ $PRINTED =~ $pattern ]]; then
        echo "ok      $what"
    else
        FAILED=$((FAILED + 1))
        printf 'FAILED  %s\n  command: %s\n  exit code %d; expected: %s\n' "$what" "$*" "$code" "$pattern"
        printf '%s\n' "$PRINTED" | tail -n 40 | sed 's/^/  | /'
    fi
}

# ask_atlas PORT PATH: what the Admin API answers through the proxy at that port; ends badly unless it is 2xx.
ask_atlas() {
    curl --silent --show-error --fail-with-body --max-time 30 -H 'Accept: application/vnd.atlas.2024-08-05+json' "http://localhost:$1/api/atlas/v2/$2"
}

# finish VERSION: the last line, and the exit code.
finish() {
    echo "$1: $CHECKS checks, $FAILED failed"
    [ $FAILED = 0 ]
    exit
}
