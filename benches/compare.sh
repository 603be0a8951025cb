#!/usr/bin/env bash
# The release build beside nginx and HAProxy: each takes plain HTTP/1.1 from clients, adds an `Authorization`, and forwards
# over kept-alive TLS to the same upstream, all on this machine and with one worker. Prints a Markdown table.
#
#   benches/compare.sh                   about ten minutes
#   ROUNDS=1 SECONDS_EACH=1 benches/compare.sh    a glance
#
#   ROUNDS=N          how often each point is measured; the median counts; 3
#   SECONDS_EACH=N    load of one point; 3
#   STARTS=N          starts of each proxy; the median counts; 5
#   BINARY=FILE       measures this build instead of making one
#
# The figure is the processor time that a proxy and its children take for a request, from /proc/PID/stat; requests per second
# would be the load generator's as much as the proxy's. nginx is measured twice in each round, first and last: how much the
# two differ is the noise. With two cores or more the proxy has one for itself. Bodies come as JSON, in which
# atlas-auth-proxy, unlike the others, rewrites links, and as a gzip log, which it passes on.
#
# Needs nginx, haproxy, wrk and openssl (Debian packages of these names), cargo unless there is BINARY; no root, no network.
# Ends what it started, however it ends.
set -euo pipefail
PATH=$PATH:/usr/sbin
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-3} starts=${STARTS:-5} binary=${BINARY:-}

. "$(dirname "$0")/common.sh"

need nginx haproxy wrk openssl awk
find_binary

# For a thousand connections and more. Not all that is allowed: HAProxy makes tables for as many when it starts.
ulimit -Sn 8192 || die "needs 8192 open files (ulimit -n), may have $(ulimit -Hn)"

# Ports below those that the kernel gives to outgoing connections.
used=' '
new_port() {
    while :; do
        port=$((20000 + RANDOM % 12000))
        if [[ $used != *" $port "* ]] && ! (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; then
            used+="$port "
            return
        fi
    done
}

user=
[ "$(id -u)" != 0 ] || user='user root;'
token=$(printf 't0ken%.0s' {1..40})
new_port
upstream_port=$port

# A page of projects with links, of so many bytes: what no project fills is a description.
page() {
    awk -v bytes="$1" -v base="https://localhost:$upstream_port/api/atlas/v2/groups" 'BEGIN {
        head = "{\"links\":[{\"href\":\"" base "?pageNum=1\",\"rel\":\"self\"}],\"results\":["
        tail = "],\"totalCount\":1000000,\"description\":\""
        size = length(head) + length(tail) + 2
        printf "%s", head
        for (;;) {
            id = sprintf("6a793f8a%016x", n)
            project = (n++ ? "," : "") "{\"clusterCount\":1,\"created\":\"2026-08-10T03:03:41Z\",\"id\":\"" id "\",\"links\":[" \
                "{\"href\":\"" base "/" id "\",\"rel\":\"self\"}," \
                "{\"href\":\"" base "/" id "/clusters\",\"rel\":\"https://cloud.mongodb.com/clusters\"}," \
                "{\"href\":\"" base "/" id "/databaseUsers\",\"rel\":\"https://cloud.mongodb.com/databaseUsers\"}]," \
                "\"name\":\"project-" n "\",\"orgId\":\"5a0a1e7e0f2912c554080adc\",\"withDefaultAlertsSettings\":true}"
            size += length(project)
            if (size > bytes)
                break
            printf "%s", project
        }
        size -= length(project)
        printf "%s%*s\"}", tail, bytes - size, ""
    }'
}

