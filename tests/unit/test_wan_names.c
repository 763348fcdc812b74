/*
 * Names of Wan's tensors against diffusers' own converters and classes (wan_names.txt) and the
 * published counts and parameter totals (spec 1); and what is refused by name.
 */
#include "core/formats/wan_names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FIXTURE "tests/fixtures/wan_names.txt"

enum { ROWS_MAX = 1400, LISTED = 7 /* the block of a transformer that the file has */ };

typedef struct Row {
    char name[WAN_STYLES][WAN_NAME_BYTES];
    int64_t shape[WAN_SHAPE_MAX];
    int ndim;
} Row;

/* All tensors of one model: the file's rows, those of a block as often as there are blocks. */
typedef struct Table {
    Row rows[ROWS_MAX];
    int count;
} Table;

static void add_row(Table *t, const char *original, const char *diffusers, const char *shape)
{
    Row *row = &t->rows[t->count++];
    assert_true(t->count <= ROWS_MAX);
    (void)snprintf(row->name[WAN_ORIGINAL], WAN_NAME_BYTES, "%s", original);
    (void)snprintf(row->name[WAN_DIFFUSERS], WAN_NAME_BYTES, "%s", diffusers);
    row->ndim = 0;
    for (const char *c = shape; *c; c += *c == ',') {
        char *end;
        row->shape[row->ndim++] = strtoll(c, &end, 10);
        c = end;
    }
}

/* "blocks.7.x" with another number */
static void renumber(char out[WAN_NAME_BYTES], const char *name, int block)
{
    char mark[8];
    (void)snprintf(mark, sizeof mark, ".%d.", LISTED);
    const char *at = strstr(name, mark);
    assert_non_null(at);
    (void)snprintf(out, WAN_NAME_BYTES, "%.*s.%d.%s", (int)(at - name), name, block,
                   at + strlen(mark));
}

static Table *read_table(const char *part, int blocks)
{
    Table *t = calloc(1, sizeof *t);
    FILE *in = fopen(FIXTURE, "r");
    char line[400], found[40], original[WAN_NAME_BYTES], diffusers[WAN_NAME_BYTES], shape[80];

    assert_non_null(t);
    assert_non_null(in);
    while (fgets(line, sizeof line, in)) {
        if (sscanf(line, "%39s %111s %111s %79s", found, original, diffusers, shape) != 4 ||
            strcmp(found, part) != 0)
            continue;
        if (strncmp(original, "blocks.", 7) != 0) {
            add_row(t, original, diffusers, shape);
            continue;
        }
        for (int b = 0; b < blocks; b++) {
            char names[2][WAN_NAME_BYTES];
            renumber(names[0], original, b);
            renumber(names[1], diffusers, b);
            add_row(t, names[0], names[1], shape);
        }
    }
    (void)fclose(in);
    return t;
}

static int compare_found(const void *a, const void *b)
{
    return strcmp(((const WanFound *)a)->name, ((const WanFound *)b)->name);
}

static WanFound *found_of(const Table *t, WanStyle style)
{
    WanFound *found = calloc((size_t)t->count, sizeof *found);
    assert_non_null(found);
    for (int i = 0; i < t->count; i++)
        found[i] = (WanFound){ t->rows[i].name[style], t->rows[i].ndim, t->rows[i].shape };
    qsort(found, (size_t)t->count, sizeof *found, compare_found);
    return found;
}

static Status find_out(const Table *t, WanStyle style, WanNames *names)
{
    WanFound *found = found_of(t, style);
    WanStyle other;
    const Status s = wan_names_find_out(found, t->count, "x.safetensors", &other, names);
    if (s == OK) assert_int_equal(other, style);
    free(found);
    return s;
}

static const struct {
    const char *part;
    WanPart is;
    int blocks, tensors;
    int64_t parameters;
} models[] = {
    { "t2v-1.3b", WAN_PART_DIT, 30, 825, 1418996800 },
    { "t2v-14b", WAN_PART_DIT, 40, 1095, 14288491584 },
    { "i2v-14b", WAN_PART_DIT, 40, 1303, 16394878784 },
    { "flf2v-14b", WAN_PART_DIT, 40, 1304, 16395536704 },
    { "vae-2.1", WAN_PART_VAE_21, 0, 194, 126892531 },
    { "vae-2.2", WAN_PART_VAE_22, 0, 196, 704688668 },
    { "umt5", WAN_PART_UMT5, 24, 242, 5680910336 },
};

enum { MODELS = sizeof models / sizeof models[0] };

