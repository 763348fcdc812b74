#!/bin/bash
# The arrows between folders and the owners of outside libraries, as #include lines show them.
#
#   core -> core    comm, data -> core    train, infer -> core, comm, data    tools, tests -> all
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0

# includes FOLDERS...: "file:line:header" of every #include there
includes() {
    find "$@" \( -name '*.[ch]' -o -name '*.cc' \) -exec grep -HnE '^ *# *include' {} + 2> /dev/null |
        sed -E 's/^([^:]+:[0-9]+):[^"<]*["<]([^">]+)[">].*/\1:\2/'
}

# arrow FROM TO...: project headers that FROM may include
arrow() {
    local from=$1 line target allowed
    shift
    while IFS= read -r line; do
        target=${line##*:}
        for allowed in core comm data train infer tools tests; do
            [[ $target == "$allowed"/* ]] || continue
            [[ " $* " == *" $allowed "* ]] && continue
            echo "${line%:*}: $from may not include $target (allowed: $*)"
            bad=1
        done
    done < <(includes "$from")
}

# owner HEADERS FILES LIBRARY: only FILES (a pattern of paths) include HEADERS (a pattern)
owner() {
    local line file
    while IFS= read -r line; do
        file=${line%%:*}
        [[ ${line##*:} =~ ^($1)$ ]] || continue
        [[ $file =~ ^($2) ]] && continue
        echo "${line%:*}: <${line##*:}>: only $2 may include $3"
        bad=1
    done < <(includes core comm data train infer tools tests)
}

arrow core core
arrow comm comm core
arrow data data core
arrow train train core comm data
arrow infer infer core comm data

owner 'mpi\.h' 'comm/' 'Open MPI'
owner 'hdf5.*\.h|H5.*\.h' 'data/h5|tests/support/h5' 'HDF5'
owner 'yaml\.h' 'core/base/config' 'libyaml'
owner 'jansson\.h' 'core/base/json' 'jansson'
owner 'openssl/.*' 'core/base/(digest|ecdsa)|tests/support/keys' 'OpenSSL'
owner 'oneapi/.*|dnnl.*\.h' 'core/(cpu|blas)/' 'oneDNN'
owner 'lapacke\.h' 'core/codec/linear' 'LAPACKE'
owner 'sentencepiece_[a-z]+\.h' 'core/text/sentencepiece' 'SentencePiece'
owner 'utf8proc\.h' 'core/text/unicode' 'utf8proc'
owner 'lib(av|sw)[a-z]+/.*' 'data/(video|encoder|png|sheet)|tests/support/' 'libav'
owner 'cmocka\.h' 'tests/' 'cmocka'

# every header of the project is named from the root, so that its folder shows
while IFS= read -r line; do
    echo "$line: name the folder in the include"
    bad=1
done < <(find core comm data train infer tools tests \( -name '*.[ch]' -o -name '*.cc' \) \
    -exec grep -HnE '^ *# *include "[^/"]+"' {} + 2> /dev/null)

[ $bad = 0 ] && echo "layers ok"
exit $bad
