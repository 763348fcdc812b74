#include "core/base/nearest.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { WORD_MAX = 64 };

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* Optimal string alignment distance of two words of at most WORD_MAX letters. */
static int distance(const char *a, int a_length, const char *b, int b_length)
{
    int rows[3][WORD_MAX + 1]; /* of the table: two before, one before, this one */
    int *before = rows[0], *last = rows[1], *row = rows[2];
    for (int j = 0; j <= b_length; j++) last[j] = before[j] = j;
    for (int i = 1; i <= a_length; i++) {
        row[0] = i;
        for (int j = 1; j <= b_length; j++) {
            const int change = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = min_int(change, min_int(last[j], row[j - 1]) + 1);
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) row[j] = min_int(row[j], before[j - 2] + 1);
        }
        int *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[b_length];
}

const char *nearest_name(const char *word, const char *const *names)
{
    const char *best = NULL;
    const size_t length = strlen(word);
    if (length > WORD_MAX) return NULL;
    int limit = (int)(length > 5 ? length / 3 : 2);
    for (; *names != NULL; names++) {
        const size_t other = strlen(*names);
        if (other > WORD_MAX) continue;
        const int d = distance(word, (int)length, *names, (int)other);
        if (d >= (int)(length > other ? length : other) || d > limit) continue;
        best = *names;
        limit = d - 1;
    }
    return best;
}
