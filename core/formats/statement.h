/*
 * statement: what a model's signature says, an in-toto statement with OpenSSF Model Signing's
 * predicate v1.0: every file's name and SHA-256 (method "files"). JSON text only; no file is
 * touched. Not collective.
 */
#ifndef ZT_CORE_FORMATS_STATEMENT_H
#define ZT_CORE_FORMATS_STATEMENT_H

#include "core/base/digest.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct StatementFile {
    char *name; /* owned; "transformer/config.json" */
    Digest digest;
} StatementFile;

typedef struct Statement {
    StatementFile *files; /* owned; sorted by name, no name twice */
    int64_t count;
    char **left_out; /* owned: paths that the signer excluded beyond what is always excluded */
    int64_t left_out_count;
} Statement;

/* The JSON text of the statement about the files, which are sorted for it, of a model called
 * `name`; the caller frees it. */
Status statement_write(const char *name, StatementFile *files, int64_t count, char **text,
                       size_t *length);
/* Strict: paths are relative and plain, no name twice, the subject's digest is that of the list.
 * `what` is what errors call it. ERR_FORMAT, ERR_MEMORY. */
Status statement_parse(const char *text, size_t length, const char *what, Statement *out);
void statement_destroy(Statement *statement);

/* NULL when the statement has no such file. */
const StatementFile *statement_find(const Statement *statement, const char *name);
/* What no signature is over: .git, .gitattributes, .github, .gitignore, model.sig. */
bool statement_excludes(const char *name);
/* Whether the signer left this path, or a folder above it, out. */
bool statement_left_out(const Statement *statement, const char *name);

#ifdef __cplusplus
}
#endif
#endif
