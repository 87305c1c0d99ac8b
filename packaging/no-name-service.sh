#!/bin/sh
# no-name-service.sh PROGRAM…: fails when one of the static programs holds the C library's name
# service (users, groups, hosts, services).
# no-name-service.sh --self-test: shows that the check notices each family of functions.
#
# Why: a static glibc that is asked for a name loads the modules that the host's nsswitch.conf
# names, which belong to the host's glibc or to systemd. With another glibc than the one that it
# was built with, the program dies by a signal (docs/decisions/0018-no-name-service.md).
#
# How: the programs are stripped, and have no symbols. But every function of the name service
# reads /etc/nsswitch.conf, whose name is then in the program.
set -eu

# Lists the programs among its arguments that hold the name service.
holders() {
    for program in "$@"; do
        if grep -a -q '/etc/nsswitch\.conf' "$program"; then
            printf '%s\n' "$program"
        fi
    done
}

# Lists the programs among its arguments that are not static: what they load is not in them.
dynamic() {
    for program in "$@"; do
        readelf -lW "$program" >/dev/null || { printf '%s\n' "$program"; continue; }
        if readelf -lW "$program" | grep -q INTERP; then printf '%s\n' "$program"; fi
    done
}

check() {
    found=$(dynamic "$@")
    if [ -n "$found" ]; then
        printf 'not a static program, so it runs on one distribution only (make build makes static ones): %s\n' \
            "$(printf '%s' "$found" | tr '\n' ' ')" >&2
        return 1
    fi
    found=$(holders "$@")
    [ -n "$found" ] || return 0
    {
        printf "static programs that hold the C library's name service: %s\n" \
            "$(printf '%s' "$found" | tr '\n' ' ')"
        printf '%s\n' \
            "  On a host with another glibc, or with libnss-systemd, they die at the first look-up." \
            "  Look users and groups up by cli/src/getent.rs and host names by common/src/resolver.rs." \
            "  Who refers to it: cargo rustc --release … -- -C strip=none -C link-arg=-Wl,--trace-symbol=getpwnam_r"
    } >&2
    return 1
}

# Builds and strips a program of one C statement, static unless $3 says otherwise.
program() {
    printf '%s\n' \
        '#include <grp.h>' '#include <netdb.h>' '#include <pwd.h>' '#include <shadow.h>' \
        '#include <stdio.h>' '#include <sys/socket.h>' \
        "int main(int c, char **v) { (void)c; $2; return 0; }" >"$work/$1.c"
    # The linker warns of what this is about.
    gcc -O1 -s ${3-"-static"} -o "$work/$1" "$work/$1.c" 2>"$work/log" || {
        cat "$work/log" >&2
        return 1
    }
}

self_test() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT INT TERM HUP
    program clean 'printf("/etc/resolv.conf %s", v[0])'
    check "$work/clean" || { echo "a program without a look-up was taken for one with a look-up" >&2; return 1; }
    program dynamic 'getpwnam(v[0])' ''
    if check "$work/dynamic" 2>/dev/null; then
        echo "a program that is not static passes" >&2
        return 1
    fi
    program getpwnam 'getpwnam(v[0])'
    program getpwuid_r 'struct passwd p, *q; char b[99]; getpwuid_r(c, &p, b, 99, &q)'
    program getgrnam 'getgrnam(v[0])'
    program getgrgid 'getgrgid(c)'
    program getgrouplist 'gid_t g[9]; getgrouplist(v[0], 0, g, &c)'
    program initgroups 'initgroups(v[0], 0)'
    program getspnam 'getspnam(v[0])'
    program getaddrinfo 'struct addrinfo *a; getaddrinfo(v[0], 0, 0, &a)'
    program getnameinfo 'struct sockaddr a = {0}; char b[99]; getnameinfo(&a, sizeof a, b, 99, 0, 0, 0)'
    program gethostbyname 'gethostbyname(v[0])'
    program getservbyname 'getservbyname(v[0], 0)'
    program getprotobyname 'getprotobyname(v[0])'
    program getnetbyname 'getnetbyname(v[0])'
    for name in getpwnam getpwuid_r getgrnam getgrgid getgrouplist initgroups getspnam getaddrinfo \
        getnameinfo gethostbyname getservbyname getprotobyname getnetbyname; do
        if check "$work/clean" "$work/$name" 2>/dev/null; then
            echo "a static program that calls $name passes" >&2
            return 1
        fi
    done
}

case ${1-} in
'')
    echo "usage: no-name-service.sh PROGRAM… | --self-test" >&2
    exit 1
    ;;
--self-test) self_test ;;
*) check "$@" ;;
esac
