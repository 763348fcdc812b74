/*
 * A disk that is full, in earnest: the save is refused in words that say what is missing, what was
 * there before stays, and with room it works.
 *
 *     fault_full FOLDER POINTS     one line `ok`, one `note:`
 *
 * FOLDER/next/disk is a small file system of its own; the room left in it goes through so many
 * points from none to enough.
 */
#include "core/base/log.h"
#include "tests/fault/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static Status bytes_free(const char *path, int64_t *out)
{
    struct statvfs st;
    CHECK(statvfs(path, &st) == 0, ERR_IO, "%s: %s", path, strerror(errno));
    *out = (int64_t)(st.f_bavail * st.f_frsize);
    return OK;
}

/* A file that leaves so much. */
static Status leave(const Scene *scene, int64_t room, char ballast[FILE_PATH_BYTES])
{
    int64_t available;
    TRY(file_join(ballast, scene->disk, "ballast"));
    TRY(bytes_free(scene->disk, &available));
    CHECK(available > room, ERR_IO, "%s: has %lld bytes free, more than %lld are wanted",
          scene->disk, (long long)available, (long long)room);
    const int fd = open(ballast, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    CHECK(fd >= 0, ERR_IO, "%s: %s", ballast, strerror(errno));
    const int why = posix_fallocate(fd, 0, available - room);
    (void)close(fd);
    CHECK(why == 0, ERR_IO, "%s: %s", ballast, strerror(why));
    return OK;
}

static Status fill_and_save(const Scene *scene, int64_t room, int64_t *refused)
{
    char ballast[FILE_PATH_BYTES];
    Outcome o;
    const Fault none = { .fault = "EIO" };
    TRY(scene_restore(scene));
    TRY(leave(scene, room, ballast));
    TRY(scene_save(scene, 2, &none, &o));
    const bool done = o.codes[0] == 0;
    CHECK(done || o.codes[0] == status_exit_code(ERR_IO), ERR_FORMAT,
          "with %lld bytes free: code %d", (long long)room, o.codes[0]);
    CHECK(done || strstr(o.said, ": No space left on device"), ERR_FORMAT, "said: %.500s", o.said);
    CHECK(done || !strstr(o.said, ": write: ") || strstr(o.said, "more bytes are needed for it, "),
          ERR_FORMAT, "said: %.500s", o.said);
    *refused += !done;
    CHECK(unlink(ballast) == 0, ERR_IO, "%s: %s", ballast, strerror(errno));
    return scene_recovers(scene, done, true, NULL);
}

int main(int argc, char **argv)
{
    const int64_t points = argc > 2 ? atoll(argv[2]) : 0;
    Scene scene;
    int64_t before = 0, after = 0, refused = 0;
    if (points < 2) return 2;
    log_set_quiet(true);
    Status s = scene_create(SCENE_NEXT, argv[1], &scene);
    if (s == OK) s = file_remove_tree(scene.run);
    if (s == OK) s = bytes_free(scene.disk, &before);
    if (s == OK) s = scene_restore(&scene);
    if (s == OK) s = bytes_free(scene.disk, &after);
    /* a save needs about what is there already, and a little */
    const int64_t most = (before - after) * 5 / 4;
    for (int64_t i = 0; i < points && s == OK; i++)
        s = fill_and_save(&scene, most * i / (points - 1), &refused);
    if (s == OK && (refused == 0 || refused == points))
        s = status_fail(ERR_FORMAT, "refused %lld times of %lld", (long long)refused,
                        (long long)points);
    (void)printf("%sok a_full_disk_is_named_and_the_old_checkpoint_stays", s == OK ? "" : "not ");
    if (s != OK) (void)printf(": %s", status_message());
    (void)printf("\nnote: a disk with room for 0 to %lld bytes: %lld of %lld saves refused\n",
                 (long long)most, (long long)refused, (long long)points);
    return s == OK ? 0 : 1;
}
