/*
 * checkpoint_leftovers: what a killed save left goes, and a checkpoint that is the only one of its
 * step does not.
 */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/formats/manifest.h"
#include "train/checkpoint_leftovers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char root[FILE_PATH_BYTES];

static const char *at(const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    assert_int_equal(file_join(path, root, name), OK);
    return path;
}

static void make_checkpoint(const char *name)
{
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    Manifest manifest;
    (void)snprintf(folder, sizeof folder, "%s", at(name));
    assert_int_equal(file_make_folders(folder), OK);
    assert_int_equal(file_join(path, folder, "data"), OK);
    assert_int_equal(file_write(path, "bytes", 5), OK);
    assert_int_equal(manifest_make(folder, NULL, &manifest), OK);
    assert_int_equal(manifest_write(folder, &manifest), OK);
    manifest_destroy(&manifest);
}

/* What a save does before it begins; then the names that are left, joined by spaces. */
static void assert_left(const char *expected)
{
    char names[256] = "";
    FileList list;
    assert_int_equal(checkpoint_put_back(root), OK);
    assert_int_equal(checkpoint_remove_leftovers(root), OK);
    assert_int_equal(file_list(root, &list), OK);
    for (int64_t i = 0; i < list.count; i++)
        (void)snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? " " : "",
                       list.names[i]);
    file_list_destroy(&list);
    assert_string_equal(names, expected);
}

static int set_up(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)snprintf(root, sizeof root, "%s/test_leftovers.XXXXXX", base);
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root) == OK ? 0 : -1;
}

static void an_old_one_without_its_step_comes_back(void **state)
{
    (void)state;
    make_checkpoint("step-00000001.old");
    make_checkpoint("step-00000002.partial");
    assert_left("step-00000001");
}

static void an_old_one_beside_its_step_goes(void **state)
{
    (void)state;
    make_checkpoint("step-00000001.old");
    make_checkpoint("step-00000001");
    assert_left("step-00000001");
}

static void an_old_one_that_is_half_removed_goes(void **state)
{
    (void)state;
    make_checkpoint("step-00000001.old");
    assert_int_equal(unlink(at("step-00000001.old/data")), 0);
    make_checkpoint("step-00000002.old");
    assert_int_equal(unlink(at("step-00000002.old/manifest.json")), 0);
    assert_left("");
}

/* A name that cannot be followed stands for a disk that answers with errors for a while. */
static void an_old_one_that_cannot_be_read_waits(void **state)
{
    (void)state;
    make_checkpoint("step-00000001.old");
    assert_int_equal(rename(at("step-00000001.old/manifest.json"), at("kept")), 0);
    assert_int_equal(symlink("manifest.json", at("step-00000001.old/manifest.json")), 0);
    assert_left("kept step-00000001.old");
    assert_int_equal(rename(at("kept"), at("step-00000001.old/manifest.json")), 0);
    assert_left("step-00000001");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_old_one_without_its_step_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_old_one_beside_its_step_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_old_one_that_is_half_removed_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_old_one_that_cannot_be_read_waits, set_up, tear_down),
    };
    log_set_quiet(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
