#!/usr/bin/env bash
# Which version of HTTP serves better towards Atlas: the release build with `--upstream-http 1`, `2` and `auto` before the same
# nginx, near and far away, over a good and a bad line. Prints a Markdown table.
#
#   benches/http_versions.sh                          five minutes
#   ROUNDS=1 SECONDS_EACH=1 benches/http_versions.sh  a glance
#
#   ROUNDS=N          how often each point is measured; the median counts; 3
#   SECONDS_EACH=N    load of one point; 2
#   BINARY=FILE       measures this build instead of making one
#   CONGESTION=NAME   congestion control of TCP on both sides; cubic, as on most servers
#   SEED=N            which packets the program loses (netem has a seed of its own); 1
#
# nginx, and the proxy with wrk, have a network namespace each. The only way between them is a link made for this, which delays
# each packet by half of the round trip and loses some: by `tc netem` where the kernel has it, else by benches/slow_link.c. No
# packet leaves the namespaces.
#
# Needs root, for the namespaces; ip and tc (Debian: iproute2), nginx, wrk, openssl, cc without netem, cargo unless there is
# BINARY. Deletes what it made and ends what it started, however it ends.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-2} binary=${BINARY:-} congestion=${CONGESTION:-cubic} seed=${SEED:-1}

. "$(dirname "$0")/common.sh"

[ "$(id -u)" = 0 ] || die 'needs root: it makes network namespaces'
need ip tc nginx wrk openssl awk
[[ " $(cat /proc/sys/net/ipv4/tcp_available_congestion_control) " == *" $congestion "* ]] ||
    die "this kernel has no congestion control $congestion"

find_binary

near=http-versions-$$-near far=http-versions-$$-far
at_the_end() {
    ip netns del "$near" 2>/dev/null || true
    ip netns del "$far" 2>/dev/null || true
}

# Addresses of documentation (RFC 5737), which lead nowhere.
near_address=192.0.2.1 far_address=192.0.2.2
token=$(printf 't0ken%.0s' {1..40})

# Not functions: what starts in the background must be the program itself, not a shell that waits for it.
in_near=(ip netns exec "$near") in_far=(ip netns exec "$far")

# How many streams at a time nginx takes is what it takes unless it is told otherwise: 128.
upstream_configuration() {
    cat <<END
user root; worker_processes 1; error_log $tmp/upstream.log error; pid $tmp/upstream.pid;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; output_buffers 2 128k; open_file_cache max=64;
  sendfile on; tcp_nopush on;
  client_body_temp_path $tmp/upstream-body; proxy_temp_path $tmp/upstream-proxy; fastcgi_temp_path $tmp/upstream-fastcgi;
  uwsgi_temp_path $tmp/upstream-uwsgi; scgi_temp_path $tmp/upstream-scgi;
  map_hash_bucket_size 512; map \$http_authorization \$stranger { default 1; "Bearer $token" 0; }
  types { } default_type application/vnd.atlas.2023-01-01+json;
  server {
    listen $far_address:443 ssl http2 backlog=4096;
    ssl_certificate $tmp/server.pem; ssl_certificate_key $tmp/server.key; ssl_protocols TLSv1.2 TLSv1.3;
    root $tmp/www;
    location = /api/oauth/token {
      default_type application/json;
      return 200 '{"access_token":"$token","expires_in":3600,"token_type":"Bearer"}';
    }
    location = /api/oauth/revoke { return 200; }
    location / { if (\$stranger) { return 401; } }
  }
  # What the link can carry is measured without TLS.
  server { listen $far_address:80; root $tmp/www; }
}
END
}

# ---------------------------------------------------------------------------------------------------------------------

