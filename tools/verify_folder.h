/*
 * verify_folder: one checkpoint, or one signed model, read by all ranks together; for `zoetrope
 * verify`. Each rank hashes a share of the files and names what is damaged there; what concerns the
 * whole folder is said by rank 0.
 */
#ifndef ZT_TOOLS_VERIFY_FOLDER_H
#define ZT_TOOLS_VERIFY_FOLDER_H

#include "comm/comm.h"
#include "core/formats/trusted_keys.h"
#include "tools/disk.h"

typedef struct Verify {
    Comm *comm;              /* view */
    const TrustedKeys *keys; /* view; NULL: signatures are not looked into */
    ByteProgress progress;   /* of this rank's share */
    /* the same on every rank, over all folders so far */
    int64_t files, bytes, problems;
    int64_t unchecked;  /* folders with a signature that no key was given for */
    int64_t left_out;   /* files that signers left out */
    const char *signer; /* file of the key, or what to say of several; view */
} Verify;

/* Collective. Adds to *verify. The Status is that of the check: ERR_MEMORY, ERR_COMM. */
Status verify_folder(Verify *verify, const char *folder);

#endif
