# The packet filter: what was there before the sandbox, and how exactly what came since is taken away.
# Rules are deleted one by one; a table is never loaded anew, so that others may change theirs at the
# same time. Sourced after record.sh.
# shellcheck shell=sh

# Rules, chains and tables as they are.
record_rules() {
    for program in iptables ip6tables; do
        if has "$program-save"; then "$program-save" 2>/dev/null; fi >"$RECORD/$program.rules" || true
    done
    if has nft; then nft list tables 2>/dev/null; fi >"$RECORD/nft.tables" || true
}

# The rules and chains that came since and match an expression: the input of `iptables-restore
# --noflush` that deletes them. $1 the rules of before, $2 the expression; the rules of now on stdin.
# A chain of ours goes with all that is in it, and first the jumps to it.
deletions() {
    awk -v before="$1" -v expression="$2" '
        function flush_table(    i) {
            if (table == "" || (deleted == 0 && chains == 0)) return
            print table
            for (i = 0; i < chains; i++) print "-F " chain[i]
            for (i = 0; i < deleted; i++) print rule[i]
            for (i = 0; i < chains; i++) print "-X " chain[i]
            print "COMMIT"
        }
        BEGIN {
            while ((getline line < before) > 0) {
                if (line ~ /^\*/) old_table = line
                if (line ~ /^:/) { split(line, word, " "); known[old_table word[1]] = 1 }
                if (line ~ /^-A/) known[old_table line]++
            }
        }
        /^\*/ { table = $0; deleted = chains = 0; split("", gone) }
        /^:/ && $2 == "-" && substr($1, 2) ~ expression && !((table $1) in known) {
            gone[substr($1, 2)] = 1
            chain[chains++] = substr($1, 2)
        }
        /^-A/ {
            if (known[table $0]-- > 0 || $2 in gone) next
            if ($0 ~ expression) rule[deleted++] = "-D" substr($0, 3)
        }
        /^COMMIT/ { flush_table() }'
}

# Deletes what came since and matches an expression, and puts the policy of FORWARD back.
remove_new_rules() {
    code=0
    for program in iptables ip6tables; do
        has "$program-save" || continue
        "$program-save" 2>/dev/null | deletions "$RECORD/$program.rules" "$1" |
            "$program-restore" --noflush || code=1
        policy=$(sed -n "s/^$program-forward //p" "$RECORD/facts")
        [ -z "$policy" ] || "$program" -P FORWARD "$policy" 2>/dev/null || true
    done
    remove_new_tables
    return "$code"
}

# With nftables behind it, iptables leaves its tables behind, empty.
remove_new_tables() {
    has nft || return 0
    nft list tables 2>/dev/null | while read -r word family table; do
        case "$family $table" in
        'ip filter' | 'ip nat' | 'ip raw' | 'ip mangle' | 'ip6 filter' | 'ip6 nat' | 'ip6 raw' | 'ip6 mangle') ;;
        *) continue ;;
        esac
        grep -qxF "$word $family $table" "$RECORD/nft.tables" && continue
        # An empty chain has no line but that of its hook.
        if ! nft list table "$family" "$table" 2>/dev/null |
            awk '/^\t\t/ && $1 != "type" || /policy drop/ { held = 1 } END { exit !held }'; then
            nft delete table "$family" "$table" 2>/dev/null || true
        fi
    done
}

# Whether OpenNebula's chain serves VMs of others: it then holds jumps to chains of their NICs.
chain_is_in_use() {
    for program in iptables ip6tables; do
        has "$program" || continue
        if "$program" -S opennebula 2>/dev/null | grep -q -- '^-A opennebula .*-j one-'; then return 0; fi
    done
    return 1
}
