#!/bin/sh
# setup.sh run|test|bench|hitratio|hitratio-table|icount: sees to it that what this
# target of the Makefile needs is installed.  As root, or with a sudo that asks no
# password, it installs what is missing with apt-get; otherwise it stops with the
# command to type.  Without some packages tests are only skipped: those are
# installed if that is possible, and not asked for.
set -u

need_command() { # command package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need_header() { # header package
    echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1 || missing="$missing $2"
}
need_cxx_header() { # header package
    echo "#include <$1>" | g++ -std=c++17 -E -x c++ - >/dev/null 2>&1 ||
        missing="$missing $2"
}
need_package() { # pkg-config's name, package
    pkg-config --exists "$1" 2>/dev/null || missing="$missing $2"
}
find_missing() {
    missing='' wanted=''
    need_command cc gcc
    need_header stdlib.h libc6-dev
    if [ "$1" = icount ]; then
        need_command gcc gcc
        need_command size binutils
        need_command valgrind valgrind
        return 0
    fi
    need_command gzip gzip
    case $1 in
    hitratio*|test) need_header zstd.h libzstd-dev ;;
    esac
    [ "$1" != hitratio ] || need_command gnuplot gnuplot-nox
    case $1 in
    hitratio*) return 0 ;;
    bench)
        need_command g++ g++
        need_command gnuplot gnuplot-nox
        need_command pkg-config pkg-config
        need_header uthash.h uthash-dev
        need_package glib-2.0 libglib2.0-dev
        need_cxx_header boost/unordered/unordered_flat_map.hpp libboost1.81-dev
        need_package absl_flat_hash_map libabsl-dev
        return 0
        ;;
    esac
    need_header uv.h libuv1-dev
    need_header sqlite3.h libsqlite3-dev
    [ "$1" = test ] || return 0
    need_command g++ g++
    need_command clang clang
    need_command objdump binutils
    need_header uthash.h uthash-dev
    # redis-tools bring no service.
    command -v redis-benchmark >/dev/null 2>&1 || wanted="$wanted redis-tools"
    /usr/bin/python3 -c 'import redis' 2>/dev/null ||
        wanted="$wanted python3-redis"
}

find_missing "$1"
[ -n "$missing$wanted" ] || exit 0
install="apt-get install -y --no-install-recommends"
if [ "$(id -u)" = 0 ]; then
    sudo=
elif sudo -n true 2>/dev/null; then
    sudo=sudo
elif [ -z "$missing" ]; then
    exit 0
else
    echo "Missing:$missing. Type:" >&2
    echo "    sudo apt-get update && sudo $install$missing" >&2
    exit 1
fi
echo "installing:$missing$wanted" >&2
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q >&2 || [ -z "$missing" ] || exit 1
[ -z "$missing" ] || $sudo $install$missing >&2 || exit 1
[ -z "$wanted" ] || $sudo $install$wanted >&2 ||
    echo "not installed, so some tests are skipped:$wanted" >&2
find_missing "$1"
[ -z "$missing" ] || { echo "still missing:$missing" >&2; exit 1; }
