#include "data/h5_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* File-level because the library's state is global too: one lock for all of the process. */
static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void start_library(void)
{
    /* the environment must not choose code for us: read when the library starts */
    unsetenv("HDF5_PLUGIN_PATH");
    unsetenv("HDF5_PLUGIN_PRELOAD");
    unsetenv("HDF5_VOL_CONNECTOR");
    unsetenv("HDF5_DRIVER");
    /* no work of the library behind our back at exit, when a thread may still read */
    H5dont_atexit();
    H5open();
    H5PLset_loading_state(0);
}

void h5_lock(void)
{
    pthread_once(&library_once, start_library);
    pthread_mutex_lock(&library_lock);
    /* in a thread-safe build every thread has its own error stack, and its own wish to print it */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void h5_unlock(void)
{
    pthread_mutex_unlock(&library_lock);
}

void h5_version(char out[24])
{
    unsigned major = 0, minor = 0, release = 0;
    h5_lock();
    H5get_libversion(&major, &minor, &release);
    h5_unlock();
    snprintf(out, 24, "%u.%u.%u", major, minor, release);
}

size_t h5_type_bytes(H5Type type)
{
    static const size_t bytes[] = {
        [H5_TYPE_U8] = 1,  [H5_TYPE_U16] = 2, [H5_TYPE_I64] = 8,
        [H5_TYPE_F32] = 4, [H5_TYPE_F64] = 8,
    };
    return bytes[type];
}

hid_t h5_file_type(H5Type type)
{
    switch (type) {
    case H5_TYPE_U8: return H5T_STD_U8LE;
    case H5_TYPE_U16: return H5T_STD_U16LE;
    case H5_TYPE_I64: return H5T_STD_I64LE;
    case H5_TYPE_F32: return H5T_IEEE_F32LE;
    case H5_TYPE_F64: return H5T_IEEE_F64LE;
    }
    return H5I_INVALID_HID;
}

hid_t h5_memory_type(H5Type type)
{
    switch (type) {
    case H5_TYPE_U8: return H5T_NATIVE_UINT8;
    case H5_TYPE_U16: return H5T_NATIVE_UINT16;
    case H5_TYPE_I64: return H5T_NATIVE_INT64;
    case H5_TYPE_F32: return H5T_NATIVE_FLOAT;
    case H5_TYPE_F64: return H5T_NATIVE_DOUBLE;
    }
    return H5I_INVALID_HID;
}

/* ---- errors --------------------------------------------------------------------------------- */

/* Of "file write failed: time = ..., buf = 0x..., error message = 'No space left on device', ..."
 * the part that a person can use. */
static void keep_system_error(char *reason)
{
    static const char mark[] = "error message = '";
    const char *start = strstr(reason, mark);
    if (start == NULL) return;
    start += sizeof(mark) - 1;
    const size_t length = strcspn(start, "'");
    memmove(reason, start, length);
    reason[length] = '\0';
}

enum { REASON_BYTES = 512 };

static herr_t keep_innermost(unsigned n, const H5E_error2_t *error, void *out)
{
    char *text = out;
    if (n == 0 && error->desc != NULL) snprintf(text, REASON_BYTES, "%s", error->desc);
    return 0;
}

Status h5_fail(Status code, const H5File *file, const char *object, const char *what)
{
    char reason[REASON_BYTES] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, reason);
    H5Eclear2(H5E_DEFAULT);
    keep_system_error(reason);
    /* one error is one line */
    for (char *c = reason; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20) *c = ' ';
    }
    return status_fail(code, "%s: %s: %s: %s", file->path, object, what, reason);
}

/* The old kinds of group and header have no checksums, and one changed byte in them can crash the
 * library (1.10.8: the size of a group's local heap). Ours are never of that kind. */
static Status check_header(const H5File *file, const char *path)
{
    enum { SYMBOL_TABLE_MESSAGE = 17 };
    H5O_info_t info;
    if (H5Oget_info_by_name2(file->id, path, &info, H5O_INFO_HDR, H5P_DEFAULT) < 0) {
        return h5_fail(ERR_FORMAT, file, path, "cannot look at the object");
    }
    const bool old =
        info.hdr.version < 2 || (info.hdr.mesg.present >> SYMBOL_TABLE_MESSAGE & 1) != 0;
    CHECK(!old, ERR_FORMAT, "%s: %s is of HDF5's format before 1.8, without checksums", file->path,
          path);
    return OK;
}

Status h5_check_links(const H5File *file, const char *path)
{
    char prefix[128];
    const size_t length = strlen(path);
    CHECK(length < sizeof(prefix), ERR_FORMAT, "%s: name of %zu bytes", file->path, length);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(prefix, path, i);
        prefix[i] = '\0';
        H5L_info_t info;
        CHECK(H5Lexists(file->id, prefix, H5P_DEFAULT) > 0, ERR_FORMAT, "%s: %s is missing",
              file->path, prefix);
        if (H5Lget_info(file->id, prefix, &info, H5P_DEFAULT) < 0) {
            return h5_fail(ERR_FORMAT, file, prefix, "cannot look at the link");
        }
        CHECK(info.type == H5L_TYPE_HARD, ERR_FORMAT,
              "%s: %s is a soft, external or user-defined link: datasets have none", file->path,
              prefix);
        TRY(check_header(file, prefix));
    }
    return OK;
}

