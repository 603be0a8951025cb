# What benches/compare.sh and benches/http_versions.sh share: sourced by both. `binary` is a build to measure, or empty.
# shellcheck shell=bash disable=SC2034 # whoever sources this uses what stands here

top=$(cd "$(dirname "$0")/.." && pwd)

say() { printf 'benches/%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# need PROGRAM…: ends where one is missing, and names all that are.
need() {
    local program missing=()
    for program in "$@"; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    [ -n "$binary" ] || command -v cargo >/dev/null || missing+=(cargo)
    [ ${#missing[@]} = 0 ] || die "missing: ${missing[*]}"
}

# Makes the release build where none was given.
find_binary() {
    if [ -z "$binary" ]; then
        cargo build --locked --release --manifest-path "$top/Cargo.toml" --bin atlas-auth-proxy >&2
        binary=$(cargo metadata --locked --manifest-path "$top/Cargo.toml" --format-version 1 --no-deps |
            sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/atlas-auth-proxy
    fi
    binary=$(readlink -f "$binary")
}

# Makes the folder `tmp`; with it go all that are `running`, however the script ends. `at_the_end` may be defined anew.
running=()
at_the_end() { :; }
end() {
    local pid
    trap - EXIT
    for pid in "${running[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${running[@]}"; do
        # nginx's workers end with their master; nothing here has a reason to wait.
        for _ in {1..100}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        kill -9 "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    at_the_end
    rm -rf "$tmp"
}
tmp=$(mktemp -d)
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The proxy under test alone on the first core that we may use, everything else on the last.
on_proxy_core=() on_other_core=()
cores=$(awk '/^Cpus_allowed_list:/ { print $2 }' /proc/self/status)
if command -v taskset >/dev/null && [[ $cores == *[,-]* ]]; then
    on_proxy_core=(taskset -c "${cores%%[,-]*}")
    on_other_core=(taskset -c "${cores##*[,-]}")
fi

# certificates NAME SUBJECT_ALT_NAME: ca.pem, and server.pem with server.key of its server, in this folder.
certificates() {
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    openssl req -x509 "${key[@]}" -days 3 -keyout ca.key -out ca.pem -subj '/CN=benchmark' \
        -addext keyUsage=critical,keyCertSign
    openssl req -new "${key[@]}" -keyout server.key -out server.csr -subj "/CN=$1"
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$2" >server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3 -extfile server.ext -out server.pem
}
