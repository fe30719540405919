#!/usr/bin/env bash
# bench.sh [options]   measures broker-lite against a real ActiveMQ Classic on this machine, with the same
# load through the same client (`broker-lite bench`), in turn, and prints a table of ratios.
#   --rounds N       rounds, each of which starts both brokers anew (3)
#   --scale PERCENT  message counts as a share of the list's (100)
#   --suite SUITES   some of mem,disk,sql (all): non-persistent loads; persistent ones on ActiveMQ's KahaDB, which syncs
#                    each write, and our journal; and on one PostgreSQL, which both have a database of
#   --only REGEX     only loads of the list that match
#   --dir DIR        where brokers and the database keep what they store (a temporary directory)
#   --out FILE       keep the JSON lines
# Needs PEERS_DIR (../shared/peers beside the project): the scripts that run a real ActiveMQ; for `sql` also what
# `databases.sh install` installs. BROKER_LITE names a binary to measure instead of building one; BROKER_LITE_ARGS are
# further arguments of its `start`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
peers=${PEERS_DIR:-$root/../shared/peers}
rounds=3 scale=100 suites=mem,disk,sql only=. dir="" out=""

die() { echo "bench.sh: $*" >&2; exit 1; }
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2; shift 2 ;;
        --scale) scale=$2; shift 2 ;;
        --suite) suites=$2; shift 2 ;;
        --only) only=$2; shift 2 ;;
        --dir) dir=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        *) sed -n '2,14p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
    esac
done
[ -x "$peers/activemq.sh" ] || [ -r "$peers/activemq.sh" ] || die "no real ActiveMQ: $peers/activemq.sh is missing"
command -v jq >/dev/null || die "jq is needed"

# suite | count | arguments of `broker-lite bench`. As many messages again come first, to warm both up, up to 20,000.
# `recover` is not one of its loads: each broker is killed with so many messages, which stay, and started again.
loads() {
    cat <<'TXT'
mem|100000|produce --size 100
mem|100000|produce --size 1k
mem|5000|produce --size 64k
mem|50000|produce --size 1k --pipelined
mem|10000|produce --size 1k --sync
mem|50000|produce --size 1k --batch 100
mem|100000|consume --size 1k
mem|100000|pc --size 100
mem|100000|pc --size 1k
mem|5000|pc --size 64k
mem|100000|pc --size 1k --producers 4 --consumers 4 --queues 4
mem|10000|fan-out --size 1k --consumers 10
mem|10000|round-trip --size 100
mem|10000|round-trip --size 1k
mem|20000|round-trip --size 1k --producers 8
disk|3000|produce --size 1k --persistent --sync
disk|10000|produce --size 1k --persistent --sync --producers 8
disk|20000|produce --size 1k --persistent --sync --producers 64
disk|20000|produce --size 1k --persistent --sync --producers 64 --queues 64
disk|20000|produce --size 1k --persistent --pipelined
disk|20000|produce --size 1k --persistent --batch 100
disk|3000|pc --size 1k --persistent
disk|10000|pc --size 1k --persistent --producers 4 --consumers 4 --queues 4
disk|20000|pc --size 1k --persistent --batch 100
disk|1500|round-trip --size 1k --persistent
disk|200000|consume --size 1k --persistent
disk|200000|recover --size 1k --persistent
sql|1000|produce --size 1k --persistent --sync
sql|4000|produce --size 1k --persistent --sync --producers 8
sql|8000|produce --size 1k --persistent --sync --producers 64
sql|8000|produce --size 1k --persistent --sync --producers 64 --queues 64
sql|5000|produce --size 1k --persistent --pipelined
sql|10000|produce --size 1k --persistent --batch 100
sql|50000|consume --size 1k --persistent
sql|50000|recover --size 1k --persistent
TXT
}

if [ -z "${BROKER_LITE:-}" ]; then
    (cd "$root" && cargo build --release --locked -p broker-lite) >&2
    BROKER_LITE=$root/target/release/broker-lite
fi
work=$(mktemp -d)
chmod 711 "$work" # a database does not run as root
[ -n "$dir" ] || dir=$work
results=${out:-$work/results.jsonl}
: >"$results"

lite_pid="" database_pid="" amq_up=0
stop_all() {
    if [ -n "$lite_pid" ]; then
        kill -TERM "$lite_pid" 2>/dev/null || true
        wait "$lite_pid" 2>/dev/null || true
        lite_pid=""
    fi
    if [ "$amq_up" = 1 ]; then
        bash "$peers/activemq.sh" stop --name bench --run-dir "$work/run" --purge >/dev/null || true
        amq_up=0
    fi
    if [ -n "$database_pid" ]; then
        kill -INT "$database_pid" 2>/dev/null || true
        wait "$database_pid" 2>/dev/null || true
        database_pid=""
    fi
    rm -rf "$dir/lite" "$dir/amq" "$dir/database"
}
trap 'stop_all; rm -rf "$work"' EXIT

