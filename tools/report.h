/*
 * report: facts for people as aligned text, or the same facts for programs as one JSON object.
 *
 * One call says a fact once. Its key is the JSON member and, with spaces for "_" and without
 * "_bytes", the label. Sections are objects; a table is an object with one object a row, by name.
 * Nothing is printed before report_finish, so that a command prints all or only its error. What
 * comes out of files may hold anything: control characters are shown as \xNN. The first failure is
 * kept and returned by report_finish.
 */
#ifndef ZT_TOOLS_REPORT_H
#define ZT_TOOLS_REPORT_H

#include "core/base/json_writer.h"

#include <stdio.h>

enum { REPORT_COLUMNS = 16 };

typedef struct Report {
    bool json;
    JsonWriter w;
    FILE *text; /* owned; writes to `bytes` */
    char *bytes;
    size_t length;
    Status status;
    int depth; /* of sections: facts in them are indented */
    /* the table at hand, as text */
    const char *table; /* NULL: none */
    int64_t limit, rows;
    int columns, column; /* in all; filled in this row */
    char titles[REPORT_COLUMNS][40];
    bool left[REPORT_COLUMNS];
    char **cells; /* owned; row by row */
    int64_t cell_count, reserved;
} Report;

/* ERR_MEMORY. */
Status report_create(Report *report, bool json);
/* Prints to standard output. The report is empty after it, whatever the answer. */
Status report_finish(Report *report);
void report_destroy(Report *report);

void report_section(Report *report, const char *key);
void report_section_end(Report *report);

/* A table whose first column is the rows' names. Text shows `limit` rows (0: all) and how many more
 * there are. Every row says the same facts in the same order. */
void report_table(Report *report, const char *key, int64_t limit);
void report_row(Report *report, const char *name);
void report_row_end(Report *report);
void report_table_end(Report *report);

/* A fact, or a cell of the row at hand. */
void report_string(Report *report, const char *key, const char *value); /* NULL: none */
void report_int(Report *report, const char *key, int64_t value);
/* Key ends in "_bytes". */
void report_bytes(Report *report, const char *key, int64_t value);
/* Not finite: JSON has null. */
void report_real(Report *report, const char *key, double value);
void report_bool(Report *report, const char *key, bool value);
/* [8, 4, 2] */
void report_shape(Report *report, const char *key, const int64_t *dims, int count);

/* "12.3 MiB" into out. */
const char *report_size(int64_t bytes, char out[32]);

#endif
