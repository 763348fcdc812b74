/* disk_record: the record as changes of numbered files and folders. For disk.c. */
#ifndef ZT_TESTS_FAULT_DISK_RECORD_H
#define ZT_TESTS_FAULT_DISK_RECORD_H

#include "tests/fault/disk.h"

enum { DISK_NAME_BYTES = 64, DISK_NODES = 20000 };

/* A name in a folder and what it stands for; node -1: nothing. */
typedef struct DiskEntry {
    char name[DISK_NAME_BYTES];
    int node;
} DiskEntry;

typedef enum DiskKind { CHANGE_NONE, CHANGE_NAMES, CHANGE_BYTES, CHANGE_SIZE } DiskKind;

typedef struct DiskChange {
    DiskKind kind;
    int64_t safe_at; /* the operation that made it last; INT64_MAX: none */
    /* of names: one or, for a rename, two that change together */
    int names, folder[2];
    DiskEntry entry[2];
    /* of a file; a flush (CHANGE_NONE) has its node here */
    int node;
    int64_t offset, length; /* offset: of CHANGE_SIZE the size */
    const char *bytes;      /* view into the record */
} DiskChange;

struct Disk {
    char *record; /* owned; the bytes of SHIM_LOG */
    size_t record_bytes;
    char **contents; /* owned, as are they; of files that were there before */
    int contents_count;
    int nodes; /* node 0 is the root */
    bool is_folder[DISK_NODES];
    DiskChange *changes; /* owned; first those that made what was there before, all safe at once */
    int64_t count, before;
};

#endif