# A namespace each, and the link: a pair of devices with netem on both, or the program's.
make_link() {
    local namespace
    ip netns add "$near"
    ip netns add "$far"
    if ip link add line netns "$near" type veth peer name line netns "$far" 2>link.log &&
        tc -n "$near" qdisc add dev line root netem delay 1ms 2>>link.log; then
        kind='tc netem'
        for namespace in "$near" "$far"; do
            # Each packet is lost or delayed alone, not together with others that the kernel has not parted yet.
            ip -n "$namespace" link set dev line gso_max_segs 1
        done
    else
        kind='a relay over TUN devices (benches/slow_link.c)'
        ip -n "$near" link del dev line 2>/dev/null || true
        command -v cc >/dev/null || die 'missing: cc (this kernel has no netem)'
        [ -c /dev/net/tun ] || die 'this kernel has neither netem nor TUN devices'
        cc -O2 -o slow_link "$top/benches/slow_link.c"
        mkfifo control
        # As the kernel would, it waits for nobody.
        nice -n -15 "${on_proxy_core[@]}" ./slow_link "$near" "$far" "$seed" <control 2>link.log &
        relay=$!
        running+=("$relay")
        exec {control}>control
        for _ in {1..100}; do
            ip -n "$far" link show dev line >/dev/null 2>&1 && break
            kill -0 "$relay" 2>/dev/null || die "the link does not start: $(cat link.log)"
            sleep 0.05
        done
    fi
    for namespace in "$near" "$far"; do
        # A connection over the good line must know nothing of those over the bad one.
        ip netns exec "$namespace" sh -c 'echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save'
        # Nothing but the traffic that is measured: no search for routers either.
        ip netns exec "$namespace" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6' 2>/dev/null || true
        ip -n "$namespace" link set lo up
        ip -n "$namespace" link set dev line txqueuelen 10000 up
    done
    # The congestion control by route: a namespace's default can only be one that is allowed for the whole machine.
    ip -n "$near" address add "$near_address/32" dev line
    ip -n "$far" address add "$far_address/32" dev line
    ip -n "$near" route add "$far_address/32" dev line src "$near_address" congctl "$congestion"
    ip -n "$far" route add "$near_address/32" dev line src "$far_address" congctl "$congestion"
}

# set_link MICROSECONDS LOST: the delay of one direction, the lost packets of a million.
set_link() {
    local namespace
    if [ -n "${relay:-}" ]; then
        printf '%s %s\n' "$1" "$2" >&"$control"
        return
    fi
    for namespace in "$near" "$far"; do
        tc -n "$namespace" qdisc replace dev line root netem limit 100000 delay "$1us" \
            loss "$(awk -v lost="$2" 'BEGIN { printf "%.4f", lost / 10000 }')%"
    done
}

# Packets that the link has carried so far, in both directions; those that found no room in its devices.
packets() { "${in_near[@]}" cat /sys/class/net/line/statistics/{rx,tx}_packets | awk '{ sum += $1 } END { print sum }'; }
overflow() {
    { "${in_near[@]}" cat /sys/class/net/line/statistics/{rx,tx}_dropped && "${in_far[@]}" cat /sys/class/net/line/statistics/{rx,tx}_dropped; } |
        awk '{ sum += $1 } END { print sum }'
}

# Nanoseconds of processor time of a process so far.
processor_time() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }

relay_time() { if [ -n "${relay:-}" ]; then processor_time "$relay"; else printf 0; fi; }

now() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# load URL CONNECTIONS SECONDS: answers, the microseconds that they took together, and each of half and of 99 % of them at most.
# Fails when there are none.
load() {
    local out
    out=$("${in_near[@]}" "${on_other_core[@]}" wrk -t 1 -c "$2" -d "$3" --timeout 10 -s report.lua "$1")
    [[ $out == *'report '* && $out != *'Non-2xx'* && $out != *'Socket errors'* ]] || die "$1 fails under load: $out $(cat ./*.out)"
    out=${out##*report }
    printf '%s\n' "${out%%$'\n'*}"
    [ "${out%% *}" -gt 0 ]
}

# Starts a proxy for each version, on a port of its own, and makes its connections.
start_proxies() {
    local version port
    for version in "${versions[@]}"; do
        port=${port_of[$version]}
        # Nothing of the caller's own settings.
        "${in_near[@]}" env -i PATH="$PATH" MONGODB_ATLAS_CLIENT_ID=mdb_sa_id_0123456789abcdef01234567 \
            MONGODB_ATLAS_CLIENT_SECRET=mdb_sa_sk_0123456789abcdefghijklmnopqrstuvwxyzABCD \
            "${on_proxy_core[@]}" "$binary" run --listen "127.0.0.1:$port" --admin-listen 127.0.0.1:0 --workers 1 --log-level warn \
            --base-url "https://$far_address" --upstream-ca "$tmp/ca.pem" --upstream-http "$version" \
            >"$version.out" 2>&1 </dev/null &
        pid_of[$version]=$!
        running+=("$!")
        until "${in_near[@]}" bash -c ": <'/dev/tcp/127.0.0.1/$port'" 2>/dev/null; do
            kill -0 "${pid_of[$version]}" 2>/dev/null || die "the proxy does not start: $(tail -n 3 "$version.out")"
            sleep 0.05
        done
        # On a busy machine a second may not be enough for the token and 64 handshakes.
        for _ in {1..10}; do
            load "http://127.0.0.1:$port/api/atlas/v2/1k" 64 1 >/dev/null && break
        done
    done
}

stop_proxies() {
    kill "${pid_of[@]}"
    wait "${pid_of[@]}" 2>/dev/null || true
    running=("${others[@]}")
}

# measure LINK CONNECTIONS PATH SECONDS VERSION
measure() {
    local pid=${pid_of[$5]} used result began relay_used
    used=$(processor_time "$pid") relay_used=$(relay_time) began=$(now)
    result=$(load "http://127.0.0.1:${port_of[$5]}/api/atlas/v2/$3" "$2" "$4") ||
        die "version $5 gives no answer ($1, $3, $2 connections)"
    used=$(($(processor_time "$pid") - used)) relay_used=$(($(relay_time) - relay_used))
    read -r answers took p50 p99 <<<"$result"
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$3" "$2" "$5" "$answers" "$took" "$p50" "$p99" "$used" \
        "$(awk -v used="$relay_used" -v took="$(($(now) - began))" 'BEGIN { printf "%.1f", used / took / 10 }')" >>results
}

# ---------------------------------------------------------------------------------------------------------------------

cd "$tmp"
certificates upstream "IP:$far_address" 2>openssl.log || die "openssl: $(tail -n 3 openssl.log)"
mkdir -p www/api/atlas/v2
body() { printf '{"description":"%*s"}' $(($1 - 18)) ''; }
body 1024 >www/api/atlas/v2/1k
body $((100 << 10)) >www/api/atlas/v2/100k
body $((10 << 20)) >www/10m
cat >report.lua <<'END'
function done(summary, latency)
  io.write(string.format("report %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99)))
end
END
make_link
upstream_configuration >upstream.conf
"${in_far[@]}" "${on_other_core[@]}" nginx -e "$tmp/upstream.log" -p "$tmp" -c "$tmp/upstream.conf" -g 'daemon off;' >upstream.out 2>&1 </dev/null &
upstream=$!
running+=("$upstream")
others=("${running[@]}")
set_link 0 0
until "${in_near[@]}" bash -c ": <'/dev/tcp/$far_address/443'" 2>/dev/null; do
    kill -0 "$upstream" 2>/dev/null || die "the upstream does not start: $(cat upstream.log)"
    sleep 0.05
done

say 'what the link can carry'
before=$(packets) began=$(now) relay_used=$(relay_time)
load "http://$far_address/10m" 4 2 >/dev/null
carried=$(($(packets) - before)) took=$(($(now) - began)) relay_used=$(($(relay_time) - relay_used))
limit=$(awk -v n="$carried" -v took="$took" -v used="$relay_used" 'BEGIN {
    printf "%d packets a second", n / took * 1e6
    if (used) printf ", and %d in a second of its processor time", n / used * 1e9
}')
# It had the proxy's core for itself. Now the proxy shall.
[ -z "${relay:-}" ] || [ ${#on_other_core[@]} = 0 ] || taskset -cp "${on_other_core[2]}" "$relay" >/dev/null

# Name, delay of one direction in microseconds, lost packets of a million.
links=('0 ms;0;0' '20 ms;10000;0' '20 ms, 0.5 % lost;10000;5000')
scenarios=('1k 64' '1k 16' '1k 1' '100k 16')
versions=(1 2 auto)
declare -A pid_of port_of=([1]=8001 [2]=8002 [auto]=8003)
for ((round = 1; round <= rounds; round++)); do
    for link in "${links[@]}"; do
        IFS=';' read -r name delay lost <<<"$link"
        say "round $round of $rounds: $name"
        # Fresh connections: they know the round trip of no other link.
        set_link "$delay" "$lost"
        start_proxies
        for scenario in "${scenarios[@]}"; do
            read -r path connections <<<"$scenario"
            duration=$seconds
            # Some 50 answers a second, and few losses among them.
            [ "$connections" != 1 ] || [ "$lost" = 0 ] || duration=$((3 * seconds))
            # All within seconds of each other, so that what disturbs one disturbs all.
            for version in "${versions[@]}"; do
                measure "$name" "$connections" "$path" "$duration" "$version"
            done
        done
        stop_proxies
    done
done

printf '%s, %s cores, %s rounds of %s s; %s; %s; TCP congestion control %s\n\n' "$(uname -srm)" "$(nproc)" "$rounds" "$seconds" \
    "$(nginx -v 2>&1 | sed 's/.*version: //')" "$("$binary" --version)" "$congestion"
awk -F'\t' '
    function median(key,  parts, n, i, j, swap) {
        n = split(values[key], parts, " ")
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && parts[j - 1] + 0 > parts[j] + 0; j--) { swap = parts[j]; parts[j] = parts[j - 1]; parts[j - 1] = swap }
        return n % 2 ? parts[(n + 1) / 2] : (parts[n / 2] + parts[n / 2 + 1]) / 2
    }
    function note(what, value) { values[row, $4, what] = values[row, $4, what] " " value }
    function three(key, what, form) {
        return sprintf(form " · " form " · " form, median(key SUBSEP 1 SUBSEP what), median(key SUBSEP 2 SUBSEP what), median(key SUBSEP "auto" SUBSEP what))
    }
    {
        row = "| " $1 " | " ($2 == "1k" ? "1 KiB" : "100 KiB") " | " $3
        if (!(row in seen)) { seen[row] = 1; order[++rows] = row }
        note("rate", $5 / $6 * 1e6); note("p50", $7 / 1000); note("p99", $8 / 1000); note("used", $9 / $5 / 1000)
    }
    END {
        print "| round trip | answers | connections | answers a second: 1 · 2 · auto | p50, ms | p99, ms | processor time of the proxy for each, us |"
        print "|---|--:|--:|--:|--:|--:|--:|"
        for (r = 1; r <= rows; r++)
            print order[r] " | " three(order[r], "rate", "%.0f") " | " three(order[r], "p50", "%.1f") " | " three(order[r], "p99", "%.1f") \
                " | " three(order[r], "used", "%.0f") " |"
    }' results
printf '\nThe link: %s; without a delay it carries %s. ' "$kind" "$limit"
[ -z "${relay:-}" ] || awk -F'\t' '
    { if ($10 > busy[$1 != "0 ms"]) busy[$1 != "0 ms"] = $10 }
    END { printf "Its program was busy for %.0f %% of the time of a point at most, and %.0f %% with a delay. ", busy[0], busy[1] }' results
printf 'Packets lost for want of room: %s.\n' "$(overflow)"
