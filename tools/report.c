#include "tools/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL = 20, CELL_MOST = 72, LAST_CELL_MOST = 200 };

Status report_create(Report *report, bool json)
{
    *report = (Report){ .json = json, .w = json_writer(2) };
    if (json) {
        json_begin_object(&report->w, NULL);
        return OK;
    }
    report->text = open_memstream(&report->bytes, &report->length);
    CHECK(report->text, ERR_MEMORY, "no memory for a report");
    return OK;
}

void report_destroy(Report *report)
{
    json_writer_destroy(&report->w);
    if (report->text) (void)fclose(report->text);
    free(report->bytes);
    for (int64_t i = 0; i < report->cell_count; i++) free(report->cells[i]);
    free(report->cells);
    *report = (Report){ .w = json_writer(2) };
}

/* The JSON text replaces `bytes`. */
static Status finish_json(Report *report)
{
    json_end_object(&report->w);
    return json_writer_finish(&report->w, &report->bytes, &report->length);
}

static Status finish_text(Report *report)
{
    const bool failed = fclose(report->text) != 0;
    report->text = NULL;
    CHECK(!failed, ERR_MEMORY, "no memory for a report");
    return OK;
}

Status report_finish(Report *report)
{
    Status s = report->status;
    if (s == OK) s = report->json ? finish_json(report) : finish_text(report);
    if (s == OK) {
        (void)fwrite(report->bytes, 1, report->length, stdout);
        if (report->json) (void)putchar('\n');
        if (fflush(stdout) != 0) s = status_fail(ERR_IO, "standard output: %s", strerror(errno));
    }
    report_destroy(report);
    return s;
}

/* ---- text ----------------------------------------------------------------------------------- */

/* Bytes of the character at `at`: 1 for what cannot be shown, with *shown false. */
static size_t character(const char *at, bool *shown)
{
    const unsigned char c = (unsigned char)at[0];
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    n = strnlen(at, n);
    /* controls of both kinds, which could drive a terminal */
    const bool control = c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)at[1] < 0xa0);
    *shown = !control && json_utf8_valid(at, n);
    return *shown ? n : 1;
}

/* Columns that a text takes on the terminal, at most `most`. */
static int width_of(const char *text, int most)
{
    int columns = 0;
    while (*text && columns < most) {
        bool shown;
        text += character(text, &shown);
        columns += shown ? 1 : 4;
    }
    return columns < most ? columns : most;
}

/* Writes the text, its end replaced by dots when it takes more than `most` columns. */
static void put_safe(FILE *to, const char *text, int most)
{
    const bool fits = width_of(text, most + 1) <= most;
    int columns = 0;
    while (*text) {
        bool shown;
        const size_t n = character(text, &shown);
        columns += shown ? 1 : 4;
        if (!fits && columns > most - 3) break;
        if (shown)
            (void)fwrite(text, 1, n, to);
        else
            fprintf(to, "\\x%02x", (unsigned char)*text);
        text += n;
    }
    if (!fits) (void)fputs("...", to);
}

static void label_of(const char *key, char out[40])
{
    (void)snprintf(out, 40, "%s", key);
    char *unit = strstr(out, "_bytes");
    if (unit && unit[6] == 0) *unit = 0;
    for (char *c = out; *c; c++)
        if (*c == '_') *c = ' ';
}

static void add_cell(Report *report, const char *value)
{
    if (report->cell_count == report->reserved) {
        const int64_t reserved = 2 * report->reserved + 64;
        char **cells = realloc(report->cells, (size_t)reserved * sizeof *cells);
        if (!cells) {
            report->status = status_fail(ERR_MEMORY, "no memory for a table");
            return;
        }
        report->cells = cells;
        report->reserved = reserved;
    }
    char *copy = strdup(value);
    if (copy)
        report->cells[report->cell_count++] = copy;
    else
        report->status = status_fail(ERR_MEMORY, "no memory for a table");
}

/* A fact on a line of its own, or a cell. */
static void put(Report *report, const char *key, const char *value, bool left)
{
    char label[40];
    if (report->status != OK) return;
    label_of(key, label);
    if (!report->table) {
        fprintf(report->text, "%*s%-*s ", 2 * report->depth, "", LABEL - 2 * report->depth, label);
        put_safe(report->text, value, 1 << 20);
        (void)fputc('\n', report->text);
        return;
    }
    if (report->limit > 0 && report->rows > report->limit) return;
    if (report->rows == 1 && report->columns < REPORT_COLUMNS) {
        memcpy(report->titles[report->columns], label, sizeof label);
        report->left[report->columns++] = left;
    }
    add_cell(report, value);
}

/* ---- sections and tables -------------------------------------------------------------------- */

void report_section(Report *report, const char *key)
{
    if (report->json) {
        json_begin_object(&report->w, key);
        return;
    }
    fprintf(report->text, "\n%*s", 2 * report->depth, "");
    put_safe(report->text, key, CELL_MOST);
    (void)fputc('\n', report->text);
    report->depth++;
}

