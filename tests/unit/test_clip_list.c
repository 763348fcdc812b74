/* Sources of ingest: folders, JSON lines, CSV, and captions that cannot be used. */
#include "core/base/file.h"
#include "data/clip_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct Fixture {
    char folder[64];
    char path[128]; /* of the last file put there */
} Fixture;

static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->folder, "/tmp/zoetrope-list-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    assert_int_equal(file_remove_tree(f->folder), OK);
    free(f);
    return 0;
}

static const char *put_bytes(Fixture *f, const char *name, const char *bytes, size_t length)
{
    snprintf(f->path, sizeof f->path, "%s/%s", f->folder, name);
    assert_int_equal(file_write(f->path, bytes, length), OK);
    return f->path;
}

static const char *put(Fixture *f, const char *name, const char *text)
{
    return put_bytes(f, name, text, strlen(text));
}

static ClipList read_list(const char *source)
{
    ClipList list;
    if (clip_list_read(source, &list) != OK) fail_msg("%s", status_message());
    return list;
}

/* The error's message must say `what`. */
static void refuse(const char *source, Status status, const char *what)
{
    ClipList list;
    assert_int_equal(clip_list_read(source, &list), status);
    if (!strstr(status_message(), what)) fail_msg("\"%s\" in: %s", what, status_message());
}

static void folder_gives_videos_in_order_with_their_wordings(void **state)
{
    Fixture *f = *state;
    put(f, "b.MKV", "");
    put(f, "b.txt", "one caption");
    put(f, "a.b.mp4", "");
    put(f, "a.b.txt", "\xef\xbb\xbf  first \r\n\n\tsecond wording\n   \n");
    put(f, "notes.pdf", "");
    put(f, "heldout.txt", "not a video's");
    put(f, ".hidden.mp4", "");
    ClipList list = read_list(f->folder);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[0].name, "a.b.mp4");
    assert_int_equal(list.items[0].caption_count, 2);
    assert_string_equal(list.items[0].captions[0], "first");
    assert_string_equal(list.items[0].captions[1], "second wording");
    assert_null(list.items[0].problem);
    assert_string_equal(list.items[1].name, "b.MKV");
    assert_string_equal(list.items[1].captions[0], "one caption");
    assert_int_equal(strncmp(list.items[1].video, f->folder, strlen(f->folder)), 0);
    clip_list_destroy(&list);
}

static void unusable_captions_are_named_and_spare_the_others(void **state)
{
    Fixture *f = *state;
    char *longest = malloc(CAPTION_MAX_BYTES + 2);
    memset(longest, 'x', CAPTION_MAX_BYTES + 1);
    put(f, "absent.mp4", "");
    put(f, "bytes.mp4", "");
    put(f, "bytes.txt", "good\nbad \xff caption\n");
    put(f, "empty.mp4", "");
    put(f, "empty.txt", " \n\n");
    put(f, "good.mp4", "");
    put_bytes(f, "good.txt", longest, CAPTION_MAX_BYTES);
    put(f, "long.mp4", "");
    put_bytes(f, "long.txt", longest, CAPTION_MAX_BYTES + 1);
    put(f, "zero.mp4", "");
    put_bytes(f, "zero.txt", "a\0b", 3);
    free(longest);
    const char *const problems[] = { "absent.txt", "bytes.txt:2: caption is not UTF-8",
                                     "is empty",   NULL,
                                     "8193 bytes", "0 character" };
    ClipList list = read_list(f->folder);
    assert_int_equal(list.count, 6);
    for (int i = 0; i < 6; i++) {
        const char *found = list.items[i].problem;
        if (!problems[i] && !found) continue;
        if (!found || !problems[i] || !strstr(found, problems[i])) {
            fail_msg("%s: %s", list.items[i].name, found ? found : "no problem");
        }
    }
    clip_list_destroy(&list);
}

static void json_lines_take_one_caption_or_several(void **state)
{
    Fixture *f = *state;
    ClipList list = read_list(put(f, "list.jsonl",
                                  "{\"video\": \"sub/a.mp4\", \"caption\": \"caf\\u00e9\"}\n"
                                  "\n"
                                  "{\"video\": \"/abs/b.mp4\", \"captions\": [\"x\", \"y\"], "
                                  "\"note\": 1}\n"
                                  "{\"video\": \"c.mp4\"}\n"
                                  "{\"video\": \"sub/a.mp4\", \"caption\": \"again\"}"));
    assert_int_equal(list.count, 3);
    char path[128];
    snprintf(path, sizeof path, "%s/sub/a.mp4", f->folder);
    assert_string_equal(list.items[0].video, path);
    assert_string_equal(list.items[0].name, "sub/a.mp4");
    assert_int_equal(list.items[0].caption_count, 2);
    assert_string_equal(list.items[0].captions[0], "caf\xc3\xa9");
    assert_string_equal(list.items[0].captions[1], "again");
    assert_string_equal(list.items[1].video, "/abs/b.mp4");
    assert_int_equal(list.items[1].caption_count, 2);
    assert_non_null(strstr(list.items[2].problem, "has no caption"));
    clip_list_destroy(&list);
}