upstream_configuration() {
    cat <<EOF
$user worker_processes 1; error_log $tmp/upstream.log error; pid $tmp/upstream.pid;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; output_buffers 2 128k; open_file_cache max=64;
  client_body_temp_path $tmp/upstream-body; proxy_temp_path $tmp/upstream-proxy; fastcgi_temp_path $tmp/upstream-fastcgi;
  uwsgi_temp_path $tmp/upstream-uwsgi; scgi_temp_path $tmp/upstream-scgi;
  map_hash_bucket_size 512; map \$http_authorization \$stranger { default 1; "Bearer $token" 0; }
  types { } default_type application/vnd.atlas.2023-01-01+json;
  server {
    listen 127.0.0.1:$upstream_port ssl http2 backlog=4096; server_name localhost; http2_max_concurrent_streams 512;
    ssl_certificate $tmp/server.pem; ssl_certificate_key $tmp/server.key; ssl_protocols TLSv1.2 TLSv1.3;
    root $tmp/www;
    location = /api/oauth/token {
      default_type application/json;
      return 200 '{"access_token":"$token","expires_in":3600,"token_type":"Bearer"}';
    }
    location = /api/oauth/revoke { return 200; }
    location / { if (\$stranger) { return 401; } }
    location /api/atlas/v2/logs/ { if (\$stranger) { return 401; } default_type application/vnd.atlas.2023-02-01+gzip; }
  }
}
EOF
}

nginx_configuration() {
    cat <<EOF
$user worker_processes 1; error_log $tmp/nginx.log error; pid $tmp/nginx-$1.pid;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path $tmp/nginx-body; proxy_temp_path $tmp/nginx-proxy; fastcgi_temp_path $tmp/nginx-fastcgi;
  uwsgi_temp_path $tmp/nginx-uwsgi; scgi_temp_path $tmp/nginx-scgi;
  upstream atlas { server 127.0.0.1:$upstream_port; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 600s; }
  server {
    listen 127.0.0.1:$1 backlog=4096; client_max_body_size 0;
    location / {
      proxy_pass https://atlas; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost;
      proxy_set_header Authorization "Bearer $token"; proxy_request_buffering off; proxy_max_temp_file_size 0;
      proxy_buffer_size 16k; proxy_buffers 16 16k; proxy_busy_buffers_size 32k;
      proxy_ssl_verify on; proxy_ssl_trusted_certificate $tmp/ca.pem; proxy_ssl_name localhost; proxy_ssl_server_name on;
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
    }
  }
}
EOF
}

haproxy_configuration() {
    cat <<EOF
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
  backlog 4096
listen proxy
  bind 127.0.0.1:$1
  http-request set-header Authorization "Bearer $token"
  http-request set-header Host localhost
  http-reuse always
  server atlas 127.0.0.1:$upstream_port ssl verify required ca-file $tmp/ca.pem sni str(localhost) verifyhost localhost alpn $2
EOF
}

# start NAME: a proxy on $port, its process in $pid.
start() {
    local command
    case $1 in
    nginx)
        nginx_configuration "$port" >"$tmp/nginx-$port.conf"
        command=(nginx -e "$tmp/nginx.log" -p "$tmp" -c "$tmp/nginx-$port.conf" -g 'daemon off;')
        ;;
    'HAProxy, h1' | 'HAProxy, h2')
        local alpn=http/1.1
        [ "$1" = 'HAProxy, h1' ] || alpn=h2
        haproxy_configuration "$port" $alpn >"$tmp/haproxy-$port.cfg"
        command=(haproxy -db -f "$tmp/haproxy-$port.cfg")
        ;;
    *)
        # Nothing of the caller's own settings. As the others, it logs no requests.
        command=(env -i PATH="$PATH" MONGODB_ATLAS_CLIENT_ID=mdb_sa_id_0123456789abcdef01234567
            MONGODB_ATLAS_CLIENT_SECRET=mdb_sa_sk_0123456789abcdefghijklmnopqrstuvwxyzABCD
            "$binary" run --listen "127.0.0.1:$port" --admin-listen 127.0.0.1:0 --workers 1 --log-level warn
            --base-url "https://localhost:$upstream_port" --upstream-ca "$tmp/ca.pem" --upstream-http "${1##*h}")
        ;;
    esac
    "${on_proxy_core[@]}" "${command[@]}" >>"$tmp/${1%%,*}.out" 2>&1 </dev/null &
    pid=$!
    running+=("$pid")
}

stop() {
    local pid=$1 kept=() other
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    for other in "${running[@]}"; do
        [ "$other" = "$pid" ] || kept+=("$other")
    done
    running=("${kept[@]}")
}

