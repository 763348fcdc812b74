/* Crash states out of a record. See tests/fault/disk.h; the record is read by disk_record.c. */
#include "tests/fault/disk_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file or folder as the disk holds it. */
typedef struct Stored {
    char *bytes; /* owned */
    int64_t size, room;
    DiskEntry *entries; /* owned */
    int count;
} Stored;

typedef struct Crash {
    const Disk *disk;
    Stored *nodes; /* owned; (disk->nodes) */
    Loss loss;
    uint64_t seed, state;
} Crash;

/* A number of this crash and operation i. */
static uint64_t chance(const Crash *c, int64_t i)
{
    uint64_t x = c->seed * 0x9e3779b97f4a7c15u + (uint64_t)i;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* --- changes --- */

static void set_size(Stored *node, int64_t size)
{
    if (size > node->room) {
        node->room = 2 * size;
        node->bytes = realloc(node->bytes, (size_t)node->room);
        if (!node->bytes) abort();
    }
    if (size > node->size) memset(node->bytes + node->size, 0, (size_t)(size - node->size));
    node->size = size;
}

static void put_bytes(Stored *node, int64_t offset, const char *bytes, int64_t length)
{
    if (length == 0) return;
    if (offset + length > node->size) set_size(node, offset + length);
    memcpy(node->bytes + offset, bytes, (size_t)length);
}

static void put_entry(Stored *folder, const DiskEntry *entry)
{
    int i = 0;
    while (i < folder->count && strcmp(folder->entries[i].name, entry->name) != 0) i++;
    if (entry->node < 0) {
        if (i < folder->count) folder->entries[i] = folder->entries[--folder->count];
        return;
    }
    if (i == folder->count) {
        folder->entries =
            realloc(folder->entries, (size_t)++folder->count * sizeof *folder->entries);
        if (!folder->entries) abort();
    }
    folder->entries[i] = *entry;
}

static void put_names(Crash *c, const DiskChange *change)
{
    for (int k = 0; k < change->names; k++)
        put_entry(&c->nodes[change->folder[k]], &change->entry[k]);
}

/* A write that nothing has flushed. */
static void put_unsafe_bytes(Crash *c, int64_t i, const DiskChange *change)
{
    Stored *node = &c->nodes[change->node];
    const uint64_t x = chance(c, i);
    const int64_t end = change->offset + change->length;
    switch (c->loss) {
    case LOSS_NONE:
    case LOSS_NAMES: put_bytes(node, change->offset, change->bytes, change->length); return;
    case LOSS_ZEROS:
        if (end > node->size) set_size(node, end);
        return;
    case LOSS_CHANCE:
        if (x % 4 == 0) return;
        /* all of it, or as far as somewhere; what follows may be zeros */
        if ((x & 16) && end > node->size) set_size(node, end);
        put_bytes(node, change->offset, change->bytes,
                  x % 4 == 1 ? change->length : (int64_t)((x >> 8) % (uint64_t)change->length));
        return;
    default: return;
    }
}

static void put_unsafe(Crash *c, int64_t i, const DiskChange *change)
{
    const bool half = chance(c, i) % 2;
    if (change->kind == CHANGE_BYTES) {
        put_unsafe_bytes(c, i, change);
    } else if (change->kind == CHANGE_SIZE) {
        if (c->loss == LOSS_NONE || c->loss == LOSS_NAMES || (c->loss == LOSS_CHANCE && half))
            set_size(&c->nodes[change->node], change->offset);
    } else if (c->loss == LOSS_CHANCE ? half : c->loss != LOSS_ALL && c->loss != LOSS_NAMES) {
        put_names(c, change);
    }
}

static void put_safe(Crash *c, const DiskChange *change)
{
    if (change->kind == CHANGE_NAMES)
        put_names(c, change);
    else if (change->kind == CHANGE_SIZE)
        set_size(&c->nodes[change->node], change->offset);
    else
        put_bytes(&c->nodes[change->node], change->offset, change->bytes, change->length);
}

/* --- the folder --- */

static void add_to_state(Crash *c, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < length; i++) c->state = (c->state ^ at[i]) * 0x100000001b3u;
}

static Status make_file(Crash *c, const char *path, const Stored *node)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const bool ok = fd >= 0 && write(fd, node->bytes, (size_t)node->size) == (ssize_t)node->size;
    if (fd >= 0) (void)close(fd);
    CHECK(ok, ERR_IO, "%s: %s", path, strerror(errno));
    add_to_state(c, node->bytes, (size_t)node->size);
    return OK;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const DiskEntry *)a)->name, ((const DiskEntry *)b)->name);
}

static Status make_folder(Crash *c, const char *path, const Stored *node)
{
    char below[FILE_PATH_BYTES];
    CHECK(mkdir(path, 0777) == 0, ERR_IO, "%s: %s", path, strerror(errno));
    if (node->count > 1)
        qsort(node->entries, (size_t)node->count, sizeof *node->entries, compare_entries);
    for (int i = 0; i < node->count; i++) {
        const DiskEntry *entry = &node->entries[i];
        const bool folder = c->disk->is_folder[entry->node];
        add_to_state(c, entry->name, strlen(entry->name) + 1);
        TRY(file_join(below, path, entry->name));
        TRY((folder ? make_folder : make_file)(c, below, &c->nodes[entry->node]));
    }
    add_to_state(c, "/", 1);
    return OK;
}

Status disk_crash(const Disk *disk, int64_t done, Loss loss, uint64_t seed, const char *folder,
                  uint64_t *state)
{
    Crash c = { .disk = disk, .loss = loss, .seed = seed, .state = 0xcbf29ce484222325u };
    c.nodes = calloc((size_t)disk->nodes, sizeof *c.nodes);
    CHECK(c.nodes, ERR_MEMORY, "no memory for a crash");
    done += disk->before;
    for (int64_t i = 0; i < done; i++) {
        const DiskChange *change = &disk->changes[i];
        if (change->kind == CHANGE_NONE) continue;
        if (change->safe_at < done)
            put_safe(&c, change);
        else
            put_unsafe(&c, i, change);
    }
    const Status s = make_folder(&c, folder, &c.nodes[0]);
    *state = c.state;
    for (int i = 0; i < disk->nodes; i++) {
        free(c.nodes[i].bytes);
        free(c.nodes[i].entries);
    }
    free(c.nodes);
    return s;
}
