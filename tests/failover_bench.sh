#!/usr/bin/env bash
# failover_bench.sh [options]   measures what failover costs, on this machine, and prints tables of medians:
#   latency      from kill -9 of the broker to the first message through the standby: our client and the Java
#                client, each with a pair of brokers of its own, in turn
#   throughput   sends over failover:(tcp://..) and over plain tcp://, in turn
# Options:
#   --rounds N        kills of each client (30)
#   --pairs N         measurements of each load over each URI (15)
#   --count N         messages of one such measurement (100000; persistent ones a fifth)
#   --only latency|throughput
#   --brokers LIST    for latency: broker-lite, activemq (both)
#   --options QUERY   more options of the failover URI, such as '&initialReconnectDelay=1'
#   --out FILE        keep the single figures
# Needs PEERS_DIR (../shared/peers beside the project): the scripts that run a real ActiveMQ and the Java client.
# BROKER_LITE and FAILOVER_PROBE name binaries to use instead of building them.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
peers=${PEERS_DIR:-$root/../shared/peers}
rounds=30 pairs=15 count=100000 only=all brokers="broker-lite activemq" options="" out=""

die() { echo "failover_bench.sh: $*" >&2; exit 1; }
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2; shift 2 ;;
        --pairs) pairs=$2; shift 2 ;;
        --count) count=$2; shift 2 ;;
        --only) only=$2; shift 2 ;;
        --brokers) brokers=${2//,/ }; shift 2 ;;
        --options) options=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        *) sed -n '2,16p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
    esac
done
[ -r "$peers/env.sh" ] || die "no Java client: $peers/env.sh is missing"
command -v jq >/dev/null || die "jq is needed"

if [ -z "${BROKER_LITE:-}" ] || [ -z "${FAILOVER_PROBE:-}" ]; then
    (cd "$root" && cargo build --release --locked -p broker-lite -p tests --bins) >&2
    BROKER_LITE=${BROKER_LITE:-$root/target/release/broker-lite}
    FAILOVER_PROBE=${FAILOVER_PROBE:-$root/target/release/failover_probe}
fi
work=$(mktemp -d)
figures=${out:-$work/figures}
: >"$figures"
declare -A pid_of port_of # of a broker or probe, by its name
own=()                    # the brokers that are running, for the end

stop_all() {
    local name
    for name in "${own[@]}"; do
        case $name in
            amq-*) bash "$peers/activemq.sh" stop --name "$name" --run-dir "$work/run" --kill >/dev/null || true ;;
            *) kill -KILL "${pid_of[$name]}" 2>/dev/null || true ;;
        esac
    done
    own=()
}
trap 'stop_all; rm -rf "$work"' EXIT

micros() { echo "${EPOCHREALTIME/[.,]/}"; }
free_port() { # below those that the system gives to outgoing connections
    local port
    while port=$((20000 + RANDOM % 10000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}
accepts() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

start_broker() { # name: amq-.. or lite-.., on its port
    local name=$1 line
    case $name in
        amq-*)
            line=$(bash "$peers/activemq.sh" start --name "$name" --run-dir "$work/run" --port "${port_of[$name]}")
            pid_of[$name]=$(sed -n 's/.*pid=\([0-9]*\).*/\1/p' <<<"$line")
            ;;
        *)
            "$BROKER_LITE" start --memory --listen "tcp://127.0.0.1:${port_of[$name]}" --log error >/dev/null &
            pid_of[$name]=$!
            disown
            while ! accepts "${port_of[$name]}"; do :; done
            ;;
    esac
}
new_broker() { # name
    port_of[$1]=$(free_port)
    start_broker "$1"
    own+=("$1")
}

start_probe() { # client, URI: its output on descriptor fd_out[client], its input on fd_in[client]
    local client=$1 url=$2
    mkfifo "$work/$client.in" "$work/$client.out"
    case $client in
        ours) "$FAILOVER_PROBE" "$url" probe <"$work/$client.in" >"$work/$client.out" & ;;
        java)
            java -Xms64M -Xmx1G -Djava.net.preferIPv4Stack=true -Dorg.slf4j.simpleLogger.defaultLogLevel=off \
                -cp "$work/classes:$(peers_client_cp)" FailoverProbe "$url" probe \
                <"$work/$client.in" >"$work/$client.out" &
            ;;
    esac
    pid_of[$client]=$!
    own+=("$client")
    disown
    exec {fd}>"$work/$client.in"
    fd_in[$client]=$fd
    exec {fd}<"$work/$client.out"
    fd_out[$client]=$fd
    rm "$work/$client.in" "$work/$client.out"
}
expect() { # client, word: the rest of the line that begins with it
    local line
    IFS= read -r -t 60 line <&"${fd_out[$1]}" || die "the $1 client says nothing, where $2 was expected"
    [[ $line = "$2"* ]] || die "the $1 client says $line, where $2 was expected"
    echo "${line#"$2"}"
}

