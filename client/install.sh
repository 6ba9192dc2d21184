#!/bin/sh
# install.sh LIBDIR: says what to do where the dynamic linker does not look into LIBDIR. cachectl itself
# finds the library by its own place.
set -eu

if [ -n "${DESTDIR-}" ] || ! command -v ldconfig >/dev/null; then
        exit 0
fi
if ! ldconfig -NXv 2>/dev/null | grep -q "^$1:"; then
        echo "The dynamic linker does not look into $1: link programs with -Wl,-rpath,$1, or set" \
                "LD_LIBRARY_PATH=$1"
fi
