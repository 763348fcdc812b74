#!/bin/bash
# Installs what the build and the tests need, on Debian and Ubuntu, as root or with sudo; elsewhere
# prints what is missing. Does nothing when nothing is missing. WITH_FUZZER=1 (make fuzz): libFuzzer too.
#
#     tools/bootstrap.sh [slurm]      slurm: also what `make test-slurm` needs
set -eu
cd "$(dirname "$0")/.."
cc=${CC:-gcc}

# gcc or clang (with its OpenMP), libraries, ffprobe with which tests look at videos, openssl with
# which they make keys
packages=(pkg-config libc6-dev libopenmpi-dev openmpi-bin libhdf5-dev libyaml-dev libssl-dev
    libavcodec-dev libavformat-dev libavutil-dev libswscale-dev libjansson-dev libdnnl-dev
    liblapacke-dev libutf8proc-dev libsentencepiece-dev g++ libcmocka-dev ffmpeg openssl)
case $cc in
*clang*) packages+=(clang libomp-dev) ;;
*) packages+=(gcc) ;;
esac
# libFuzzer's package has clang's version in its name
clang_runtime() { apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p' | head -n 1; }

# missing_commands COMMAND...: one a line
missing_commands() {
    local command
    for command in "$@"; do
        command -v "$command" > /dev/null || echo "command $command"
    done
}
commands=()
if [ "${1:-}" = slurm ]; then
    packages+=(slurm-wlm munge iproute2 util-linux)
    commands=(sbatch slurmctld slurmd munged ip unshare)
fi
find_missing() {
    tools/find_libraries.sh --missing "$cc"
    missing_commands "${commands[@]}"
}

missing=$(find_missing)
[ -z "$missing" ] && exit 0
printf 'missing:\n    %s\n' "${missing//$'\n'/$'\n    '}" >&2

if ! command -v apt-get > /dev/null; then
    echo "zoetrope: install these with this system's package manager; the Debian names are:" >&2
    echo "    ${packages[*]}" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || {
        echo "zoetrope: neither root nor sudo: ask an administrator to run: apt-get install ${packages[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi

export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
[ -z "${WITH_FUZZER:-}" ] || packages+=("$(clang_runtime)")
echo "installing: ${packages[*]}" >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${packages[@]}"

missing=$(find_missing)
if [ -n "$missing" ]; then
    echo "zoetrope: this distribution's packages do not have: ${missing//$'\n'/; }" >&2
    exit 1
fi
