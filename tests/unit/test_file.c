/* file: commits are all or nothing, and removal stays inside its folder. */
#include "core/base/digest.h"
#include "core/base/file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static char root[FILE_PATH_BYTES];

/* root/name, in one of a few rotating buffers. */
static const char *at(const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    assert_int_equal(file_join(path, root, name), OK);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)snprintf(root, sizeof root, "%s/test_file.XXXXXX", base);
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root) == OK && file_kind(root) == FILE_ABSENT ? 0 : -1;
}

static void assert_file(const char *path, const char *expected)
{
    char *bytes = NULL;
    size_t length = 0;
    assert_int_equal(file_read(path, 1000, &bytes, &length), OK);
    assert_int_equal(length, strlen(expected));
    assert_string_equal(bytes, expected);
    free(bytes);
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    assert_int_equal(file_write(at("a"), "first", 5), OK);
    assert_file(at("a"), "first");
    assert_int_equal(file_write(at("a"), "second", 6), OK);
    assert_file(at("a"), "second");
    assert_int_equal(file_kind(at("a.tmp")), FILE_ABSENT);
}

static void a_file_above_the_limit_is_refused(void **state)
{
    (void)state;
    char *bytes = NULL;
    size_t length = 0;
    assert_int_equal(file_write(at("long"), "12345", 5), OK);
    assert_int_equal(file_read(at("long"), 4, &bytes, &length), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "long: has 5 bytes, at most 4"));
    assert_null(bytes);
    assert_int_equal(file_read(at("long"), 5, &bytes, &length), OK);
    free(bytes);
}

static void errors_name_path_and_reason(void **state)
{
    (void)state;
    char *bytes = NULL;
    size_t length = 0;
    assert_int_equal(file_read(at("absent"), 10, &bytes, &length), ERR_IO);
    assert_non_null(strstr(status_message(), "absent: open: No such file or directory"));
    assert_int_equal(file_read(root, 1 << 20, &bytes, &length), ERR_IO);
    assert_non_null(strstr(status_message(), "is a folder"));
    assert_int_equal(file_write(at("no/such/folder"), "x", 1), ERR_IO);
    assert_non_null(strstr(status_message(), "no/such/folder: open: No such file"));
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    assert_int_equal(file_read(at("pipe"), 10, &bytes, &length), ERR_IO);
    assert_non_null(strstr(status_message(), "not a regular file"));
}

static void an_abandoned_file_leaves_nothing(void **state)
{
    (void)state;
    FileWriter w;
    assert_int_equal(file_write(at("kept"), "old", 3), OK);
    assert_int_equal(file_writer_open(&w, at("kept")), OK);
    assert_int_equal(file_writer_write(&w, "new", 3), OK);
    assert_file(at("kept"), "old");
    file_writer_abandon(&w);
    assert_int_equal(file_kind(at("kept.tmp")), FILE_ABSENT);
    assert_file(at("kept"), "old");
}

static void a_full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    static char large[64 << 10];
    /* a limit on file sizes fails writes the way a full disk does */
    struct rlimit before, limit;
    assert_int_equal(file_write(at("full"), "old", 3), OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 4096;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    const Status s = file_write(at("full"), large, sizeof large);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(s, ERR_IO);
    assert_non_null(strstr(status_message(), "full: write: File too large"));
    assert_file(at("full"), "old");
    assert_int_equal(file_kind(at("full.tmp")), FILE_ABSENT);
}

static void a_link_left_at_the_temporary_name_is_not_followed(void **state)
{
    (void)state;
    assert_int_equal(file_write(at("victim"), "mine", 4), OK);
    assert_int_equal(symlink(at("victim"), at("out.tmp")), 0);
    assert_int_equal(file_write(at("out"), "yours", 5), OK);
    assert_file(at("victim"), "mine");
    assert_file(at("out"), "yours");
}

static void folders_are_made_and_listed_in_order(void **state)
{
    (void)state;
    FileList list = { 0 };
    assert_int_equal(file_make_folders(at("tree/b/c")), OK);
    assert_int_equal(file_make_folders(at("tree/b/c/")), OK);
    assert_int_equal(file_write(at("tree/z"), "", 0), OK);
    assert_int_equal(file_write(at("tree/b/c/y"), "", 0), OK);
    assert_int_equal(file_write(at("tree/b.x"), "", 0), OK);
    assert_int_equal(file_list(at("tree"), &list), OK);
    assert_int_equal(list.count, 3);
    assert_string_equal(list.names[0], "b");
    assert_string_equal(list.names[1], "b.x");
    assert_string_equal(list.names[2], "z");
    file_list_destroy(&list);
    assert_int_equal(file_list_tree(at("tree"), &list), OK);
    assert_int_equal(list.count, 3);
    assert_string_equal(list.names[0], "b.x");
    assert_string_equal(list.names[1], "b/c/y");
    file_list_destroy(&list);
    assert_int_equal(file_make_folders(at("tree/z/under_a_file")), ERR_IO);
    assert_int_equal(symlink("/etc/passwd", at("tree/link")), 0);
    assert_int_equal(file_list_tree(at("tree"), &list), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "tree/link"));
}

