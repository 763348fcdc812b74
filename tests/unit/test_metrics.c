/* metrics.jsonl: every line is JSON, says the loss to the bit, and survives a run that is resumed.
 */
#include "core/base/file.h"
#include "core/base/json.h"
#include "train/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

static char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];

static int set_up(void **state)
{
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/test_metrics.XXXXXX", base);
    log_set_quiet(true);
    if (!mkdtemp(folder)) return -1;
    return file_join(path, folder, "metrics.jsonl") == OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(folder) == OK ? 0 : -1;
}

static int remove_file(void **state)
{
    (void)state;
    (void)remove(path);
    return 0;
}

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

static StepMetrics step_of(int64_t step, double loss)
{
    return (StepMetrics){ .step = step,
                          .loss = loss,
                          .grad_norm = 0.5,
                          .lr = 1e-4,
                          .clips = 8,
                          .tokens = 640,
                          .step_s = 0.25,
                          .wait_s = 0.01,
                          .tokens_per_s = 2560.0,
                          .mfu = 0.5,
                          .heldout = NAN };
}

static void write_steps(int64_t done, int64_t first, int64_t last)
{
    Metrics metrics;

    ok(metrics_open(&metrics, folder, done, 100));
    for (int64_t step = first; step <= last; step++) {
        const StepMetrics m = step_of(step, 1.0 / (double)step);
        ok(metrics_write(&metrics, &m));
    }
    metrics_close(&metrics);
}

/* The caller frees *text. */
static void contents(char **text)
{
    size_t length = 0;

    ok(file_read(path, 1 << 20, text, &length));
    assert_int_equal(length, strlen(*text));
}

/* The lines must be those of steps 1, 2, ... last, whole. */
static void check_lines(int64_t last)
{
    const JsonLimits limits = json_limits();
    char *text = NULL;

    contents(&text);
    char *line = text;

    for (int64_t want = 1; want <= last; want++) {
        char *end = strchr(line, '\n');
        Json *json = NULL;
        int64_t step = 0;
        if (!end) fail_msg("the line of step %lld is missing", (long long)want);
        ok(json_parse(line, (size_t)(end - line), "metrics", &limits, &json));
        ok(json_get_int(json, "metrics", "step", 0, 1000, &step));
        assert_int_equal(step, want);
        json_free(json);
        line = end + 1;
    }
    assert_string_equal(line, "");
    free(text);
}

static void append(const char *text)
{
    FILE *file = fopen(path, "a");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* ---- resuming ------------------------------------------------------------------------------- */

static void a_resumed_run_replaces_the_lines_of_later_steps(void **state)
{
    (void)state;
    write_steps(0, 1, 12);
    check_lines(12);
    /* the checkpoint was of step 9: 10 to 12 are done again; ten is more than nine, not less */
    write_steps(9, 10, 14);
    check_lines(14);
    write_steps(14, 15, 15);
    check_lines(15);
}

static void a_torn_last_line_is_dropped(void **state)
{
    (void)state;
    write_steps(0, 1, 5);
    append("{\"step\":6,\"loss\":0.1");
    write_steps(5, 6, 7);
    check_lines(7);
    /* also when its step is done: half a line is none */
    append("{\"step\":3,");
    write_steps(7, 8, 8);
    check_lines(8);
}

static void lines_of_something_else_are_dropped(void **state)
{
    (void)state;
    write_steps(0, 1, 2);
    append("\n# notes\n{\"loss\":1}\n");
    write_steps(2, 3, 3);
    check_lines(3);
}

static void a_fresh_run_starts_an_empty_file(void **state)
{
    (void)state;
    write_steps(0, 1, 5);
    write_steps(0, 1, 2);
    check_lines(2);
}

static void kept_lines_keep_their_bytes(void **state)
{
    char *before = NULL, *after = NULL;

    (void)state;
    write_steps(0, 1, 4);
    contents(&before);
    write_steps(4, 5, 4);
    contents(&after);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

/* ---- values --------------------------------------------------------------------------------- */

static Json *write_one(const StepMetrics *m)
{
    const JsonLimits limits = json_limits();
    Metrics metrics;
    Json *json = NULL;
    char *text = NULL;

    (void)remove(path);
    ok(metrics_open(&metrics, folder, 0, 100));
    ok(metrics_write(&metrics, m));
    metrics_close(&metrics);
    contents(&text);
    char *end = strchr(text, '\n');
    assert_non_null(end);
    ok(json_parse(text, (size_t)(end - text), "metrics", &limits, &json));
    free(text);
    return json;
}

static void loss_hex_gives_the_loss_to_the_bit(void **state)
{
    const double losses[] = { 1.0 / 3.0, 0.1,        0x1.fffffffffffffp-1,  5e-324,
                              -0.0,      2.00000001, 1.7976931348623157e308 };

    (void)state;
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        const StepMetrics m = step_of(1, losses[i]);
        const char *hex = NULL;
        Json *json = write_one(&m);
        ok(json_get_string(json, "metrics", "loss_hex", &hex));
        const double back = strtod(hex, NULL);
        assert_memory_equal(&back, &losses[i], sizeof back);
        json_free(json);
    }
}

static void a_step_says_all_it_knows(void **state)
{
    static const char *const reals[] = { "loss",   "grad_norm",    "lr",  "step_s",
                                         "wait_s", "tokens_per_s", "mfu", "heldout_loss" };
    static const double wants[] = { 0.75, 0.5, 1e-4, 0.25, 0.01, 2560.0, 0.5, 0.625 };
    StepMetrics m = step_of(7, 0.75);
    int64_t count = 0;
    bool skipped = true;

    (void)state;
    m.heldout = 0.625;
    Json *json = write_one(&m);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        double value = 0.0;
        ok(json_get_real(json, "metrics", reals[i], -1e9, 1e9, &value));
        assert_true(value == wants[i]);
    }
    ok(json_get_int(json, "metrics", "clips", 0, 100, &count));
    assert_int_equal(count, 8);
    ok(json_get_int(json, "metrics", "tokens", 0, 1000, &count));
    assert_int_equal(count, 640);
    ok(json_get_bool(json, "metrics", "skipped", &skipped));
    assert_false(skipped);
    /* one rank is not the slowest of anything */
    assert_false(json_has(json, "slowest_rank"));
    json_free(json);
}

