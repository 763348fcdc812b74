#include "tests/fault/disk_record.h"

#include "tests/fault/disk_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The names as they are while the record is read. */
typedef struct Live {
    Disk *disk;
    const char *root;
    struct LiveName {
        int folder;
        DiskEntry entry;
    } * names; /* owned */
    int count;
    int64_t room; /* of disk->changes */
} Live;

static int find_name(const Live *live, int folder, const char *name)
{
    for (int i = 0; i < live->count; i++)
        if (live->names[i].folder == folder && strcmp(live->names[i].entry.name, name) == 0)
            return i;
    return -1;
}

static void set_name(Live *live, int folder, const DiskEntry *entry)
{
    const int i = find_name(live, folder, entry->name);
    if (entry->node < 0) {
        if (i >= 0) live->names[i] = live->names[--live->count];
        return;
    }
    if (i >= 0) {
        live->names[i].entry = *entry;
        return;
    }
    live->names = realloc(live->names, ((size_t)live->count + 1) * sizeof *live->names);
    if (!live->names) abort();
    live->names[live->count].folder = folder;
    live->names[live->count++].entry = *entry;
}

/* A path's folder and last name; the node it stands for is entry->node, -1 when there is none.
 * false: not even the folder is there. */
static bool look_up(const Live *live, const char *path, int *folder, DiskEntry *entry)
{
    const char *at = path + strlen(live->root);
    *folder = 0;
    *entry = (DiskEntry){ .node = 0 };
    while (*at == '/') {
        const size_t length = strcspn(++at, "/");
        if (entry->node < 0 || length >= DISK_NAME_BYTES) return false;
        *folder = entry->node;
        memcpy(entry->name, at, length);
        entry->name[length] = 0;
        const int i = find_name(live, *folder, entry->name);
        entry->node = i < 0 ? -1 : live->names[i].entry.node;
        at += length;
    }
    return true;
}

static int add_node(Live *live, bool folder)
{
    if (live->disk->nodes == DISK_NODES) abort();
    live->disk->is_folder[live->disk->nodes] = folder;
    return live->disk->nodes++;
}

static DiskChange *add_change(Live *live, DiskKind kind)
{
    Disk *disk = live->disk;
    if (disk->count == live->room) {
        live->room = 2 * live->room + 64;
        disk->changes = realloc(disk->changes, (size_t)live->room * sizeof *disk->changes);
        if (!disk->changes) abort();
    }
    disk->changes[disk->count] = (DiskChange){ .kind = kind, .safe_at = INT64_MAX, .node = -1 };
    return &disk->changes[disk->count++];
}

static void name_change(DiskChange *change, int folder, const DiskEntry *entry, int node)
{
    change->folder[change->names] = folder;
    change->entry[change->names] = *entry;
    change->entry[change->names++].node = node;
}

static void follow_names(Live *live, const DiskChange *change)
{
    for (int k = 0; k < change->names; k++) set_name(live, change->folder[k], &change->entry[k]);
}

static void add_file_change(Live *live, DiskKind kind, int node, int64_t offset, const char *bytes,
                            int64_t length)
{
    DiskChange *change = add_change(live, kind);
    change->node = node;
    change->offset = offset;
    change->bytes = bytes;
    change->length = length;
}

/* --- flushes --- */

static bool touches(const DiskChange *change, int node)
{
    if (change->kind == CHANGE_NONE) return false;
    if (change->kind != CHANGE_NAMES) return change->node == node;
    return change->folder[0] == node || (change->names > 1 && change->folder[1] == node);
}

/* A flush makes what came before it safe; one that failed makes sure that none ever does: the
 * kernel may have dropped the pages and says so once. */
static void add_flush(Live *live, int node, bool failed)
{
    Disk *disk = live->disk;
    const int64_t now = disk->count;
    for (int64_t i = 0; i < now; i++)
        if (touches(&disk->changes[i], node) && disk->changes[i].safe_at == INT64_MAX)
            disk->changes[i].safe_at = failed ? INT64_MAX - 1 : now;
    (void)add_change(live, CHANGE_NONE);
}

/* --- one operation --- */

static void add_rename(Live *live, const char *path, const char *other, bool swaps)
{
    int from, to;
    DiskEntry a, b;
    if (!look_up(live, path, &from, &a) || !look_up(live, other, &to, &b) || a.node < 0) return;
    if (a.node == b.node) return; /* to its own name: nothing changes */
    DiskChange *change = add_change(live, CHANGE_NAMES);
    name_change(change, to, &b, a.node);
    name_change(change, from, &a, swaps ? b.node : -1);
    follow_names(live, change);
}