static void broken_json_lines_are_named_by_line(void **state)
{
    Fixture *f = *state;
    static const char *const cases[][2] = {
        { "{\"video\": \"a\", \"caption\": \"b\"}\n{\"video\": ", "list.jsonl:2" },
        { "[1]\n", "list.jsonl:1" },
        { "{\"caption\": \"b\"}\n", "video" },
        { "{\"video\": \"\", \"caption\": \"b\"}\n", "video is empty" },
        { "{\"video\": 7, \"caption\": \"b\"}\n", "video" },
        { "{\"video\": \"a\", \"caption\": [\"b\"]}\n", "caption" },
        { "{\"video\": \"a\", \"captions\": [\"b\", 3]}\n", "not a string" },
        { "{\"video\": \"a\", \"caption\": \"\xff\"}\n", "list.jsonl:1" },
        { "\n \n", "holds no videos" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        refuse(put(f, "list.jsonl", cases[i][0]), ERR_FORMAT, cases[i][1]);
    }
}

static void csv_understands_quotes_and_joins_rows(void **state)
{
    Fixture *f = *state;
    ClipList list = read_list(put(f, "list.csv",
                                  "\xef\xbb\xbfid,caption,video\r\n"
                                  "1,\"a \"\"quoted\"\" word, and a comma\",a.mp4\r\n"
                                  "2,\"two\nlines\",b.mp4\n"
                                  "\n"
                                  "3,second,\"a.mp4\"\n"
                                  "4,,c.mp4"));
    assert_int_equal(list.count, 3);
    assert_int_equal(list.items[0].caption_count, 2);
    assert_string_equal(list.items[0].captions[0], "a \"quoted\" word, and a comma");
    assert_string_equal(list.items[0].captions[1], "second");
    assert_string_equal(list.items[1].captions[0], "two\nlines");
    assert_non_null(strstr(list.items[2].problem, "has no caption"));
    clip_list_destroy(&list);
}

static void broken_csv_is_named_by_line(void **state)
{
    Fixture *f = *state;
    static const char *const cases[][2] = {
        { "", "no column \"video\"" },
        { "video\na.mp4\n", "no column \"caption\"" },
        { "video,caption\na.mp4,x\nb.mp4\n", "list.csv:3: 1 fields" },
        { "video,caption\na.mp4,x,y\n", "list.csv:2: 3 fields" },
        { "video,caption\na.mp4,\"x\n", "list.csv:2: a quote is never closed" },
        { "video,caption\na.mp4,\"x\"y\n", "want a comma" },
        { "video,caption\na.mp4,x\"y\n", "a quote inside" },
        { "video,caption\n,x\n", "video is empty" },
        { "video,caption\n", "holds no videos" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        refuse(put(f, "list.csv", cases[i][0]), ERR_FORMAT, cases[i][1]);
    }
}

static void sources_that_are_none_are_refused(void **state)
{
    Fixture *f = *state;
    refuse(f->folder, ERR_FORMAT, "holds no videos");
    refuse("/nonexistent/clips", ERR_IO, "/nonexistent/clips: no such file or folder");
    refuse(put(f, "list.xml", "<a/>"), ERR_FORMAT, "neither a folder nor a list");
}

static void thousands_of_rows_are_found_again(void **state)
{
    Fixture *f = *state;
    enum { VIDEOS = 3000 };
    char *text = malloc(VIDEOS * 2 * 32);
    int length = sprintf(text, "video,caption\n");
    for (int i = 0; i < 2 * VIDEOS; i++) {
        length += sprintf(text + length, "v%d.mp4,c%d\n", i % VIDEOS, i);
    }
    ClipList list = read_list(put(f, "list.csv", text));
    free(text);
    assert_int_equal(list.count, VIDEOS);
    for (int i = 0; i < VIDEOS; i++) assert_int_equal(list.items[i].caption_count, 2);
    clip_list_destroy(&list);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(folder_gives_videos_in_order_with_their_wordings),
        TEST(unusable_captions_are_named_and_spare_the_others),
        TEST(json_lines_take_one_caption_or_several),
        TEST(broken_json_lines_are_named_by_line),
        TEST(csv_understands_quotes_and_joins_rows),
        TEST(broken_csv_is_named_by_line),
        TEST(sources_that_are_none_are_refused),
        TEST(thousands_of_rows_are_found_again),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