latency() { # kind of broker
    local kind=$1 client round order from to master standby
    echo "# latency with $kind, $rounds rounds" >&2
    for client in ours java; do
        master=$kind-$client-master standby=$kind-$client-standby
        new_broker "$master"
        new_broker "$standby"
        # In order, so that it is known whom to kill.
        start_probe "$client" "failover:(tcp://127.0.0.1:${port_of[$master]},tcp://127.0.0.1:${port_of[$standby]})?randomize=false$options"
    done
    for ((round = 0; round <= rounds; round++)); do
        if ((round % 2)); then order="ours java"; else order="java ours"; fi
        for client in $order; do
            master=$kind-$client-master
            echo go >&"${fd_in[$client]}"
            expect "$client" ready >/dev/null
            from=$(micros)
            kill -KILL "${pid_of[$master]}"
            to=$(expect "$client" resumed)
            # The first round warms up.
            ((round == 0)) || echo "$kind $client $((to - from))" | tee -a "$figures" >&2
            while accepts "${port_of[$master]}"; do :; done
            case $master in amq-*) rm -f "$work/run/$master/pid" ;; esac
            start_broker "$master"
        done
    done
    stop_all
}

throughput() {
    local pair load n order via url
    echo "# throughput, $pairs pairs" >&2
    new_broker lite-throughput
    local tcp=tcp://127.0.0.1:${port_of[lite-throughput]}
    for load in "produce --size 1k" "produce --size 1k --pipelined" "produce --size 1k --persistent --pipelined" \
        "produce --size 1k --persistent --sync"; do
        n=$count
        [[ $load != *persistent* ]] || n=$((count / 5))
        [[ $load != *sync* ]] || n=$((count / 10))
        for ((pair = 1; pair <= pairs; pair++)); do
            if ((pair % 2)); then order="tcp failover"; else order="failover tcp"; fi
            for via in $order; do
                if [ "$via" = tcp ]; then url=$tcp; else url="failover:($tcp)"; fi
                # shellcheck disable=SC2086
                "$BROKER_LITE" bench $load --count "$n" --warmup "$((n / 5))" --url "$url" --json --log error </dev/null |
                    jq -r --arg via "$via" --arg load "${load// /_}" --arg pair "$pair" \
                        '"throughput \($load) \($pair) \($via) \(.msgs_per_s) \(.client_cpu_us_per_msg)"' |
                    tee -a "$figures" >&2
            done
        done
    done
    stop_all
}

declare -A fd_in fd_out
# shellcheck source=/dev/null
. "$peers/env.sh"
if [ "$only" != throughput ]; then
    peers_build
    mkdir "$work/classes"
    javac -nowarn -encoding UTF-8 -d "$work/classes" -cp "$PEERS_CLIENT_JARS" "$root/tests/java/FailoverProbe.java"
    for kind in $brokers; do
        case $kind in
            broker-lite) latency lite ;;
            activemq) latency amq ;;
            *) die "no such broker: $kind" ;;
        esac
    done
fi
[ "$only" = latency ] || throughput

echo "load average at the end: $(cut -d ' ' -f 1-3 /proc/loadavg)"
jq -Rrs '
    def median: sort | if length == 0 then null else (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2 end;
    def digits(n): if . == null then "-" else . * pow(10; n) | round | . / pow(10; n) | tostring end;
    [split("\n")[] | select(. != "") | split(" ")] as $rows
    | ([$rows[] | select(.[0] != "throughput")] | group_by(.[0])) as $latency
    | ([$rows[] | select(.[0] == "throughput")] | group_by(.[1])) as $throughput
    | (if $latency == [] then empty else
        "", "| kill to first message, ms (median, least, most) | Java client | our client | ours / Java |", "|---|---:|---:|---:|"
       end),
      ($latency[] | . as $all
        | def of($client): [$all[] | select(.[1] == $client) | .[2] | tonumber / 1000];
        def show: "\(median | digits(1)) (\(min | digits(1)), \(max | digits(1)))";
        "| two \({"lite": "broker-lite", "amq": "ActiveMQ"}[.[0][0]]), \(of("ours") | length) kills | \(of("java") | show) | \(of("ours") | show) | \((of("ours") | median) / (of("java") | median) | digits(2)) |"),
      (if $throughput == [] then empty else
        "", "| msg/s (median) | tcp: | failover: | failover / tcp, median of pairs | CPU of the client, failover / tcp |", "|---|---:|---:|---:|---:|"
       end),
      ($throughput[] | . as $all
        | def of($via; $column): [$all[] | select(.[3] == $via) | .[$column] | tonumber] | median;
        def ratio($column): [$all | group_by(.[2])[] | (map({(.[3]): (.[$column] | tonumber)}) | add) | .failover / .tcp] | median;
        "| \(.[0][1] | gsub("_"; " ")) | \(of("tcp"; 4) | round) | \(of("failover"; 4) | round) | \(ratio(4) | digits(3)) | \(ratio(5) | digits(3)) |")
    ' "$figures"
