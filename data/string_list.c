#include "data/string_list.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static Status grow(void **block, int64_t *reserved, int64_t wanted, size_t size, const char *what)
{
    if (wanted <= *reserved) return OK;
    int64_t room = *reserved < 64 ? 64 : *reserved + *reserved / 2;
    if (room < wanted) room = wanted;
    void *bigger = reallocarray(*block, (size_t)room, size);
    CHECK(bigger != NULL, ERR_MEMORY, "%s: no memory for %lld entries of %zu bytes", what,
          (long long)room, size);
    *block = bigger;
    *reserved = room;
    return OK;
}

Status string_list_reserve(StringList *list, int64_t strings, int64_t bytes, const char *what)
{
    void *starts = list->starts, *block = list->bytes;
    const bool fresh = list->starts == NULL;
    TRY(grow(&starts, &list->reserved, strings + 1, sizeof(int64_t), what));
    list->starts = starts;
    if (fresh) list->starts[0] = 0;
    TRY(grow(&block, &list->bytes_reserved, bytes + strings, 1, what));
    list->bytes = block;
    return OK;
}

Status string_list_add(StringList *list, const char *bytes, int64_t length, const char *what)
{
    const int64_t used = list->starts == NULL ? 0 : list->starts[list->count] - list->count;
    TRY(string_list_reserve(list, list->count + 1, used + length, what));
    char *at = list->bytes + list->starts[list->count];
    memcpy(at, bytes, (size_t)length);
    at[length] = '\0';
    list->starts[list->count + 1] = list->starts[list->count] + length + 1;
    list->count++;
    return OK;
}

const char *string_list_at(const StringList *list, int64_t index)
{
    return list->bytes + list->starts[index];
}

int64_t string_list_length(const StringList *list, int64_t index)
{
    return list->starts[index + 1] - list->starts[index] - 1;
}

void string_list_clear(StringList *list)
{
    list->count = 0;
}

void string_list_destroy(StringList *list)
{
    free(list->bytes);
    free(list->starts);
    *list = (StringList){ 0 };
}
