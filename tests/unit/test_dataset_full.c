/*
 * dataset_full: a file that may not grow any further, at every point of writing a dataset.
 *
 * A limit on the size of files stands for a full disk: write fails in the middle, wherever the
 * library happens to be. Each writer runs in a child, as the limit is for a whole process.
 */
#include "core/base/file.h"
#include "data/dataset.h"
#include "tests/support/small_dataset.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { CLIPS = 20, SHARD_BYTES = 1300, LIMIT_STEP = 777, BAD_MESSAGE = 99 };

/* In a child: the status, or BAD_MESSAGE. */
static int write_limited(const char *dir, rlim_t limit)
{
    const struct rlimit most = { limit, limit };
    signal(SIGSEGV, SIG_DFL); /* cmocka's handler would go on in the child */
    signal(SIGABRT, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN); /* so that write fails instead, with EFBIG */
    if (setrlimit(RLIMIT_FSIZE, &most) != 0) return BAD_MESSAGE;
    const Status s = small_dataset_try(dir, CLIPS, SHARD_BYTES);
    const char *message = status_message();
    if (s != OK && (strncmp(message, dir, strlen(dir)) != 0 || strchr(message, '\n') != NULL ||
                    strstr(message, strerror(EFBIG)) == NULL ||
                    /* no address; the folder's random name may look like one */
                    strstr(message + strlen(dir), "0x") != NULL)) {
        fprintf(stderr, "%s\n", message);
        return BAD_MESSAGE;
    }
    return (int)s;
}

static int run(const char *dir, rlim_t limit)
{
    int how = 0;
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(write_limited(dir, limit));
    assert_int_equal(waitpid(child, &how, 0), child);
    if (!WIFEXITED(how))
        fail_msg("limit %llu: signal %d", (unsigned long long)limit, WTERMSIG(how));
    return WEXITSTATUS(how);
}

/* No name that says "partial", "tmp" or "dataset". */
static void assert_nothing_partial(const char *dir)
{
    FileList list;
    assert_int_equal(file_list(dir, &list), OK);
    for (int64_t i = 0; i < list.count; i++) {
        const size_t length = strlen(list.names[i]);
        if (length < 3 || strcmp(list.names[i] + length - 3, ".h5") != 0) {
            fail_msg("left behind: %s", list.names[i]);
        }
    }
    file_list_destroy(&list);
}

static void full_disk_at_any_point_leaves_no_dataset(void **state)
{
    (void)state;
    int failed = 0;
    rlim_t limit = 0;
    for (;; limit += LIMIT_STEP) {
        char dir[256];
        Dataset *ds = NULL;
        small_folder(dir);
        const int s = run(dir, limit);
        if (s == OK) {
            assert_int_equal(dataset_open(dir, &ds), OK);
            assert_int_equal(dataset_verify(ds), OK);
            dataset_close(ds);
            small_remove(dir);
            break;
        }
        failed++;
        assert_int_equal(s, ERR_IO);
        assert_nothing_partial(dir);
        assert_int_equal(dataset_open(dir, &ds), ERR_FORMAT);
        /* and with room again the same folder takes the dataset */
        if (failed % 8 == 0) {
            small_dataset(dir, CLIPS, SHARD_BYTES);
            assert_int_equal(dataset_open(dir, &ds), OK);
            dataset_close(ds);
        }
        small_remove(dir);
    }
    print_message("%d limits below %llu bytes refused\n", failed, (unsigned long long)limit);
    assert_true(failed > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_disk_at_any_point_leaves_no_dataset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