/* ---- files ---------------------------------------------------------------------------------- */

static Status file_alloc(const char *path, bool writing, int64_t size_bytes, H5File **out)
{
    const size_t length = strlen(path) + 1;
    H5File *file = malloc(sizeof(*file) + length);
    CHECK(file != NULL, ERR_MEMORY, "%s: no memory for a file handle", path);
    *file = (H5File){ .id = H5I_INVALID_HID, .writing = writing, .size_bytes = size_bytes };
    memcpy(file->path, path, length);
    *out = file;
    return OK;
}

/* Advisory locks are off: a shard is never written twice, and network file systems often have none.
 */
static hid_t access_list(void)
{
    const hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    if (list < 0) return list;
    /* 1.10's formats carry a checksum on every piece of metadata; 1.8's do not */
    const bool good = H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) >= 0 &&
                      H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_LATEST) >= 0 &&
                      H5Pset_file_locking(list, false, true) >= 0;
    if (good) return list;
    H5Pclose(list);
    return H5I_INVALID_HID;
}

static hid_t creation_list(void)
{
    const hid_t list = H5Pcreate(H5P_FILE_CREATE);
    if (list >= 0) H5Pset_obj_track_times(list, false); /* the same clips give the same bytes */
    return list;
}

/* Any call clears the library's reason for a failure, closing a list too: h5_fail comes first. */
static Status open_or_create(H5File *file)
{
    Status s = OK;
    const hid_t access = access_list(), creation = creation_list();
    if (access < 0 || creation < 0) {
        s = h5_fail(ERR_IO, file, "/", "cannot set how to open");
    } else if (file->writing) {
        file->id = H5Fcreate(file->path, H5F_ACC_EXCL, creation, access);
        if (file->id < 0) s = h5_fail(ERR_IO, file, "/", "cannot create");
    } else {
        file->id = H5Fopen(file->path, H5F_ACC_RDONLY, access);
        if (file->id < 0) s = h5_fail(ERR_FORMAT, file, "/", "cannot open as HDF5");
    }
    if (creation >= 0) H5Pclose(creation);
    if (access >= 0) H5Pclose(access);
    return s;
}

static Status open_locked(const char *path, bool writing, int64_t size_bytes, H5File **out)
{
    H5File *file = NULL;
    TRY(file_alloc(path, writing, size_bytes, &file));
    h5_lock();
    Status s = open_or_create(file);
    if (s == OK && !writing) s = check_header(file, "/");
    h5_unlock();
    if (s != OK) {
        h5_close(file);
        return s;
    }
    *out = file;
    return OK;
}

Status h5_create(const char *path, H5File **out)
{
    return open_locked(path, true, 0, out);
}

/* Looks at the first bytes before the library does: signature and version of the superblock. */
static Status check_superblock(const char *path)
{
    static const uint8_t signature[8] = { 0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n' };
    uint8_t head[9];
    const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    CHECK(fd >= 0, ERR_IO, "%s: %s", path, strerror(errno));
    const ssize_t got = pread(fd, head, sizeof(head), 0);
    close(fd);
    CHECK(got == sizeof(head) && memcmp(head, signature, sizeof(signature)) == 0, ERR_FORMAT,
          "%s: is not an HDF5 file", path);
    CHECK(head[8] == 2 || head[8] == 3, ERR_FORMAT,
          "%s: is of HDF5's format before 1.8, without checksums", path);
    return OK;
}

Status h5_open(const char *path, H5File **out)
{
    struct stat st;
    CHECK(lstat(path, &st) == 0, ERR_IO, "%s: %s", path, strerror(errno));
    CHECK(!S_ISLNK(st.st_mode), ERR_FORMAT, "%s: is a symbolic link: shards are plain files", path);
    CHECK(S_ISREG(st.st_mode), ERR_FORMAT, "%s: is not a plain file", path);
    TRY(check_superblock(path));
    return open_locked(path, false, (int64_t)st.st_size, out);
}

Status h5_close(H5File *file)
{
    if (file == NULL) return OK;
    Status s = OK;
    h5_lock();
    /* what is written lies in caches until now: a full disk may first show here */
    if (file->id >= 0 && file->writing && H5Fflush(file->id, H5F_SCOPE_GLOBAL) < 0) {
        s = h5_fail(ERR_IO, file, "/", "cannot write");
    }
    if (file->id >= 0 && H5Fclose(file->id) < 0 && s == OK)
        s = h5_fail(ERR_IO, file, "/", "cannot close");
    h5_unlock();
    free(file);
    return s;
}

const char *h5_path(const H5File *file)
{
    return file->path;
}
