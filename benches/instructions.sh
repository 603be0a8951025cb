#!/usr/bin/env bash
# Instructions that the proxy executes per request, by scenario: figures that can be compared between commits.
#
#   benches/instructions.sh                          a table
#   benches/instructions.sh --save before.json       and the figures in a file
#   benches/instructions.sh --compare before.json    beside those of an earlier run
#
#   benches/instructions.sh --check benches/instructions/baseline.json    what CI asks: fails where a request costs 3 per cent
#                                                    more than there; ends with 3 where that can't be compared, and says why
#   benches/instructions.sh --bless benches/instructions/baseline.json    makes the figures of now those to compare with
#
#   --requests N    N and 2N requests are compared; 500 when left out
#   --only TEXT     only scenarios with TEXT in their name, such as `h2` or `Digest`
#   --keep FOLDER   keeps the profiles, for `callgrind_annotate FOLDER/callgrind.…`
#   --proxy FILE    measures this binary instead of building one (it must be built with the feature below)
#
# Needs cargo and valgrind (Debian: valgrind). Takes minutes. No network, no root, no Atlas account.
set -euo pipefail
# The paths that are given are the caller's.
top=$(cd "$(dirname "$0")/.." && pwd)

proxy=
baseline=
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --proxy)
        proxy=${2:?--proxy needs a file}
        shift 2
        ;;
    --requests | --only | --save | --compare | --check | --bless | --keep)
        arguments+=("$1" "${2:?$1 needs a value}")
        [ "$1" != --check ] || baseline=$2
        shift 2
        ;;
    *)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
done

missing=()
for program in cargo valgrind; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} != 0 ]; then
    why="benches/instructions.sh: missing: ${missing[*]}"
    # CI says it again, from standard output.
    [ -z "$baseline" ] || { echo "$why" && exit 3; }
    echo "$why" >&2
    exit 1
fi

manifest=$top/Cargo.toml
# Client and upstream are not measured: any build of them will do, and this one is quick.
driver=$(cargo build --locked --manifest-path "$manifest" --bench instructions --message-format=json-render-diagnostics |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')
# Before minutes go into a build.
[ -z "$baseline" ] || "$driver" --fits "$baseline"
if [ -z "$proxy" ]; then
    # The release build with what names functions in a profile. The feature: left to itself, rustix finds the kernel's vDSO
    # past valgrind, which has not mapped it, and crashes (bytecodealliance/rustix issue 1559).
    cargo build --locked --manifest-path "$manifest" --profile profiling --features rustix/use-libc-auxv \
        --bin atlas-auth-proxy >&2
    target=$(cargo metadata --locked --manifest-path "$manifest" --format-version 1 --no-deps |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    proxy=$target/profiling/atlas-auth-proxy
fi
exec "$driver" --proxy "$proxy" "${arguments[@]}"