static void every_published_model_is_known_by_both_names(void **state)
{
    (void)state;
    for (int m = 0; m < MODELS; m++) {
        Table *t = read_table(models[m].part, models[m].blocks);
        assert_int_equal(t->count, models[m].tensors);
        for (int style = 0; style < WAN_STYLES; style++) {
            WanNames names;
            int64_t parameters = 0;
            if (find_out(t, (WanStyle)style, &names) != OK) fail_msg("%s", status_message());
            assert_int_equal(names.part, models[m].is);
            for (int i = 0; i < t->count; i++) {
                const Row *row = &t->rows[i];
                const WanTensor *found = wan_names_find(&names, (WanStyle)style, row->name[style]);
                int64_t shape[WAN_SHAPE_MAX], elements = 1;
                assert_non_null(found);
                assert_string_equal(found->name[1 - style], row->name[1 - style]);
                for (int k = 0; k < row->ndim; k++) elements *= row->shape[k];
                parameters += elements;
                const int ndim = wan_tensor_shape(&names, found, shape);
                if (ndim == 0) continue;
                assert_int_equal(ndim, row->ndim);
                assert_memory_equal(shape, row->shape, (size_t)ndim * sizeof *shape);
            }
            assert_int_equal(parameters, models[m].parameters);
            wan_names_destroy(&names);
        }
        free(t);
    }
}

/* The list alone has the published sizes, as what makes models from it wants. */
static void a_list_has_the_sizes_it_was_made_for(void **state)
{
    Table *t = read_table("i2v-14b", 40);
    WanNames names, again;

    (void)state;
    assert_int_equal(find_out(t, WAN_ORIGINAL, &names), OK);
    assert_int_equal(names.sizes.layers, 40);
    assert_int_equal(names.sizes.dims[WAN_WIDTH], 5120);
    assert_int_equal(names.sizes.dims[WAN_FFN], 13824);
    assert_int_equal(names.sizes.dims[WAN_IN], 36);
    assert_int_equal(names.sizes.dims[WAN_OUT], 64);
    assert_int_equal(names.sizes.dims[WAN_IMAGE], 1280);
    assert_int_equal(names.sizes.dims[WAN_ADDED], 5120);
    assert_true(names.sizes.image && !names.sizes.positions);
    assert_int_equal(wan_names_list(WAN_PART_DIT, &names.sizes, &again), OK);
    assert_int_equal(again.count, names.count);
    wan_names_destroy(&again);
    wan_names_destroy(&names);
    free(t);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void assert_refused(const Table *t, WanStyle style, const char *why)
{
    WanNames names;
    assert_int_equal(find_out(t, style, &names), ERR_FORMAT);
    if (!strstr(status_message(), why)) fail_msg("%s", status_message());
}

static int row_of(const Table *t, WanStyle style, const char *name)
{
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->rows[i].name[style], name) == 0) return i;
    fail_msg("no %s", name);
    return 0;
}

static void what_is_missing_unknown_or_misshapen_is_named(void **state)
{
    Table *t = read_table("t2v-1.3b", 3);

    (void)state;
    const int i = row_of(t, WAN_DIFFUSERS, "blocks.1.norm2.bias");
    const Row kept = t->rows[i];
    t->rows[i].shape[0] = 7;
    assert_refused(t, WAN_DIFFUSERS,
                   "tensor blocks.1.norm2.bias is [7], the others make it [1536]");
    assert_refused(t, WAN_ORIGINAL, "tensor blocks.1.norm3.bias is [7], the others make it [1536]");
    t->rows[i] = kept;
    (void)strcpy(t->rows[i].name[WAN_ORIGINAL], "blocks.1.norm2.bias");
    assert_refused(t, WAN_ORIGINAL, "tensor blocks.1.norm3.bias of a Wan transformer is missing");
    t->rows[i] = kept;
    add_row(t, "vace_blocks.0.x", "blocks.2.extra.weight", "4");
    assert_refused(t, WAN_ORIGINAL,
                   "tensor vace_blocks.0.x is none of a Wan transformer with original names");
    assert_refused(t, WAN_DIFFUSERS, "tensor blocks.2.extra.weight is none of");
    t->count--;
    /* a hole in the blocks */
    for (int k = 0; k < t->count; k++)
        if (strncmp(t->rows[k].name[0], "blocks.1.", 9) == 0) t->rows[k--] = t->rows[--t->count];
    assert_refused(t, WAN_DIFFUSERS, "tensor blocks.1.scale_shift_table of a Wan transformer is");
    t->count = 1;
    assert_refused(t, WAN_DIFFUSERS, "are no Wan transformer, VAE or umT5 encoder");
    free(t);
}

static void legacy_tensors_are_surplus(void **state)
{
    (void)state;
    assert_true(wan_name_is_surplus("blocks.0.attn2.norm_added_q.weight"));
    assert_false(wan_name_is_surplus("blocks.0.attn2.norm_added_k.weight"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_published_model_is_known_by_both_names),
        cmocka_unit_test(a_list_has_the_sizes_it_was_made_for),
        cmocka_unit_test(what_is_missing_unknown_or_misshapen_is_named),
        cmocka_unit_test(legacy_tensors_are_surplus),
    };
    return cmocka_run_group_tests_name("wan_names", tests, NULL, NULL);
}