# get FD PORT: opens a connection and sends a request over it; true when the answer is 200.
get() {
    local -n to=$1
    local status=
    { exec {to}<>"/dev/tcp/127.0.0.1/$2"; } 2>/dev/null || return 1
    printf 'GET /api/atlas/v2/1k HTTP/1.1\r\nHost: localhost\r\n\r\n' 1>&"$to" 2>/dev/null || true
    IFS= read -r -t 5 status <&"$to" || true
    [[ $status == *' 200 '* ]] && return
    exec {to}>&-
    return 1
}

# Until the proxy on $port, process $pid, gives its first answer 200.
first_answer() {
    local connection until=$((SECONDS + 20))
    until get connection "$port"; do
        kill -0 "$pid" 2>/dev/null || die "$1 does not start: $(tail -n 3 "$tmp/${1%%,*}.out" "$tmp"/*.log)"
        [ $SECONDS -lt $until ] || die "$1 does not answer: $(tail -n 3 "$tmp/${1%%,*}.out")"
    done
    exec {connection}>&-
}

family() { printf '%s ' "$1" && cat "/proc/$1/task/$1/children"; }

# Resident memory of a process and its children, KiB.
memory() {
    local one files=()
    for one in $(family "$1"); do files+=("/proc/$one/status"); done
    awk '/^VmRSS:/ { sum += $2 } END { print sum }' "${files[@]}"
}

# Their processor time so far, in ticks.
ticks() {
    local one files=()
    for one in $(family "$1"); do files+=("/proc/$one/stat"); done
    # The name before the `)` may have blanks.
    awk '{ sub(/.*\) /, ""); sum += $12 + $13 } END { print sum }' "${files[@]}"
}

# load NAME PORT PID CONNECTIONS PATH: microseconds of processor time for a request.
load() {
    local before after out
    before=$(ticks "$3")
    out=$("${on_other_core[@]}" wrk -t 1 -c "$4" -d "${6:-$seconds}" --timeout 10 "http://127.0.0.1:$2/api/atlas/v2/$5")
    after=$(ticks "$3")
    [[ $out != *Non-2xx* && $out != *'Socket errors'* ]] || die "$1 fails under load ($5): $out"
    awk -v ticks=$((after - before)) -v hertz="$(getconf CLK_TCK)" '/requests in/ {
        if ($1 == 0) exit 1
        print ticks / hertz * 1e6 / $1
    }' <<<"$out" || die "$1 answers nothing under load ($5): $out"
}

record() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$tmp/results"; }

# ---------------------------------------------------------------------------------------------------------------------

cd "$tmp"
certificates localhost DNS:localhost 2>openssl.log || die "openssl: $(tail -n 3 openssl.log)"
mkdir -p www/api/atlas/v2/logs
page 1024 >www/api/atlas/v2/1k
page $((100 << 10)) >www/api/atlas/v2/100k
page $((10 << 20)) >www/api/atlas/v2/10m
head -c $((100 << 10)) /dev/urandom >www/api/atlas/v2/logs/100k
head -c $((10 << 20)) /dev/urandom >www/api/atlas/v2/logs/10m
upstream_configuration >upstream.conf
"${on_other_core[@]}" nginx -e "$tmp/upstream.log" -p "$tmp" -c "$tmp/upstream.conf" -g 'daemon off;' >upstream.out 2>&1 </dev/null &
running+=("$!")
until (: <"/dev/tcp/127.0.0.1/$upstream_port") 2>/dev/null; do
    kill -0 "${running[0]}" 2>/dev/null || die "the upstream does not start: $(cat upstream.log)"
    sleep 0.05
done

