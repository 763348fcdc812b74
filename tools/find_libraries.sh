#!/bin/bash
# Finds the libraries that zoetrope stands on.
#
#   tools/find_libraries.sh --missing CC     one line for each thing that is missing or too old
#   tools/find_libraries.sh --make CC OUT    writes OUT, a Makefile fragment of flags and versions,
#                                            or says in one line on standard output what is missing
set -u
mode=${1:?--make or --missing}
cc=${2:-gcc}
out=${3:-}

# found before, by this script with this compiler
if [ "$mode" = --make ] && [ "$out" -nt "$0" ] && grep -qx "# $cc" "$out"; then exit 0; fi

missing=()
cflags="" libs="" test_libs="" openmp="" versions=""

have() { command -v "$1" > /dev/null 2>&1; }

# find VARIABLE LABEL MINIMUM NAME...: the first pkg-config name that is there and new enough
find_package() {
    local variable=$1 label=$2 minimum=$3 name found=""
    shift 3
    for name in "$@"; do
        pkg-config --exists "$name" 2> /dev/null || continue
        if ! pkg-config --atleast-version="$minimum" "$name"; then
            found=$(pkg-config --modversion "$name")
            continue
        fi
        cflags+=" $(pkg-config --cflags "$name")"
        printf -v "$variable" '%s %s' "${!variable}" "$(pkg-config --libs "$name")"
        # what tests alone use is not in the program
        [ "$variable" = test_libs ] || versions+="$label $(pkg-config --modversion "$name"), "
        return 0
    done
    missing+=("$label $minimum or newer (pkg-config ${*// /, }${found:+; $found is too old})")
    return 1
}

# oneDNN ships no .pc file on Debian: ask the preprocessor
find_onednn() {
    local text version
    text=$(printf '#include <oneapi/dnnl/dnnl_version.h>\nzt DNNL_VERSION_MAJOR.DNNL_VERSION_MINOR.DNNL_VERSION_PATCH\n' |
        "$cc" -E -P - 2> /dev/null | grep '^zt')
    version=${text#zt }
    version=${version// /}
    if [ -z "$version" ]; then
        missing+=("oneDNN 2.6 or newer (oneapi/dnnl/dnnl.h, -ldnnl)")
    elif [ "$(printf '%s\n' 2.6 "$version" | sort -V | head -n 1)" != 2.6 ]; then
        missing+=("oneDNN 2.6 or newer ($version is too old)")
    else
        libs+=" -ldnnl"
        versions+="oneDNN $version"
    fi
}

# -fopenmp only when it links: clang has it from libomp, which may not be installed
find_openmp() {
    local out
    out=$(mktemp) || exit 1
    if printf '#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n' |
        "$cc" -fopenmp -x c - -o "$out" 2> /dev/null; then
        openmp=-fopenmp
    else
        missing+=("OpenMP for $cc (with clang: libomp-dev)")
    fi
    rm -f "$out"
}

# SentencePiece speaks C++: its headers and runtime
find_cxx() {
    local out
    out=$(mktemp) || exit 1
    if printf '#include <string>\nint main() { return (int)std::string().size(); }\n' |
        "$cc" -std=c++17 -x c++ - -o "$out" -lstdc++ 2> /dev/null; then
        libs+=" -lstdc++"
    else
        missing+=("C++17 for $cc (g++)")
    fi
    rm -f "$out"
}

# only make fuzz asks for it
find_fuzzer() {
    local out
    out=$(mktemp) || exit 1
    printf 'int LLVMFuzzerTestOneInput(void) { return 0; }\n' |
        "$cc" -fsanitize=fuzzer,address,undefined -x c - -o "$out" 2> /dev/null ||
        missing+=("libFuzzer for $cc (clang and libclang-rt-N-dev)")
    rm -f "$out"
}

have "$cc" || missing+=("a C compiler ($cc)")
have pkg-config || missing+=("pkg-config")
if have pkg-config; then
    find_package libs "Open MPI" 4.1 ompi-c mpi-c mpi
    find_package libs HDF5 1.10 hdf5-serial hdf5 hdf5-openmpi
    find_package libs libyaml 0.2.2 yaml-0.1
    find_package libs OpenSSL 3.0 libcrypto
    find_package libs libavformat 59 libavformat
    find_package libs libavcodec 59 libavcodec
    find_package libs libavutil 57 libavutil
    find_package libs libswscale 6 libswscale
    find_package libs jansson 2.13 jansson
    find_package libs LAPACKE 3.9 lapacke
    find_package libs utf8proc 2.4 libutf8proc
    find_package libs SentencePiece 0.1.96 sentencepiece
    libs=${libs/ -lsentencepiece_train/} # its other half
    find_package test_libs cmocka 1.1.5 cmocka
fi
if have "$cc"; then
    find_openmp
    find_onednn
    find_cxx
fi

if [ "$mode" = --missing ]; then
    have mpirun || missing+=("mpirun (Open MPI)")
    [ -z "${WITH_FUZZER:-}" ] || find_fuzzer
    have ffprobe || missing+=("ffprobe (ffmpeg), which tests use")
    have openssl || missing+=("openssl (the command), which tests use")
    ((${#missing[@]})) && printf '%s\n' "${missing[@]}"
    exit 0
fi

if ((${#missing[@]})); then
    printf -v list '%s, ' "${missing[@]}"
    echo "missing: ${list%, }; run tools/bootstrap.sh"
    exit 0
fi
mkdir -p "$(dirname "$out")"
cat > "$out" << FRAGMENT
# $cc
# libraries' headers are not ours to warn about
LIB_CFLAGS := ${cflags//-I/-isystem }
LIBS := $libs
TEST_LIBS := $test_libs
OPENMP := $openmp
LIB_VERSIONS := ${versions%, }
FRAGMENT
