#!/bin/sh
# Usage: check-symbols.sh LIBCACHED.SO LIBCACHED.MAP
#
# The public headers, the symbol map and the library agree: every function that they declare is in
# the map and exported, nothing else is, and each has a comment above it that names it, every one of its
# parameters, and what it returns.

set -eu

if [ $# -ne 2 ]; then
        echo "usage: $0 LIBCACHED.SO LIBCACHED.MAP" >&2
        exit 2
fi
lib=$1
map=$2
include=$(dirname "$map")/include
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0

# What the compiler sees of the headers (cached.h includes the others): one declaration to a line.
"${CC:-cc}" -E -P "$include/cached.h" | tr '\n' ' ' | tr ';' '\n' |
        grep -o 'cached_[a-z0-9_]*(.*' >"$tmp/declarations"
sed 's/(.*//' "$tmp/declarations" | sort -u >"$tmp/header"
# Comments may stand in the map, so only names that end in a semicolon count.
sed -n 's/^ *\(cached_[a-z0-9_]*\);.*/\1/p' "$map" | sort -u >"$tmp/map"
nm -D --defined-only "$lib" | sed -n 's/.* [TDBRVW] \([^@]*\).*/\1/p' | sort -u >"$tmp/library"

if [ "$(wc -l <"$tmp/header")" -lt 10 ]; then
        echo "$include/cached.h: only $(wc -l <"$tmp/header") functions were found; this check is broken" >&2
        exit 1
fi

compare()
{
        if ! diff "$tmp/$1" "$tmp/$2" >"$tmp/difference"; then
                echo "$1 (<) and $2 (>) differ:" >&2
                grep '^[<>]' "$tmp/difference" >&2
                failed=1
        fi
}
compare header map
compare header library

# The comments: name, parameters, result.
awk -v declarations="$tmp/declarations" '
        BEGIN {
                while ((getline line < declarations) > 0) {
                        name = line
                        sub(/\(.*/, "", name)
                        arguments = line
                        sub(/^[^(]*\(/, "", arguments)
                        sub(/\).*/, "", arguments)
                        n = split(arguments, list, ",")
                        names[name] = ""
                        for (i = 1; i <= n; i++) {
                                argument = list[i]
                                sub(/^.*[ *]/, "", argument)
                                if (argument != "void")
                                        names[name] = names[name] " " argument
                        }
                }
        }
        /^\/\*/ { comment = "" ; inside = 1 }
        inside { comment = comment "\n" $0 }
        /\*\/ *$/ { inside = 0 ; next }
        !inside && match($0, /cached_[a-z0-9_]*\(/) {
                name = substr($0, RSTART, RLENGTH - 1)
                if (!(name in names) || (name in seen))
                        next
                seen[name] = 1
                if (index(comment, "\n * " name "() - ") == 0) {
                        print name ": no comment of its own"
                        bad = 1
                }
                n = split(names[name], list, " ")
                for (i = 1; i <= n; i++)
                        if (comment !~ "@" list[i] "[^a-z0-9_]") {
                                print name ": its comment does not mention @" list[i]
                                bad = 1
                        }
                if ($0 !~ /^void cached_/ && index(comment, "\n * Return: ") == 0) {
                        print name ": its comment does not say what it returns"
                        bad = 1
                }
                comment = ""
        }
        END {
                for (name in names)
                        if (!(name in seen)) {
                                print name ": its declaration was not found"
                                bad = 1
                        }
                exit bad
        }
' "$include"/*.h >&2 || failed=1

exit $failed