proxies=(nginx 'HAProxy, h1' 'HAProxy, h2' 'atlas-auth-proxy, h1' 'atlas-auth-proxy, h2')
declare -A port_of pid_of
for name in "${proxies[@]}"; do
    say "$name: start, memory"
    for ((n = 0; n < starts; n++)); do
        new_port
        began=${EPOCHREALTIME/[.,]/}
        start "$name"
        first_answer "$name"
        record 'first answer' "$name" $((${EPOCHREALTIME/[.,]/} - began))
        [ $((n + 1)) = "$starts" ] || stop "$pid"
    done
    port_of[$name]=$port pid_of[$name]=$pid
    sleep 1
    idle=$(memory "$pid")
    record 'memory idle' "$name" "$idle"
    connections=()
    for ((n = 0; n < 1000; n++)); do
        get connection "$port" || die "$name refuses connection $n"
        connections+=("$connection")
    done
    sleep 2
    record 'memory of 1,000' "$name" $(($(memory "$pid") - idle))
    for connection in "${connections[@]}"; do
        exec {connection}>&-
    done
done

scenarios=('1k 64' '1k 1' '100k 16' 'logs/100k 16' '10m 4' 'logs/10m 4')
for name in "${proxies[@]}"; do
    load "$name" "${port_of[$name]}" "${pid_of[$name]}" 64 1k 1 >/dev/null
done
for ((round = 1; round <= rounds; round++)); do
    for scenario in "${scenarios[@]}"; do
        say "round $round of $rounds: ${scenario/ /, } connections"
        read -r path connections <<<"$scenario"
        # All within seconds of each other, so that what disturbs one disturbs all.
        for name in "${proxies[@]}" 'nginx again'; do
            which=${name% again}
            record "$scenario" "$name" "$(load "$which" "${port_of[$which]}" "${pid_of[$which]}" "$connections" "$path")"
        done
    done
done

printf '%s, %s cores, %s rounds of %s s; %s, HAProxy %s; %s\n\n' "$(uname -srm)" "$(nproc)" "$rounds" "$seconds" \
    "$(nginx -v 2>&1 | sed 's/.*version: //')" "$(haproxy -v | awk 'NR == 1 { print $3 }')" "$("$binary" --version)"
printf 'Processor time for a request: nginx in microseconds, the others as a multiple of it.\n\n'
awk -F'\t' '
    function median(key,  parts, n, i, j, swap) {
        n = split(values[key], parts, " ")
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && parts[j - 1] + 0 > parts[j] + 0; j--) { swap = parts[j]; parts[j] = parts[j - 1]; parts[j - 1] = swap }
        return n % 2 ? parts[(n + 1) / 2] : (parts[n / 2] + parts[n / 2 + 1]) / 2
    }
    { values[$1 SUBSEP $2] = values[$1 SUBSEP $2] " " $3 }
    END {
        columns = split("1k 64,1k 1,100k 16,logs/100k 16,10m 4,logs/10m 4", column, ",")
        rows = split("nginx;HAProxy, h1;HAProxy, h2;atlas-auth-proxy, h1;atlas-auth-proxy, h2", row, ";")
        print "| upstream by h1 or h2 | 1 KiB, 64 connections | 1 KiB, 1 connection | 100 KiB JSON, 16 | 100 KiB log, 16 | 10 MiB JSON, 4 | 10 MiB log, 4 | idle RSS | an idle connection | start to first answer |"
        print "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        for (r = 1; r <= rows; r++) {
            line = "| " row[r]
            for (c = 1; c <= columns; c++) {
                own = median(column[c] SUBSEP row[r])
                # The mean of its first and its last in each round.
                base = (median(column[c] SUBSEP "nginx") + median(column[c] SUBSEP "nginx again")) / 2
                line = line (r == 1 ? sprintf(" | %.0f us", base) : sprintf(" | %.2f", own / base))
            }
            printf "%s | %.1f MiB | %.1f KiB | %.0f ms |\n", line, median("memory idle" SUBSEP row[r]) / 1024,
                median("memory of 1,000" SUBSEP row[r]) / 1000, median("first answer" SUBSEP row[r]) / 1000
        }
        line = "| noise: nginx last by nginx first"
        for (c = 1; c <= columns; c++)
            line = line sprintf(" | %.2f", median(column[c] SUBSEP "nginx again") / median(column[c] SUBSEP "nginx"))
        print line " | | | |"
    }' results
