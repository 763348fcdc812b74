/*
 * disk_log: what SHIM_LOG holds: records of the changes that succeeded, in their order.
 *
 * A record is a DiskRecord, the path, the other path (of a rename), then the data of a write.
 */
#ifndef ZT_TESTS_FAULT_DISK_LOG_H
#define ZT_TESTS_FAULT_DISK_LOG_H

#include <stdint.h>

typedef enum DiskOperation {
    DISK_CREATE,
    DISK_MKDIR,
    DISK_WRITE,    /* data at offset */
    DISK_TRUNCATE, /* to offset bytes */
    DISK_SYNC,     /* of a file or a folder */
    DISK_LOST,     /* the same, failed */
    DISK_RENAME,
    DISK_EXCHANGE,
    DISK_UNLINK,
    DISK_RMDIR,
} DiskOperation;

typedef struct DiskRecord {
    uint32_t operation;
    uint32_t path_bytes, other_bytes; /* with their 0; other_bytes 0: none */
    uint32_t data_bytes;
    int64_t offset;
} DiskRecord;

#endif
