/*
 * h5_hostile: HDF5 files that no writer of ours makes. The one place outside data/h5* that calls
 * the library: what the reader must refuse cannot be made with what refuses to make it.
 */
#ifndef ZT_TESTS_SUPPORT_H5_HOSTILE_H
#define ZT_TESTS_SUPPORT_H5_HOSTILE_H

#include <stdbool.h>

typedef struct HostileCase {
    const char *name;
    const char *says; /* what the reader's message must hold */
} HostileCase;

/* Number of cases; each changes one thing in a good shard. */
int hostile_count(void);
HostileCase hostile_case(int index);
/* Files, arrays, groups, types and attributes that are open in the library now. */
int hostile_open_objects(void);
/* Changes the shard at `path`. */
void hostile_apply(int index, const char *path);
/* Writes the same objects to `to` in the format before 1.8, whose metadata has no checksums; with
 * new_superblock the file itself is of the new format and only what is in it is not. */
void hostile_old_format(const char *from, const char *to, bool new_superblock);
/* A new file with an array /a (dims, three of them) of zeros in 16 bits, without a checksum on any
 * chunk, or only on the chunks that stand out over its end. */
void hostile_without_checksums(const char *path, const unsigned long long *dims,
                               const unsigned long long *chunk, bool edges_only);

#endif