void report_section_end(Report *report)
{
    if (report->json)
        json_end_object(&report->w);
    else
        report->depth--;
}

void report_table(Report *report, const char *key, int64_t limit)
{
    if (report->json) json_begin_object(&report->w, key);
    report->table = key;
    report->limit = limit;
    report->rows = report->columns = 0;
}

void report_row(Report *report, const char *name)
{
    report->rows++;
    if (report->json)
        json_begin_object(&report->w, name);
    else
        put(report, report->table, name, true);
}

void report_row_end(Report *report)
{
    if (report->json) json_end_object(&report->w);
}

static void print_row(const Report *report, const char *const *cells, const int *widths)
{
    fprintf(report->text, "%*s", 2 * report->depth, "");
    for (int c = 0; c < report->columns; c++) {
        const bool last = c + 1 == report->columns;
        const int most = last ? LAST_CELL_MOST : CELL_MOST;
        const int pad = widths[c] - width_of(cells[c], most);
        if (!report->left[c]) fprintf(report->text, "%*s", pad, "");
        put_safe(report->text, cells[c], most);
        if (report->left[c] && !last) fprintf(report->text, "%*s", pad, "");
        (void)fputs(last ? "\n" : "  ", report->text);
    }
}

static void print_table(Report *report)
{
    const char *titles[REPORT_COLUMNS];
    int widths[REPORT_COLUMNS];
    const int64_t columns = report->columns;
    (void)fputc('\n', report->text);
    for (int c = 0; c < columns; c++) {
        const int most = c + 1 == columns ? LAST_CELL_MOST : CELL_MOST;
        titles[c] = report->titles[c];
        widths[c] = (int)strlen(titles[c]);
        for (int64_t i = c; i < report->cell_count; i += columns) {
            const int width = width_of(report->cells[i], most);
            if (width > widths[c]) widths[c] = width;
        }
    }
    print_row(report, titles, widths);
    for (int64_t i = 0; i + columns <= report->cell_count; i += columns)
        print_row(report, (const char *const *)report->cells + i, widths);
    if (report->limit > 0 && report->rows > report->limit)
        fprintf(report->text, "%*s... and %lld more; --json has them all\n", 2 * report->depth, "",
                (long long)(report->rows - report->limit));
}

void report_table_end(Report *report)
{
    if (report->json)
        json_end_object(&report->w);
    else if (report->columns > 0 && report->status == OK)
        print_table(report);
    for (int64_t i = 0; i < report->cell_count; i++) free(report->cells[i]);
    report->cell_count = 0;
    report->table = NULL;
}

/* ---- facts ---------------------------------------------------------------------------------- */

void report_string(Report *report, const char *key, const char *value)
{
    if (report->json)
        json_write_string(&report->w, key, value);
    else
        put(report, key, value ? value : "-", true);
}

/* 1234567 as "1,234,567". */
static void group_digits(int64_t value, char out[32])
{
    char digits[24];
    const int n = snprintf(digits, sizeof digits, "%lld", (long long)value);
    char *to = out;
    for (int i = 0; i < n; i++) {
        *to++ = digits[i];
        if (digits[i] != '-' && i + 1 < n && (n - 1 - i) % 3 == 0) *to++ = ',';
    }
    *to = 0;
}

void report_int(Report *report, const char *key, int64_t value)
{
    char text[32];
    group_digits(value, text);
    if (report->json)
        json_write_int(&report->w, key, value);
    else
        put(report, key, text, false);
}

const char *report_size(int64_t bytes, char out[32])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double value = (double)bytes;
    int unit = 0;
    while (unit < 4 && value >= 1024) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

void report_bytes(Report *report, const char *key, int64_t value)
{
    char text[32];
    if (report->json)
        json_write_int(&report->w, key, value);
    else
        put(report, key, report_size(value, text), false);
}

void report_real(Report *report, const char *key, double value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.5g", value);
    if (!report->json)
        put(report, key, isnan(value) ? "-" : text, false);
    else if (isfinite(value))
        json_write_real(&report->w, key, value);
    else
        json_write_null(&report->w, key);
}

void report_bool(Report *report, const char *key, bool value)
{
    if (report->json)
        json_write_bool(&report->w, key, value);
    else
        put(report, key, value ? "yes" : "no", true);
}

void report_shape(Report *report, const char *key, const int64_t *dims, int count)
{
    if (report->json) {
        json_begin_array(&report->w, key);
        for (int i = 0; i < count; i++) json_write_int(&report->w, NULL, dims[i]);
        json_end_array(&report->w);
        return;
    }
    char text[512]; /* 16 dimensions of at most 20 characters and ", " each */
    size_t n = 1;
    (void)snprintf(text, sizeof text, "[");
    for (int i = 0; i < count && n < sizeof text - 24; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%lld", i ? ", " : "",
                              (long long)dims[i]);
    (void)snprintf(text + n, sizeof text - n, "]");
    put(report, key, text, true);
}