micros() { echo "${EPOCHREALTIME/[.,]/}"; }
rss() { awk '/^VmRSS/{print $2}' "/proc/$1/status"; }
is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() { # ActiveMQ's script wants to be told one
    local port
    while port=$((20000 + RANDOM % 12000)); is_open "$port"; do :; done
    echo "$port"
}

sql() { psql -q -h 127.0.0.1 -p "$database_port" -U tests -d tests -c "$1"; }

# One PostgreSQL, as it is by default: what is committed is on the disk.
start_database() {
    local ends=$((SECONDS + 60))
    database_port=$(free_port)
    mkdir -p "$dir/database"
    bash "$root/tests/databases.sh" postgres "$dir/database" "$database_port" -c fsync=on \
        >"$work/database.log" 2>&1 &
    database_pid=$!
    until sql 'SELECT 1' >"$work/answer" 2>&1; do
        [ "$SECONDS" -lt "$ends" ] || die "PostgreSQL did not start: $(tail -n 3 "$work/database.log")"
    done
    sql 'CREATE DATABASE lite'
    sql 'CREATE DATABASE activemq'
}

write_config() {
    sed "s/@port@/$database_port/; s/@database@/activemq/; s/@policy@//" \
        "$root/tests/activemq-on-postgres.xml" >"$work/activemq.xml"
    [ -d "$work/jars" ] || bash "$root/tests/databases.sh" jars "$work/jars"
}

start_lite() { # suite
    local from line args
    case $1 in
        mem) args=(--memory) ;;
        disk) args=(--data "$dir/lite") ;;
        sql) args=(--store "postgres://tests@127.0.0.1:$database_port/lite") ;;
    esac
    rm -f "$work/stdout"
    mkfifo "$work/stdout"
    from=$(micros)
    # shellcheck disable=SC2086
    "$BROKER_LITE" start "${args[@]}" --listen "tcp://127.0.0.1:$lite_port" --log warn \
        ${BROKER_LITE_ARGS:-} >"$work/stdout" &
    lite_pid=$!
    while IFS= read -r line; do [ "$line" = ready ] && break; done <"$work/stdout"
    [ "$line" = ready ] || die "broker-lite did not start"
    lite_ms=$((($(micros) - from) / 1000))
    lite_url=tcp://127.0.0.1:$lite_port
}

start_amq() { # suite
    local line args=()
    case $1 in
        mem) ;;
        disk) args=(--persistent "$dir/amq") ;;
        sql) args=(--config "$work/activemq.xml") ;;
    esac
    line=$(amq start --name bench --run-dir "$work/run" --port "$amq_port" "${args[@]}") || die "ActiveMQ did not start"
    amq_up=1
    amq_pid=$(sed -n 's/.*pid=\([0-9]*\).*/\1/p' <<<"$line")
    amq_ms=$(sed -n 's/.*startup_ms=\([0-9]*\).*/\1/p' <<<"$line")
    amq_url=tcp://127.0.0.1:$amq_port
}

amq() {
    local jars=/usr/share/java
    [ ! -d "$work/jars" ] || jars=$work/jars
    PEERS_JARS=${PEERS_JARS:-$jars} bash "$peers/activemq.sh" "$@"
}

note() { # label what suite value [of]
    printf '{"label":"%s","mode":"%s","suite":"%s","value":%s,"of":"%s"}\n' "$1" "$2" "$3" "$4" "${5:-}" >>"$results"
}

client() { # broker suite count load...
    local url pid
    if [ "$1" = broker-lite ]; then url=$lite_url pid=$lite_pid; else url=$amq_url pid=$amq_pid; fi
    # shellcheck disable=SC2086
    "$BROKER_LITE" bench ${*:4} --count "$3" --url "$url" --broker-pid "$pid" --label "$1" --json --log error </dev/null
}

measure() { # broker suite load count
    case $3 in
        recover*) recover "$@"; return ;;
    esac
    local warm=$4
    [ "$warm" -le 20000 ] || warm=20000
    client "$1" "$2" "$4" "$3 --warmup $warm" |
        jq -c --arg load "$3" --arg suite "$2" '. + {load: $load, of: $suite}' | tee -a "$results" |
        jq -r '"    \(.label): \(.msgs_per_s) msg/s, p99 \(.p99_us // "-") us, broker \(.broker_cpu_us_per_msg) us CPU"' >&2
}