static void a_name_below_a_folder_has_no_way_out(void **state)
{
    (void)state;
    static const char *const inside[] = {
        "a", "a/b.json", ".hidden", "a/.b", "...", "a..b", "..a/b"
    };
    static const char *const outside[] = { "",    "/",   "/a",    "a/",   "a//b", ".",     "..",
                                           "./a", "a/.", "a/./b", "../a", "a/..", "a/../b" };
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++)
        if (!file_is_below(inside[i])) fail_msg("\"%s\" is refused", inside[i]);
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++)
        if (file_is_below(outside[i])) fail_msg("\"%s\" is taken", outside[i]);
}

static void removal_does_not_follow_links(void **state)
{
    (void)state;
    assert_int_equal(file_make_folders(at("outside")), OK);
    assert_int_equal(file_write(at("outside/keep"), "x", 1), OK);
    assert_int_equal(file_make_folders(at("doomed/deep")), OK);
    assert_int_equal(symlink(at("outside"), at("doomed/deep/link")), 0);
    assert_int_equal(file_remove_tree(at("doomed")), OK);
    assert_int_equal(file_kind(at("doomed")), FILE_ABSENT);
    assert_file(at("outside/keep"), "x");
    assert_int_equal(file_remove_tree(at("doomed")), OK);
}

static void an_exchange_swaps_two_folders(void **state)
{
    (void)state;
    bool swapped = false;
    assert_int_equal(file_make_folders(at("one")), OK);
    assert_int_equal(file_make_folders(at("two")), OK);
    assert_int_equal(file_write(at("one/f"), "1", 1), OK);
    assert_int_equal(file_write(at("two/f"), "2", 1), OK);
    assert_int_equal(file_exchange(at("one"), at("two"), &swapped), OK);
    assert_file(at("one/f"), swapped ? "2" : "1");
    assert_file(at("two/f"), swapped ? "1" : "2");
}

static void sha256_is_the_published_one(void **state)
{
    (void)state;
    /* FIPS 180-4 example: "abc" */
    static const char expected[] =
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    char hex[DIGEST_HEX];
    Digest digest, parsed;
    int64_t size = 0;
    assert_int_equal(digest_bytes("abc", 3, &digest), OK);
    digest_hex(&digest, hex);
    assert_string_equal(hex, expected);
    assert_int_equal(digest_parse(expected, &parsed), OK);
    assert_memory_equal(&parsed, &digest, sizeof digest);
    assert_int_equal(digest_parse("ba78", &parsed), ERR_FORMAT);

    DigestStream *stream = NULL;
    assert_int_equal(digest_stream_create(&stream), OK);
    digest_stream_update(stream, "a", 1);
    digest_stream_update(stream, "bc", 2);
    digest_stream_finish(stream, &parsed);
    assert_memory_equal(&parsed, &digest, sizeof digest);
    digest_stream_destroy(stream);

    assert_int_equal(file_write(at("abc"), "abc", 3), OK);
    assert_int_equal(digest_file(at("abc"), &parsed, &size), OK);
    assert_int_equal(size, 3);
    assert_memory_equal(&parsed, &digest, sizeof digest);
    assert_int_equal(digest_file(at("nothing"), &parsed, &size), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_file_above_the_limit_is_refused),
        cmocka_unit_test(errors_name_path_and_reason),
        cmocka_unit_test(an_abandoned_file_leaves_nothing),
        cmocka_unit_test(a_full_disk_keeps_the_old_file),
        cmocka_unit_test(a_link_left_at_the_temporary_name_is_not_followed),
        cmocka_unit_test(folders_are_made_and_listed_in_order),
        cmocka_unit_test(a_name_below_a_folder_has_no_way_out),
        cmocka_unit_test(removal_does_not_follow_links),
        cmocka_unit_test(an_exchange_swaps_two_folders),
        cmocka_unit_test(sha256_is_the_published_one),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
