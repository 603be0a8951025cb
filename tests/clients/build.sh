# How the clients are built, each once for its version into a folder of its own. To be sourced after lib.sh; needs Go.
# shellcheck shell=bash disable=SC2034 # variables are for the scripts that source this
TOFU_VERSION=v1.10.6
PROVIDER_VERSION=v2.16.0
ATLAS_CLI_VERSION=v1.46.4
OPERATOR_VERSION=v2.15.0
H2SPEC_VERSION=v2.2.1+incompatible
# The tag of the SDK that is as the provider's commit of the module without a version in its name.
SDK_PREVIEW=v20250312023.1.0

# built NAME VERSION PROGRAM: sets BUILT to the path of the program, which build_NAME makes in the current folder if it is missing.
built() {
    local folder=$WORK/built/$1-${2#v}
    BUILT=$folder/$3
    [ ! -x "$BUILT" ] || return 0
    command -v go >/dev/null || cannot "needs Go to build $1"
    echo "building $1 $2"
    rm -rf "$folder"
    mkdir -p "$folder/source"
    local code=0
    # The subshell must not stand in a condition: it would not end at the first failure there.
    set +e
    (
        set -e
        export GOFLAGS="-buildvcs=false -mod=mod"
        cd "$folder/source"
        "build_$1" "$2" "../$3"
    ) >"$RUN/build.log" 2>&1
    code=$?
    set -e
    if [ $code != 0 ]; then
        tail -n 20 "$RUN/build.log"
        cannot "could not be built (exit code $code): see $RUN/build.log"
    fi
    chmod -R u+w "$folder"
    rm -rf "$folder/source" "$folder"/sdk-*
}

# The source of a module as the module proxy has it, copied here: its own replace directives hold only in its own folder.
module() {
    local folder
    folder=$(cd / && GOFLAGS='' go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    cp -r "$folder/." .
    chmod -R u+w .
}

# archive REPO TAG [PATH...]: the files of a tag, here.
archive() { git -C "$1" archive "${@:2}" | tar -x; }

# The versions of atlas-sdk-go that go.mod asks for, from its repository: the module proxy has only some of them.
replace_sdk() {
    local module version folder
    while read -r module version; do
        folder=$PWD/../sdk-$version
        mkdir -p "$folder"
        (cd "$folder" && archive "$SDK" "$version" admin auth internal go.mod go.sum)
        go mod edit -replace "$module=$folder"
    done < <(grep -oE 'go\.mongodb\.org/atlas-sdk/v[0-9]+ v[0-9.]+' go.mod | sort -u)
    if grep -q 'github.com/mongodb/atlas-sdk-go v' go.mod; then
        folder=$PWD/../sdk-preview
        mkdir -p "$folder"
        (cd "$folder" && archive "$SDK" "$SDK_PREVIEW" admin auth internal go.mod go.sum)
        grep -rl 'go\.mongodb\.org/atlas-sdk/v[0-9]*' "$folder" |
            xargs sed -i "s#go\.mongodb\.org/atlas-sdk/${SDK_PREVIEW%%.*}#github.com/mongodb/atlas-sdk-go#g"
        go mod edit -replace "github.com/mongodb/atlas-sdk-go=$folder"
    fi
}

build_tofu() {
    module "github.com/opentofu/opentofu@$1"
    go build -o "$2" ./cmd/tofu
}

build_provider() {
    archive "$PROVIDER" "$1"
    replace_sdk
    go build -o "$2" .
}

build_atlas-cli() {
    archive "$ATLAS_CLI" "atlascli/$1"
    replace_sdk
    go build -o "$2" ./cmd/atlas
}

build_operator() {
    module "github.com/mongodb/mongodb-atlas-kubernetes/v2@$1"
    replace_sdk
    go build -o "$2" ./cmd
    # The definitions of its resources are needed beside it.
    cp -r "releases/$(find releases -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -n 1)/deploy/crds" ../crds
}

build_h2spec() {
    go mod init h2spec-build
    go get "github.com/summerwind/h2spec/cmd/h2spec@$1"
    go build -o "$2" github.com/summerwind/h2spec/cmd/h2spec
}
