# shellcheck shell=bash
# steps.sh, sourced: a walk's steps. Each is one line; a failed one shows its output.

passed=0
failed=0

say() { printf '\n%s\n' "$1"; }

ok() {
    passed=$((passed + 1))
    printf '  ok      %s\n' "$1"
}

not_ok() {
    failed=$((failed + 1))
    printf '  FAILED  %s\n' "$1"
    printf '%s\n' "$2" | tail -n 15 | sed 's/^/          | /'
}

# holds TEXT WORDS: the command succeeds.
holds() {
    local text=$1 output
    shift
    if output=$("$@" 2>&1); then ok "$text"; else not_ok "$text" "$output"; fi
}

# fails TEXT WORDS: the command does not.
fails() {
    local text=$1 output
    shift
    if output=$("$@" 2>&1); then not_ok "$text" "it succeeded: $output"; else ok "$text"; fi
}

# is TEXT ANSWER WORDS: the command's standard output is this, whatever its exit code.
is() {
    local text=$1 wanted=$2 output
    shift 2
    output=$("$@" 2>/tmp/stderr)
    if [ "$output" = "$wanted" ]; then
        ok "$text"
    else
        not_ok "$text" "wanted \"$wanted\", got \"$output\" $(cat /tmp/stderr)"
    fi
}

# matches TEXT EXPRESSION WORDS: a line of the command's standard output matches.
matches() {
    local text=$1 wanted=$2 output
    shift 2
    output=$("$@" 2>/tmp/stderr)
    if printf '%s\n' "$output" | grep -Eq -- "$wanted"; then
        ok "$text"
    else
        not_ok "$text" "wanted /$wanted/, got \"$output\" $(cat /tmp/stderr)"
    fi
}

first_line() { "$@" | head -n 1; }

# What follows makes no sense after a failure.
or_end() { [ "$failed" -eq 0 ] || finish; }

# The last line, and the code for the caller.
finish() {
    printf '\n%s passed, %s failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
    exit
}
