#!/bin/bash
# A save or a load of which a call fails: see fault_io.c; and a disk that is full. A stride keeps the
# usual run short: SEED=n starts elsewhere, LONG=1 tries every call on 1, 2 and 4 ranks.
# limit_s: 6000
set -u
# shellcheck source=tests/fault/fault_support.sh
. tests/fault/fault_support.sh

all=(EIO:once EIO:good EINTR:once EINTR:good ENOSPC:once ENOSPC:good EDQUOT:once EDQUOT:good
    short:once short:good zero:once zero:good)
if [ -n "${LONG:-}" ]; then
    for ranks in 1 2 4; do fault fault_io next $ranks 1 0 "${all[@]}"; done
    for scene in replace replace_slowly first; do fault fault_io $scene 1 1 0 "${all[@]}"; done
    points=100
else
    fault fault_io next 1 1 0 EIO:once
    fault fault_io next 1 4 "$seed" "${all[@]:1}"
    fault fault_io next 2 9 "$seed" EIO:once ENOSPC:good EINTR:once
    fault fault_io replace_slowly 1 9 "$seed" EIO:once EIO:good
    points=12
fi
# a load reads little
fault fault_io load 1 1 0 EIO:once EIO:good EINTR:once EINTR:good short:once short:good
# what is read on one rank and wanted on all
fault fault_io load 2 1 0 EIO:once short:good

# a small file system: where none can be mounted, the errors above stand for it
full=$place.full
mkdir -p "$full/next/disk"
if unshare -rm true 2> /dev/null; then
    LD_PRELOAD='' unshare -rm bash -c "mount -t tmpfs -o size=4m none '$full/next/disk' || exit 9
        LD_PRELOAD='$shim' '$programs/fault_full' '$full' $points 2> /dev/null"
    [ $? = 9 ] && echo "note: no file system can be mounted here: a full disk was not tried"
else
    echo "note: no file system can be mounted here: a full disk was not tried"
fi
rm -rf "$full"
