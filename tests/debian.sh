# shellcheck shell=bash
# debian.sh, sourced by what makes roots of Debian releases.

# debian_sources RELEASE FOLDER: sets the array `sources` for mmdebstrap: the machine's own sources
# under the release's name, written to FOLDER, where the machine is a Debian (it may use a mirror);
# else none, which means Debian's.
# shellcheck disable=SC2034 # sources is read by the caller
debian_sources() {
    local release=$1 folder=$2 host file
    sources=()
    host=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        if grep -qs '^ID=debian' /etc/os-release && [ -s "$file" ] && [ -n "$host" ]; then
            sed "s/\b$host\b/$release/g" "$file" >"$folder/${file##*/}"
            case $release in
            sid)
                # It has neither updates nor a security archive.
                sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' "$file" |
                    sed -n 's/.*/deb & sid main/p; q' >"$folder/sources.list"
                sources=("$folder/sources.list")
                ;;
            *) sources=("$folder/${file##*/}") ;;
            esac
            break
        fi
    done
}