# kill -9 with so many messages; from the start until it is ready, and until a client has the first of them.
recover() { # broker suite load count
    local options=${3#recover} from ms first cpu client_pid url
    client "$1" "$2" "$4" "produce $options --batch 500 --keep --destination RECOVER" >"$work/filled" || return 1
    if [ "$1" = broker-lite ]; then
        kill -KILL "$lite_pid"
        wait "$lite_pid" 2>/dev/null || true
        url=$lite_url
    else
        amq stop --kill --name bench --run-dir "$work/run" >"$work/stopped"
        # The first of its threads has ended.
        while is_open "$amq_port"; do :; done
        url=$amq_url
    fi
    from=$(micros)
    # shellcheck disable=SC2086
    { "$BROKER_LITE" bench consume $options --found --destination RECOVER --count 1 --log error --json \
        --url "failover:($url)?initialReconnectDelay=5&maxReconnectDelay=5" >"$work/first" && micros >"$work/at"; } &
    client_pid=$!
    if [ "$1" = broker-lite ]; then
        start_lite "$2"
        ms=$lite_ms cpu=$(cpu_ms "$lite_pid")
    else
        start_amq "$2"
        ms=$amq_ms cpu=$(cpu_ms "$amq_pid")
    fi
    wait "$client_pid" || die "no message came from $1 after it was killed"
    first=$((($(cat "$work/at") - from) / 1000))
    note "$1" "kill -9 with $4 messages of 1 KiB, start to ready, ms" "$2" "$ms"
    note "$1" "the same, CPU of the broker, ms" "$2" "$cpu"
    note "$1" "the same, start to the first message, ms" "$2" "$first"
    echo "    $1: ready after $ms ms, $cpu ms CPU, first message after $first ms" >&2
}

cpu_ms() { # CPU time of a process so far
    awk '{ sub(/.*\) /, ""); print ($12 + $13) * 10 }' "/proc/$1/stat"
}

for s in mem disk sql; do
    [[ ",$suites," = *,$s,* ]] || continue
    for ((round = 1; round <= rounds; round++)); do
        echo "# $s, round $round of $rounds" >&2
        for writers in 1 64; do
            "$BROKER_LITE" bench limits --count $((1000 * writers)) --producers "$writers" --dir "$dir" --label machine \
                --json >>"$results"
        done
        [ "$s" != sql ] || { start_database; write_config; }
        amq_port=$(free_port)
        lite_port=$(free_port)
        start_lite "$s"
        start_amq "$s"
        note broker-lite "start, ms" "$s" "$lite_ms"
        note activemq "start, ms" "$s" "$amq_ms"
        note broker-lite "idle RSS, MiB" "$s" "$(($(rss "$lite_pid") / 1024))"
        note activemq "idle RSS, MiB" "$s" "$(($(rss "$amq_pid") / 1024))"
        while IFS='|' read -r in count load; do
            [ "$in" = "$s" ] || continue
            count=$((count * scale / 100))
            [ "$count" -ge 100 ] || count=100
            echo "  $load, $count messages" >&2
            # Whoever is second finds the disk and the caches as the other left them: they take turns.
            if ((round % 2)); then order="activemq broker-lite"; else order="broker-lite activemq"; fi
            for broker in $order; do measure "$broker" "$s" "$load" "$count" || die "$broker failed: $load"; done
        done < <(loads | grep -E "$only")
        stop_all
    done
done

# Medians over the rounds. Ratios say how many times better broker-lite is.
jq -rs '
    def median: sort | if length == 0 then null else .[(length - 1) / 2 | floor] end;
    def show: if . == null then "-" elif . >= 100 then round | tostring else (. * 10 | round / 10) | tostring end;
    def pick(l; f): map(select(.label == l) | f) | map(select(. != null)) | median;
    def row(name; f; more): pick("activemq"; f) as $a | pick("broker-lite"; f) as $b
        | if $a == null or $b == null then empty
          else "| \(name) | \($a | show) | \($b | show) | \(
              if $a == 0 or $b == 0 then "-" elif more then $b / $a | show else $a / $b | show end) |" end;
    (map(select(.label == "machine"))) as $machine
    | (["| | ActiveMQ | broker-lite | times better |", "|---|---:|---:|---:|"]
    + ([.[] | select(.load)] | group_by([.of, .persistent, .load]) | map(
        "\(.[0].of): \(.[0].load)" as $load
        | row("\($load): msg/s"; .msgs_per_s; true),
          (if .[0].mode == "round-trip" then
              row("\($load): p50, us"; .p50_us; false), row("\($load): p99, us"; .p99_us; false)
           else empty end),
          row("\($load): broker CPU, us/msg"; .broker_cpu_us_per_msg; false)))
    + ([.[] | select(.suite)] | group_by([.suite, .mode]) | map(
        "\(.[0].suite): \(.[0].mode)" as $name | row($name; .value; false)))
    + ["", "| this machine | a second | p50, us | p99, us |", "|---|---:|---:|---:|"]
    + ($machine | group_by([.mode, .producers]) | map(select(.[0].mode == "limit-sync" or .[0].producers == 1)
        | "| \(if .[0].mode != "limit-sync" then "1 KiB to and fro over the loopback"
               elif .[0].producers == 1 then "write 1 KiB and sync"
               else "1 KiB of each of \(.[0].producers), written together and synced" end) | \(
            map(.msgs_per_s) | median | show) | \(map(.p50_us) | median | show) | \(map(.p99_us) | median | show) |"))
    ) | .[]' "$results"
