#!/bin/bash
# Writes version.c; leaves the file alone when nothing changed, so that nothing is rebuilt.
#   tools/write_version.sh OUT.c CC LIBRARIES
set -eu
out=$1 cc=$2 libraries=$3
cd "$(dirname "$0")/.."

{ read -r number && read -r commit; } < VERSION
# a checkout asks git; an archive made by git carries the commit in VERSION; else nobody knows
if top=$(git rev-parse --show-toplevel 2> /dev/null) && [ "$top" = "$PWD" ]; then
    commit=$(git describe --always --abbrev=12 --exclude='*' --dirty 2> /dev/null || echo unknown)
elif [[ $commit == *Format* ]]; then
    commit=unknown
fi

compiler=$("$cc" --version | head -n 1)
text="/* written by tools/write_version.sh */
#include \"tools/version.h\"

const char version_number[] = \"$number\";
const char version_commit[] = \"$commit\";
const char version_compiler[] = \"${compiler//[\"\\]/}\";
const char version_libraries[] = \"$libraries\";"

[ -f "$out" ] && [ "$text" = "$(cat "$out")" ] && exit 0
mkdir -p "$(dirname "$out")"
printf '%s\n' "$text" > "$out.tmp"
mv "$out.tmp" "$out"
