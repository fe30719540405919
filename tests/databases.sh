#!/usr/bin/env bash
# Runs a database for tests: on the loopback, in a directory of its own, until it is killed or whoever started it ends.
#
#   databases.sh postgres DIR PORT [OPTIONS]     user "tests" without a password, database "tests"
#   databases.sh mariadb DIR PORT [OPTIONS]      user "root" without a password, database "tests"
#   databases.sh installed postgres|mariadb     succeeds if it can be run here
#   databases.sh jars DIR              the libraries of an ActiveMQ that uses PostgreSQL, for the peers' PEERS_JARS
#   databases.sh install               installs both on Debian, and PostgreSQL's driver for Java; as root
#
# PostgreSQL does not run as root: as root, both run as "nobody".
set -euo pipefail

binary() { # the path of a server's program, which Debian may keep out of the way
    local found
    found=$(command -v "$1" || true)
    [ -n "$found" ] || found=$(find /usr/lib/postgresql/*/bin /usr/sbin -name "$1" 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] || { echo "databases.sh: there is no $1" >&2; exit 1; }
    realpath "$found"
}

if [ "$1" = installed ]; then
    case $2 in
        postgres) (binary postgres && binary initdb) >/dev/null ;;
        mariadb) (binary mariadbd && binary mariadb-install-db) >/dev/null ;;
    esac
    exit
fi

if [ "$1" = jars ]; then
    java=/usr/share/java
    [ -e "$java/postgresql.jar" ] || { echo "databases.sh: libpostgresql-jdbc-java is not installed" >&2; exit 1; }
    mkdir "$2"
    ln -s "$java"/*.jar "$2"
    # The peers' class path names the libraries it knows. The driver takes the place of that of a database nobody needs here.
    ln -sf "$java/postgresql.jar" "$2/derby.jar"
    exit
fi

if [ "$1" = install ]; then
    missing=()
    for package in postgresql mariadb-server libpostgresql-jdbc-java; do
        dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || exit 0
    apt-get update -q
    # In runlevel 1 the packages start no servers of their own.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    exit
fi

kind=$1 dir=$(realpath "$2") port=$3
as=(setpriv --pdeathsig KILL)
if [ "$(id -u)" = 0 ]; then
    chown nobody "$dir"
    as+=(--reuid nobody --regid "$(id -g nobody)" --clear-groups)
fi
cd "$dir"
export HOME=$dir TMPDIR=$dir

case $kind in
    postgres)
        [ -d data ] || {
            "${as[@]}" "$(binary initdb)" -D "$dir/data" -U tests -A trust -E UTF8 --locale=C -N >initdb.log
            # What is there when the server starts is there for all.
            printf 'CREATE DATABASE tests;\n' |
                "${as[@]}" "$(binary postgres)" --single -D "$dir/data" postgres >>initdb.log
        }
        exec "${as[@]}" "$(binary postgres)" -D "$dir/data" -p "$port" -k "$dir" -h 127.0.0.1 \
            -c fsync=off -c max_connections=200 "${@:4}"
        ;;
    mariadb)
        [ -d data ] || {
            mkdir data
            [ "$(id -u)" != 0 ] || chown nobody data
            "${as[@]}" "$(binary mariadb-install-db)" --no-defaults --datadir="$dir/data" \
                --auth-root-authentication-method=normal --skip-test-db >install.log
            echo 'CREATE DATABASE IF NOT EXISTS tests;' >init.sql
        }
        exec "${as[@]}" "$(binary mariadbd)" --no-defaults --datadir="$dir/data" --port="$port" \
            --bind-address=127.0.0.1 --socket="$dir/socket" --pid-file="$dir/pid" \
            --innodb-flush-log-at-trx-commit=2 --max-connections=300 \
            --character-set-server=utf8mb4 --init-file="$dir/init.sql" "${@:4}"
        ;;
    *)
        echo "databases.sh: $kind is neither postgres nor mariadb" >&2
        exit 1
        ;;
esac
