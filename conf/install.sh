#!/bin/sh
# install.sh FILE TARGET: installs FILE as TARGET (below $DESTDIR) unless something is there already: it
# is the administrator's, who may have edited it.
set -eu

target=${DESTDIR-}$2
if [ ! -e "$target" ] && [ ! -L "$target" ]; then
        mkdir -p "$(dirname "$target")"
        install -m 644 "$1" "$target"
fi
