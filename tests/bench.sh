#!/usr/bin/env bash
# bench.sh [options]   measures broker-lite against a real ActiveMQ Classic on this machine, with the same
# load through the same client (`broker-lite bench`), in turn, and prints a table of ratios.
#   --rounds N       rounds, each of which starts both brokers anew (3)
#   --scale PERCENT  message counts as a share of the list's (100)
#   --suite mem|disk|all   non-persistent loads, persistent ones, or both (all)
#   --only REGEX     only loads of the list that match
#   --dir DIR        where both brokers keep their journals (a temporary directory)
#   --out FILE       keep the JSON lines
# Needs PEERS_DIR (../shared/peers beside the project): the scripts that run a real ActiveMQ. BROKER_LITE names a
# binary to measure instead of building one; BROKER_LITE_ARGS are further arguments of its `start`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
peers=${PEERS_DIR:-$root/../shared/peers}
rounds=3 scale=100 suite=all only=. dir="" out=""

die() { echo "bench.sh: $*" >&2; exit 1; }
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2; shift 2 ;;
        --scale) scale=$2; shift 2 ;;
        --suite) suite=$2; shift 2 ;;
        --only) only=$2; shift 2 ;;
        --dir) dir=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        *) sed -n '2,12p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
    esac
done
[ -x "$peers/activemq.sh" ] || [ -r "$peers/activemq.sh" ] || die "no real ActiveMQ: $peers/activemq.sh is missing"
command -v jq >/dev/null || die "jq is needed"

# suite | count | arguments of `broker-lite bench`. As many messages again come first, to warm both up.
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
disk|10000|produce --size 1k --persistent --sync --producers 8 --queues 8
disk|20000|produce --size 1k --persistent --pipelined
disk|20000|produce --size 1k --persistent --batch 100
disk|20000|consume --size 1k --persistent
disk|3000|pc --size 1k --persistent
disk|10000|pc --size 1k --persistent --producers 4 --consumers 4 --queues 4
disk|20000|pc --size 1k --persistent --batch 100
disk|1500|round-trip --size 1k --persistent
TXT
}

if [ -z "${BROKER_LITE:-}" ]; then
    (cd "$root" && cargo build --release --locked -p broker-lite) >&2
    BROKER_LITE=$root/target/release/broker-lite
fi
work=$(mktemp -d)
[ -n "$dir" ] || dir=$work
results=${out:-$work/results.jsonl}
: >"$results"

lite_pid="" amq_up=0
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
}
trap 'stop_all; rm -rf "$work"' EXIT

micros() { echo "${EPOCHREALTIME/[.,]/}"; }
rss() { awk '/^VmRSS/{print $2}' "/proc/$1/status"; }
free_port() { # ActiveMQ's script wants to be told one
    local port
    while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

start_lite() { # suite
    local from args=(--memory)
    rm -rf "$dir/lite" "$work/ports"
    [ "$1" = mem ] || args=(--data "$dir/lite")
    mkfifo "$work/stdout.$1"
    from=$(micros)
    # shellcheck disable=SC2086
    "$BROKER_LITE" start "${args[@]}" --listen tcp://127.0.0.1:0 --ports-file "$work/ports" --log warn \
        ${BROKER_LITE_ARGS:-} >"$work/stdout.$1" &
    lite_pid=$!
    local line
    while IFS= read -r line; do [ "$line" = ready ] && break; done <"$work/stdout.$1"
    [ "$line" = ready ] || die "broker-lite did not start"
    lite_ms=$((($(micros) - from) / 1000))
    rm "$work/stdout.$1"
    lite_url=$(head -n 1 "$work/ports")
}

start_amq() { # suite
    local line args=()
    rm -rf "$dir/amq"
    [ "$1" = mem ] || args=(--persistent "$dir/amq")
    line=$(bash "$peers/activemq.sh" start --name bench --run-dir "$work/run" --port "$amq_port" "${args[@]}")
    amq_up=1
    amq_pid=$(sed -n 's/.*pid=\([0-9]*\).*/\1/p' <<<"$line")
    amq_ms=$(sed -n 's/.*startup_ms=\([0-9]*\).*/\1/p' <<<"$line")
    amq_url=tcp://127.0.0.1:$amq_port
}

note() { # label what suite value
    printf '{"label":"%s","mode":"%s","suite":"%s","value":%s}\n' "$1" "$2" "$3" "$4" >>"$results"
}

measure() { # broker load count
    local url pid
    if [ "$1" = broker-lite ]; then url=$lite_url pid=$lite_pid; else url=$amq_url pid=$amq_pid; fi
    # shellcheck disable=SC2086
    "$BROKER_LITE" bench $2 --count "$3" --warmup "$3" --url "$url" --broker-pid "$pid" --label "$1" --json \
        --log error </dev/null | jq -c --arg load "$2" '. + {load: $load}' | tee -a "$results" |
        jq -r '"    \(.label): \(.msgs_per_s) msg/s, p99 \(.p99_us // "-") us, broker \(.broker_cpu_us_per_msg) us CPU"' >&2
}

for s in mem disk; do
    [ "$suite" = all ] || [ "$suite" = "$s" ] || continue
    for ((round = 1; round <= rounds; round++)); do
        echo "# $s, round $round of $rounds" >&2
        "$BROKER_LITE" bench limits --count 1000 --dir "$dir" --label machine --json >>"$results"
        amq_port=$(free_port)
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
            for broker in $order; do measure "$broker" "$load" "$count" || die "$broker failed: $load"; done
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
    (["| | ActiveMQ | broker-lite | times better |", "|---|---:|---:|---:|"]
    + ([.[] | select(.load)] | group_by(.load) | sort_by(.[0].persistent) | map(
        .[0].load as $load
        | row("\($load): msg/s"; .msgs_per_s; true),
          (if .[0].mode == "round-trip" then
              row("\($load): p50, us"; .p50_us; false), row("\($load): p99, us"; .p99_us; false)
           else empty end),
          row("\($load): broker CPU, us/msg"; .broker_cpu_us_per_msg; false)))
    + ([.[] | select(.suite)] | group_by([.mode, .suite]) | map(
        "\(.[0].mode) (\(.[0].suite))" as $name | row($name; .value; false)))
    + ["", "| this machine | a second | p50, us | p99, us |", "|---|---:|---:|---:|"]
    + ([.[] | select(.label == "machine")] | group_by(.mode) | map(
        "| \(if .[0].mode == "limit-sync" then "write 1 KiB and sync" else "1 KiB to and fro over the loopback" end) | \(
            map(.msgs_per_s) | median | show) | \(map(.p50_us) | median | show) | \(map(.p99_us) | median | show) |"))
    ) | .[]' "$results"
