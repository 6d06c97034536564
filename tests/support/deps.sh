# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh - what has to be installed before this can be built, shown or tested?
#
#   . tests/support/deps.sh
#   need_packages build demo     install what these lists name and the machine lacks
#   redis_server DIR             print the path of a redis-server program
#
# Installs Debian packages, as root or through sudo, and asks nothing (unless sudo wants its password on a terminal).
# Nothing is installed that is there already, nothing on the machine is configured.  Functions return 1 after a
# sentence on stderr that says what to do.

# The packages of a list; names hold in Debian 12 and 13.
packages_of() {
    case $1 in
    build) echo gcc libc6-dev cmake ninja-build pkgconf librdkafka-dev libhiredis-dev libjemalloc-dev libyaml-dev \
        libmicrohttpd-dev libxxhash-dev libssl-dev libsystemd-dev ;;
    # Holds the server's program too; the package redis-server would also start a service on the machine's port 6379.
    demo) echo redis-tools util-linux ;;
    kafka)
        command -v java >/dev/null || echo default-jre-headless # any will do
        echo maven ca-certificates
        ;;
    # Beyond what the tests need: what ./check judges with.  libclang-rt-dev holds clang's sanitizers and fuzzer.
    check) echo clang libclang-rt-dev clang-tidy clang-format shellcheck python3-hiredis systemd ;;
    # What makes a Debian package of it; what boots a system that has the package.
    package) echo debhelper dpkg-dev fakeroot lintian scdoc ;;
    boot) echo mmdebstrap systemd-container iproute2 util-linux ;;
    # The rivals that the benches compare with, and what counts instructions.
    bench) echo libcjson-dev libsimdjson-dev g++ valgrind ;;
    test) echo libcriterion-dev libjansson-dev redis-tools kcat openssl util-linux python3 python3-pytest python3-pytest-xdist python3-redis \
        python3-xxhash ;;
    *)
        echo "there is no list of packages called $1" >&2
        return 1
        ;;
    esac
}

# Those of the packages $@ that are not installed.
missing_packages() {
    local package
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# Run apt-get with $@ in the way that asks nothing.
apt_quietly() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo)
        # Without a terminal sudo could only wait for a password that nobody types.
        [ -t 0 ] || as_root+=(-n)
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

need_packages() {
    local list wanted missing log
    wanted=()
    for list; do
        # Word splitting makes the list of it.
        # shellcheck disable=SC2207
        wanted+=($(packages_of "$list")) || return 1
    done
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        echo "This is not a Debian system, so nothing is installed. Debian's names of what is needed: ${wanted[*]}" >&2
        return 0
    fi
    mapfile -t missing < <(missing_packages "${wanted[@]}")
    [ ${#missing[@]} -eq 0 ] && return 0

    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        echo "Not root, and there is no sudo. As root, run: apt-get install ${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}" >&2
    log=$(mktemp) || return 1
    # A list that cannot be refreshed may still be good enough; the installation decides.
    apt_quietly update >"$log" 2>&1
    if ! apt_quietly install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        echo "The packages could not be installed. Look above for why, or run: apt-get install ${missing[*]}" >&2
        return 1
    fi
    rm -f "$log"
}

redis_server() {
    local dir=$1
    if command -v redis-server; then
        return 0
    fi
    # One program with many names: called redis-server it is the server.
    if ! command -v redis-check-rdb >/dev/null; then
        echo "There is no redis-server; install the package redis-server or redis-tools." >&2
        return 1
    fi
    ln -sf "$(command -v redis-check-rdb)" "$dir/redis-server" && echo "$dir/redis-server"
}
