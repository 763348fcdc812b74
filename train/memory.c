#include "train/memory.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const struct {
    const char *name, *help;
} rows[MEMORY_ROWS] = {
#define ROW(ID, name, help) { name, help },
    MEMORY_LIST(ROW)
#undef ROW
};

const char *memory_row_name(MemoryRow row)
{
    return rows[row].name;
}

int64_t memory_total(const RankMemory *memory)
{
    int64_t total = 0;
    for (int i = 0; i < MEMORY_ROWS; i++) total += memory->bytes[i];
    return total;
}

/* Names are given where the tensors are cut; the first prefix that fits counts. */
MemoryRow memory_row_of(const char *tensor)
{
    static const struct {
        const char *prefix;
        MemoryRow row;
    } table[] = {
        { "attention.", MEMORY_ATTENTION },
        { "sequence.", MEMORY_ATTENTION },
        { "block.a", MEMORY_ATTENTION },
        { "block.b", MEMORY_ATTENTION },
        { "block.c", MEMORY_FFN },
        { "block.h", MEMORY_FFN },
        { "block.gelu", MEMORY_FFN },
        { "block", MEMORY_STREAM },
        { "text", MEMORY_TEXT },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strncmp(tensor, table[i].prefix, strlen(table[i].prefix)) == 0) return table[i].row;
    return MEMORY_ENDS;
}

MemoryRow memory_largest_row(const RankMemory *memory)
{
    int largest = 0;
    for (int i = 1; i < MEMORY_ROWS; i++)
        if (memory->bytes[i] > memory->bytes[largest]) largest = i;
    return (MemoryRow)largest;
}

int memory_largest_rank(const RankMemory *ranks, int count)
{
    int largest = 0;
    for (int i = 1; i < count; i++)
        if (memory_total(&ranks[i]) > memory_total(&ranks[largest])) largest = i;
    return largest;
}

static int smallest_rank(const RankMemory *ranks, int count)
{
    int smallest = 0;
    for (int i = 1; i < count; i++)
        if (memory_total(&ranks[i]) < memory_total(&ranks[smallest])) smallest = i;
    return smallest;
}

int64_t memory_resident_peak(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}

enum { LINE_BYTES = 160 };

static double mib(int64_t bytes)
{
    return (double)bytes / 1048576.0;
}

static void print_row(const char *name, int64_t large, int64_t small, bool both, const char *help,
                      void (*say)(const char *line))
{
    char line[LINE_BYTES];
    int used = snprintf(line, sizeof line, "memory %-14s %11.1f MiB", name, mib(large));
    if (both) used += snprintf(line + used, sizeof line - (size_t)used, " %11.1f MiB", mib(small));
    (void)snprintf(line + used, sizeof line - (size_t)used, "%s%s", help[0] ? "  " : "", help);
    say(line);
}

static void print_heading(const char *which, int rank, MeshShape shape,
                          void (*say)(const char *line))
{
    char line[LINE_BYTES];
    const Mesh m = mesh_of_rank(shape, rank);
    (void)snprintf(line, sizeof line, "%srank %d (data %d, tensor %d, pipeline %d, context %d)",
                   which, rank, m.dp, m.tp, m.pp, m.cp);
    say(line);
}

void memory_print(const RankMemory *ranks, int count, MeshShape shape,
                  void (*say)(const char *line))
{
    const int l = memory_largest_rank(ranks, count), s = smallest_rank(ranks, count);
    const RankMemory *large = &ranks[l], *small = &ranks[s];
    const bool differ = memory_total(large) != memory_total(small);
    if (differ) {
        print_heading("memory of the largest, ", l, shape, say);
        print_heading("beside it that of the smallest, ", s, shape, say);
    } else {
        say(count > 1 ? "memory of every rank, all alike" : "memory of the one rank");
    }
    for (int i = 0; i < MEMORY_ROWS; i++)
        if (large->bytes[i] > 0 || small->bytes[i] > 0)
            print_row(rows[i].name, large->bytes[i], small->bytes[i], differ, rows[i].help, say);
    print_row("total", memory_total(large), memory_total(small), differ, "", say);
}

void memory_write_json(JsonWriter *w, const RankMemory *ranks, int count)
{
    json_begin_array(w, "memory");
    for (int r = 0; r < count; r++) {
        json_begin_object(w, NULL);
        json_write_int(w, "rank", r);
        for (int i = 0; i < MEMORY_ROWS; i++) json_write_int(w, rows[i].name, ranks[r].bytes[i]);
        json_write_int(w, "total", memory_total(&ranks[r]));
        json_end_object(w);
    }
    json_end_array(w);
}