static void slowest_of_several_ranks_is_told(void **state)
{
    StepMetrics m = step_of(1, 0.5);
    int64_t rank = 0;
    double seconds = 0.0;

    (void)state;
    m.ranks = 4;
    m.slowest_rank = 3;
    m.slowest_s = 0.125;
    Json *json = write_one(&m);
    ok(json_get_int(json, "metrics", "slowest_rank", 0, 100, &rank));
    assert_int_equal(rank, 3);
    ok(json_get_real(json, "metrics", "slowest_s", 0, 100, &seconds));
    assert_true(seconds == 0.125);
    json_free(json);
}

static void what_is_not_finite_is_null_and_says_so_in_hex(void **state)
{
    const double losses[] = { NAN, INFINITY, -INFINITY };
    static const char *const hexes[] = { "nan", "inf", "-inf" };

    (void)state;
    for (int i = 0; i < 3; i++) {
        StepMetrics m = step_of(1, losses[i]);
        const char *hex = NULL;
        bool skipped = false;
        m.grad_norm = losses[i];
        m.skipped = true;
        Json *json = write_one(&m);
        ok(json_get_string(json, "metrics", "loss_hex", &hex));
        assert_string_equal(hex, hexes[i]);
        assert_false(json_has(json, "loss"));
        assert_false(json_has(json, "grad_norm"));
        /* not measured: not there */
        assert_false(json_has(json, "heldout_loss"));
        ok(json_get_bool(json, "metrics", "skipped", &skipped));
        assert_true(skipped);
        json_free(json);
    }
}

/* The limit of a file's size stands for a full disk: a line is torn where the room ends. */
static void lines_wait_for_room(void **state)
{
    struct rlimit before, small;
    Metrics metrics;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    ok(metrics_open(&metrics, folder, 0, 100));
    for (int64_t step = 1; step <= 6; step++) {
        const StepMetrics m = step_of(step, 0.5);
        struct stat file;
        assert_int_equal(stat(path, &file), 0);
        small.rlim_cur = (rlim_t)file.st_size + 10;
        if (step == 3) assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        if (step == 5) assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        const Status status = metrics_write(&metrics, &m);
        const bool full = step == 3 || step == 4;
        assert_int_equal(status, full ? ERR_IO : OK);
        if (full) assert_non_null(strstr(status_message(), "metrics.jsonl: File too large"));
        if (full) assert_int_equal(metrics_flush(&metrics), ERR_IO);
    }
    ok(metrics_flush(&metrics));
    metrics_close(&metrics);
    (void)signal(SIGXFSZ, handler);
    check_lines(6);
}

static void a_folder_that_is_not_there_is_named(void **state)
{
    char nowhere[FILE_PATH_BYTES];
    Metrics metrics;

    (void)state;
    ok(file_join(nowhere, folder, "nowhere"));
    assert_int_equal(metrics_open(&metrics, nowhere, 0, 1), ERR_IO);
    assert_non_null(strstr(status_message(), "nowhere/metrics.jsonl"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_resumed_run_replaces_the_lines_of_later_steps, remove_file),
        cmocka_unit_test_teardown(lines_wait_for_room, remove_file),
        cmocka_unit_test_teardown(a_torn_last_line_is_dropped, remove_file),
        cmocka_unit_test_teardown(lines_of_something_else_are_dropped, remove_file),
        cmocka_unit_test_teardown(a_fresh_run_starts_an_empty_file, remove_file),
        cmocka_unit_test_teardown(kept_lines_keep_their_bytes, remove_file),
        cmocka_unit_test_teardown(loss_hex_gives_the_loss_to_the_bit, remove_file),
        cmocka_unit_test_teardown(a_step_says_all_it_knows, remove_file),
        cmocka_unit_test_teardown(slowest_of_several_ranks_is_told, remove_file),
        cmocka_unit_test_teardown(what_is_not_finite_is_null_and_says_so_in_hex, remove_file),
        cmocka_unit_test(a_folder_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