static void add_operation(Live *live, const DiskRecord *r, const char *path, const char *other,
                          const char *bytes)
{
    int folder;
    DiskEntry entry;
    if (r->operation == DISK_RENAME || r->operation == DISK_EXCHANGE) {
        add_rename(live, path, other, r->operation == DISK_EXCHANGE);
        return;
    }
    /* what was unlinked while it was open has no name any more, and nobody can miss it */
    if (!look_up(live, path, &folder, &entry)) return;
    const bool makes = r->operation == DISK_CREATE || r->operation == DISK_MKDIR;
    if (makes || r->operation == DISK_UNLINK || r->operation == DISK_RMDIR) {
        const int node = makes ? add_node(live, r->operation == DISK_MKDIR) : -1;
        DiskChange *change = add_change(live, CHANGE_NAMES);
        name_change(change, folder, &entry, node);
        follow_names(live, change);
        return;
    }
    if (entry.node < 0) return;
    if (r->operation == DISK_WRITE)
        add_file_change(live, CHANGE_BYTES, entry.node, r->offset, bytes, r->data_bytes);
    else if (r->operation == DISK_TRUNCATE)
        add_file_change(live, CHANGE_SIZE, entry.node, r->offset, NULL, 0);
    else
        add_flush(live, entry.node, r->operation == DISK_LOST);
}

static Status read_record(Live *live, const char *record)
{
    Disk *disk = live->disk;
    TRY(file_read(record, (size_t)1 << 30, &disk->record, &disk->record_bytes));
    for (const char *at = disk->record, *end = at + disk->record_bytes; at < end;) {
        DiskRecord r;
        memcpy(&r, at, sizeof r);
        const char *path = at + sizeof r, *other = path + r.path_bytes;
        const char *bytes = other + r.other_bytes;
        add_operation(live, &r, path, other, bytes);
        at = bytes + r.data_bytes;
    }
    return OK;
}

/* --- what was there before --- */

static Status add_before(Live *live, const char *before)
{
    Disk *disk = live->disk;
    FileList list = { 0 };
    TRY(file_list_tree(before, &list));
    Status s = OK;
    disk->contents = calloc((size_t)list.count + 1, sizeof *disk->contents);
    if (!disk->contents) abort();
    for (int64_t i = 0; i < list.count && s == OK; i++) {
        char path[FILE_PATH_BYTES], from[FILE_PATH_BYTES];
        DiskRecord r = { .operation = DISK_MKDIR };
        size_t length;
        int folder;
        DiskEntry entry;
        (void)snprintf(path, sizeof path, "%s/%s", live->root, list.names[i]);
        for (char *slash = strchr(path + strlen(live->root) + 1, '/'); slash;
             slash = strchr(slash + 1, '/')) {
            *slash = 0;
            if (look_up(live, path, &folder, &entry) && entry.node < 0)
                add_operation(live, &r, path, NULL, NULL);
            *slash = '/';
        }
        r.operation = DISK_CREATE;
        add_operation(live, &r, path, NULL, NULL);
        s = file_join(from, before, list.names[i]);
        if (s == OK) s = file_read(from, 1 << 26, &disk->contents[i], &length);
        if (s != OK) break;
        disk->contents_count++;
        r = (DiskRecord){ .operation = DISK_WRITE, .data_bytes = (uint32_t)length };
        add_operation(live, &r, path, NULL, disk->contents[i]);
    }
    file_list_destroy(&list);
    for (int64_t i = 0; i < disk->count; i++) disk->changes[i].safe_at = -1;
    disk->before = disk->count;
    return s;
}

Status disk_open(const char *root, const char *before, const char *record, Disk **out)
{
    Disk *disk = calloc(1, sizeof *disk);
    CHECK(disk, ERR_MEMORY, "no memory for a disk");
    Live live = { .disk = disk, .root = root };
    (void)add_node(&live, true);
    Status s = add_before(&live, before);
    if (s == OK) s = read_record(&live, record);
    free(live.names);
    if (s == OK)
        *out = disk;
    else
        disk_close(disk);
    return s;
}

void disk_close(Disk *disk)
{
    if (!disk) return;
    for (int i = 0; i < disk->contents_count; i++) free(disk->contents[i]);
    free(disk->contents);
    free(disk->changes);
    free(disk->record);
    free(disk);
}

int64_t disk_operations(const Disk *disk)
{
    return disk->count - disk->before;
}
