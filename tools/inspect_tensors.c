/* inspect_tensors: safetensors files, indexes and folders of them. */
#include "core/codec/codec.h"
#include "tools/inspect_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show_facts(Report *report, const TensorFacts *facts)
{
    char hex[DIGEST_HEX];
    report_real(report, "min", facts->measured ? facts->min : NAN);
    report_real(report, "max", facts->measured ? facts->max : NAN);
    report_real(report, "mean", facts->measured ? facts->mean : NAN);
    report_int(report, "nonfinite", facts->nonfinite);
    digest_hex(&facts->digest, hex);
    report_string(report, "sha256", hex);
}

static void show_rows(Report *report, const TensorTable *table, const TensorFacts *facts)
{
    report_table(report, "tensors", 0);
    for (int64_t i = 0; i < table->count; i++) {
        const SafetensorsEntry *entry = table->rows[i].entry;
        report_row(report, entry->name);
        report_string(report, "dtype", entry->dtype_name);
        report_shape(report, "shape", entry->shape, entry->ndim);
        report_bytes(report, "size_bytes", entry->bytes);
        if (facts) show_facts(report, &facts[i]);
        report_row_end(report);
    }
    report_table_end(report);
}

/* __metadata__ of the first file; the others repeat it. */
static void show_metadata(Report *report, const TensorTable *table)
{
    const char *key, *value;
    if (table->set.count == 0 || !safetensors_metadata_at(table->set.files[0], 0, &key, &value))
        return;
    report_table(report, "metadata", 0);
    for (int64_t i = 0; safetensors_metadata_at(table->set.files[0], i, &key, &value); i++) {
        report_row(report, key);
        report_string(report, "value", value);
        report_row_end(report);
    }
    report_table_end(report);
}

static void show_table(Report *report, const TensorTable *table, const TensorFacts *facts,
                       const Digest *digest)
{
    char hex[DIGEST_HEX];
    report_int(report, "tensor_count", table->count);
    report_int(report, "elements", table->elements);
    report_string(report, "dtype", tensor_table_dtype(table));
    report_int(report, "files", table->set.count);
    report_bytes(report, "size_bytes", table->bytes);
    if (digest) {
        digest_hex(digest, hex);
        report_string(report, "digest", hex);
    }
    show_metadata(report, table);
    show_rows(report, table, facts);
}

/* Reads everything first when a digest is wanted. */
static Status inspect_table(Report *report, const TensorTable *table, bool digest)
{
    if (!digest) {
        show_table(report, table, NULL, NULL);
        return OK;
    }
    ByteProgress progress;
    Digest all;
    TensorFacts *facts = calloc((size_t)table->count + 1, sizeof *facts);
    CHECK(facts, ERR_MEMORY, "no memory for %lld tensors", (long long)table->count);
    byte_progress_begin(&progress, "read", table->bytes);
    const Status s = tensor_table_digest(table, &progress, facts, &all);
    byte_progress_end(&progress);
    if (s == OK) show_table(report, table, facts, &all);
    free(facts);
    return s;
}

Status inspect_safetensors(Report *report, const char *path, bool digest)
{
    TensorTable table;
    TRY(tensor_table_open_file(path, &table));
    const Status s = inspect_table(report, &table, digest);
    tensor_table_close(&table);
    return s;
}

static Status inspect_set(Report *report, const char *folder, const char *base, bool digest)
{
    TensorTable table;
    TRY(tensor_table_open(folder, base, &table));
    const Status s = inspect_table(report, &table, digest);
    tensor_table_close(&table);
    return s;
}

Status inspect_index(Report *report, const char *path, bool digest)
{
    char folder[FILE_PATH_BYTES], base[FILE_PATH_BYTES];
    const char *name = file_name(path);
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(name - path), path);
    (void)snprintf(base, sizeof base, "%.*s",
                   (int)(strlen(name) - strlen(".safetensors.index.json")), name);
    return inspect_set(report, folder[0] ? folder : ".", base, digest);
}

static Status show_codec(Report *report, const char *path)
{
    LinearCodec codec;
    TRY(linear_codec_load(path, &codec));
    report_section(report, "codec");
    report_int(report, "latent_channels", codec.channels);
    report_shape(report, "block", (const int64_t[]){ LINEAR_FRAMES, LINEAR_SIDE, LINEAR_SIDE, 3 },
                 4);
    report_real(report, "first_scale", (double)codec.scale[0]);
    report_real(report, "last_scale", (double)codec.scale[codec.channels - 1]);
    report_string(report, "codec_digest", codec.digest);
    report_section_end(report);
    linear_codec_destroy(&codec);
    return OK;
}

/* What a model knows of its VAE. */
static Status show_reference(Report *report, const char *path)
{
    CodecReference reference;
    TRY(codec_reference_read(path, &reference));
    report_section(report, "codec");
    report_string(report, "vae", reference.vae);
    report_string(report, "codec_digest", reference.digest);
    report_section_end(report);
    return OK;
}

/* A folder whose config.json is not a VAE's has nothing to show here. */
static Status show_vae(Report *report, const char *path, bool digest)
{
    char config[FILE_PATH_BYTES];
    WanConfig c;
    Codec codec = { 0 };
    TRY(file_join(config, path, "config.json"));
    if (wan_config_read(config, &c) != OK) return OK;
    if (digest) TRY(codec_load_vae(path, 0, &codec));
    report_section(report, "codec");
    report_int(report, "latent_channels", c.z_dim);
    report_shape(report, "stride", (const int64_t[]){ WAN_FRAMES, wan_stride(&c), wan_stride(&c) },
                 3);
    if (digest) report_string(report, "codec_digest", codec.digest);
    report_section_end(report);
    codec_destroy(&codec);
    return OK;
}

/* Several sets have a section each. */
static Status inspect_sets(Report *report, const char *path, const FileList *bases, bool digest)
{
    Status s = OK;
    if (bases->count == 1) return inspect_set(report, path, bases->names[0], digest);
    report_section(report, "sets");
    for (int64_t i = 0; i < bases->count && s == OK; i++) {
        report_section(report, bases->names[i]);
        s = inspect_set(report, path, bases->names[i], digest);
        report_section_end(report);
    }
    report_section_end(report);
    return s;
}

Status inspect_weights(Report *report, const char *path, bool digest)
{
    FileList bases = { 0 };
    char reference[FILE_PATH_BYTES];
    TRY(file_join(reference, path, "vae.json"));
    if (file_kind(reference) == FILE_REGULAR) return show_reference(report, path);
    TRY(tensor_sets(path, &bases));
    Status s = inspect_sets(report, path, &bases, digest);
    for (int64_t i = 0; i < bases.count && s == OK; i++)
        if (strcmp(bases.names[i], "linear_codec") == 0) s = show_codec(report, path);
    if (s == OK) s = show_vae(report, path, digest);
    file_list_destroy(&bases);
    return s;
}
