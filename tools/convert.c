#include "tools/convert.h"

#include "core/base/log.h"
#include "core/base/options.h"
#include "core/base/stop.h"
#include "tools/convert_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct Arguments {
    const char *from, *to, *names, *dtype, *shard_size, *weights, *lora_of;
    int64_t heads;
    bool quiet;
} Arguments;

#define AT(field) .offset = offsetof(Arguments, field)

// clang-format off
static const Option table[] = {
    { .name = "FROM", .type = OPTION_STRING, .positional = true, .required = true, AT(from),
      .help = "a component's folder, a pipeline directory, a checkpoint, or one .safetensors file" },
    { .name = "TO", .type = OPTION_STRING, .positional = true, .required = true, AT(to),
      .help = "a folder, or FILE.safetensors for one file; nothing of that name may be there" },
    { .name = "names", .type = OPTION_STRING, .choices = "diffusers|original|comfyui|peft",
      AT(names),
      .help = "to write; the other ones than FROM's. comfyui: model.diffusion_model.ORIGINAL" },
    { .name = "dtype", .type = OPTION_STRING, .choices = "keep|f32|bf16|f16", AT(dtype),
      .help = "type of every tensor; keep (default): each has its own; a LoRA: f32 (default), bf16" },
    { .name = "shard-size", .type = OPTION_STRING, .argument = "SIZE", AT(shard_size),
      .help = "most bytes in a file, as 500MB; FROM's files, cut at 5GB when they become diffusers'" },
    { .name = "heads", .type = OPTION_INT, .fallback = "0", .min = 0, .max = 1024, AT(heads),
      .help = "attention heads where no config.json says so; 0: of 128 each" },
    { .name = "weights", .type = OPTION_STRING, .choices = "ema|raw", AT(weights),
      .help = "of a checkpoint: averaged or last; ema where it has them" },
    { .name = "lora-of", .type = OPTION_STRING, .argument = "MODEL", AT(lora_of),
      .help = "FROM is a LoRA of this model; --names peft writes a folder, others a file" },
    { .name = "quiet", .type = OPTION_FLAG, AT(quiet), .help = "no progress" },
    { .name = NULL },
};
// clang-format on

static const Command command = {
    "convert", "FROM TO [options]",
    "Turns the original Wan models' names into diffusers' and back, for transformers, VAEs, umT5\n"
    "encoders and LoRAs, and changes dtypes and the sizes of files. FROM's names are found out.\n"
    "Tensors stream through a small buffer and keep their order: there and back gives the same\n"
    "bytes.",
    table
};

/* ---- options --------------------------------------------------------------------------------- */

/* "5GB", "500MB", "64KB" or bytes; powers of 1000, as diffusers counts. */
static Status parse_size(const char *text, int64_t *out)
{
    static const struct {
        const char *name;
        double bytes;
    } units[] = {
        { "", 1 }, { "B", 1 }, { "KB", 1e3 }, { "MB", 1e6 }, { "GB", 1e9 }, { "TB", 1e12 }
    };
    char *end;
    const double number = strtod(text, &end);

    for (size_t i = 0; i < sizeof units / sizeof units[0] && end != text; i++) {
        if (strcasecmp(end, units[i].name) != 0) continue;
        const double bytes = number * units[i].bytes;
        if (!(bytes >= 1 && bytes <= 1e15)) break;
        *out = (int64_t)bytes;
        return OK;
    }
    return status_fail(ERR_USAGE, "--shard-size %.40s: want a size as 5GB or 500MB", text);
}

static Status understand(const Arguments *a, ConvertOptions *out)
{
    static const struct {
        const char *name;
        DType dtype;
    } dtypes[] = { { "f32", F32 }, { "bf16", BF16 }, { "f16", F16 } };
    ConvertOptions o = {
        .style = WAN_STYLES, .dtype = DTYPE_COUNT, .heads = a->heads, .cut_bytes = 5000000000
    };

    if (a->names) o.style = strcmp(a->names, "diffusers") == 0 ? WAN_DIFFUSERS : WAN_ORIGINAL;
    o.prefix = a->names && strcmp(a->names, "comfyui") == 0;
    for (int i = 0; i < 3; i++)
        if (a->dtype && strcmp(a->dtype, dtypes[i].name) == 0) o.dtype = dtypes[i].dtype;
    o.weights = a->weights;
    if (a->shard_size) TRY(parse_size(a->shard_size, &o.shard_bytes));
    *out = o;
    return OK;
}

/* ---- paths ----------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

static Status refuse_pickle(const char *path)
{
    return status_fail(
        ERR_FORMAT,
        "%s: is a Python pickle, which may run code and is not opened here: take the "
        "safetensors of the repository named ...-Diffusers, or save it from PyTorch "
        "with safetensors.torch.save_file(torch.load(...), ...)",
        path);
}

/* A folder that holds nothing but pickles is said to. */
static Status check_from(const char *from)
{
    FileList list = { 0 };
    const char *pickle = NULL;
    bool safe = false, folders = false;
    FileKind kind;

    TRY(file_look(from, &kind));
    CHECK(kind != FILE_ABSENT, ERR_IO, "%s: no such file or folder", from);
    if (kind == FILE_REGULAR) {
        if (ends_with(from, ".pth") || ends_with(from, ".pt") || ends_with(from, ".bin"))
            return refuse_pickle(from);
        CHECK(ends_with(from, ".safetensors"), ERR_FORMAT,
              "%s: is neither a folder nor a .safetensors file", from);
        return OK;
    }
    CHECK(kind == FILE_FOLDER, ERR_IO, "%s: is neither a folder nor a file", from);
    TRY(file_list(from, &list));
    for (int64_t i = 0; i < list.count; i++) {
        char path[FILE_PATH_BYTES];
        if (ends_with(list.names[i], ".pth")) pickle = list.names[i];
        if (ends_with(list.names[i], ".safetensors")) safe = true;
        if (file_join(path, from, list.names[i]) == OK && file_kind(path) == FILE_FOLDER)
            folders = true;
    }
    char path[FILE_PATH_BYTES] = "";
    if (pickle) (void)file_join(path, from, pickle);
    file_list_destroy(&list);
    if (pickle && !safe && !folders) return refuse_pickle(path);
    if (pickle && safe) log_warn("%s is left out: a Python pickle, which is not opened here", path);
    return OK;
}

/* TO without slashes at its end, and TO.partial, where folders are made. */
static Status check_to(const char *to, char final[FILE_PATH_BYTES], char partial[FILE_PATH_BYTES])
{
    char parent[FILE_PATH_BYTES];
    size_t n = strlen(to);
    FileKind kind;

    while (n > 1 && to[n - 1] == '/') n--;
    CHECK(n + sizeof ".partial" < FILE_PATH_BYTES, ERR_IO, "%.60s...: the path is too long", to);
    (void)snprintf(final, FILE_PATH_BYTES, "%.*s", (int)n, to);
    (void)snprintf(partial, FILE_PATH_BYTES, "%.*s.partial", (int)n, to);
    TRY(file_look(final, &kind));
    CHECK(kind == FILE_ABSENT, ERR_USAGE, "%s: is there already; name another, or remove it",
          final);
    const int length = (int)(file_name(final) - final);
    (void)snprintf(parent, sizeof parent, "%.*s", length > 1 ? length - 1 : length, final);
    if (length == 0) (void)strcpy(parent, ".");
    CHECK(file_kind(parent) == FILE_FOLDER, ERR_IO, "%s: there is no folder %s", final, parent);
    return OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static Status convert_component(const char *from, const char *to, bool file,
                                const ConvertOptions *options, ConvertWriter *writer)
{
    ConvertPart c;

    TRY(component_open(from, options, &c));
    log_info("%s: %s of %.2f M parameters, %s names to %s", from, wan_part_name(c.names.part),
             (double)c.parameters * 1e-6, wan_style_name(c.from), wan_style_name(c.to));
    byte_progress_begin(&writer->progress, "convert", component_bytes(&c));
    Status s = file ? OK : component_check_folder(&c);
    if (s == OK && !file) s = file_make_folders(to);
    if (s == OK)
        s = file ? component_write_file(writer, &c, to) : component_write_folder(writer, &c, to);
    byte_progress_end(&writer->progress);
    component_close(&c);
    return s;
}

/* A checkpoint becomes the pipeline that it is a part of, under diffusers' names if nobody says. */
static Status convert_checkpoint(const char *from, const char *partial,
                                 const ConvertOptions *options, ConvertWriter *writer)
{
    char links[FILE_PATH_BYTES];
    ConvertOptions chosen = *options;

    if (chosen.style == WAN_STYLES) chosen.style = WAN_DIFFUSERS;
    CHECK(strlen(partial) + sizeof ".links" < sizeof links, ERR_IO,
          "%.60s...: the path is too long", partial);
    (void)snprintf(links, sizeof links, "%s.links", partial);
    TRY(file_remove_tree(links));
    Status s = convert_gather(from, chosen.weights, links);
    if (s == OK) s = convert_pipeline(links, partial, &chosen, writer);
    KeptStatus kept = { 0 };
    status_keep(&kept, s);
    (void)file_remove_tree(links);
    return status_kept(&kept);
}

static Status convert_folder(const char *from, const char *partial, const char *final,
                             const ConvertOptions *options, ConvertWriter *writer)
{
    const bool component = file_kind(from) == FILE_REGULAR || convert_base(from);
    bool checkpoint = false;

    TRY(file_remove_tree(partial));
    TRY(convert_is_checkpoint(from, &checkpoint));
    CHECK(!options->weights || checkpoint, ERR_USAGE,
          "--weights %s: %s is no checkpoint of a model that was fine-tuned", options->weights,
          from);
    Status s = checkpoint  ? convert_checkpoint(from, partial, options, writer)
               : component ? convert_component(from, partial, false, options, writer)
                           : convert_pipeline(from, partial, options, writer);
    if (s == OK) s = file_sync_folder(partial);
    if (s == OK) return file_rename(partial, final);
    KeptStatus kept = { 0 };
    status_keep(&kept, s);
    (void)file_remove_tree(partial);
    return status_kept(&kept);
}

/* ---- LoRA ------------------------------------------------------------------------------------ */

static Status check_lora(const Arguments *a, bool file)
{
    CHECK(a->names, ERR_USAGE, "--lora-of %s: say --names diffusers, comfyui or peft", a->lora_of);
    CHECK(!a->shard_size && !a->weights && a->heads == 0, ERR_USAGE,
          "--lora-of %s: --shard-size, --weights and --heads are for models", a->lora_of);
    CHECK(!a->dtype || strcmp(a->dtype, "f32") == 0 || strcmp(a->dtype, "bf16") == 0, ERR_USAGE,
          "--dtype %s: a LoRA is written in f32 or bf16", a->dtype);
    const bool peft = strcmp(a->names, "peft") == 0;
    CHECK(file != peft, ERR_USAGE, "%s: a LoRA of --names %s is a %s", a->to, a->names,
          peft ? "folder" : "file, named FILE.safetensors");
    return OK;
}

static Status run_lora(const Arguments *a, const char *partial, const char *final)
{
    const LoraStyle style = strcmp(a->names, "diffusers") == 0 ? LORA_DIFFUSERS
                            : strcmp(a->names, "peft") == 0    ? LORA_PEFT
                                                               : LORA_ORIGINAL;
    const DType dtype = a->dtype && strcmp(a->dtype, "bf16") == 0 ? BF16 : F32;

    TRY(convert_lora(a->from, a->lora_of, style, dtype, partial, final));
    printf("%s\n", final);
    return OK;
}

/* ---- models ---------------------------------------------------------------------------------- */

static Status run(const Arguments *a)
{
    char final[FILE_PATH_BYTES], partial[FILE_PATH_BYTES];
    const bool file = ends_with(a->to, ".safetensors");
    ConvertOptions options = { 0 };
    ConvertWriter writer = { 0 };

    TRY(understand(a, &options));
    TRY(check_from(a->from));
    TRY(check_to(a->to, final, partial));
    if (a->lora_of) {
        TRY(check_lora(a, file));
        return run_lora(a, partial, final);
    }
    CHECK(!a->names || strcmp(a->names, "peft") != 0, ERR_USAGE,
          "--names peft: is for a LoRA: give --lora-of MODEL");
    CHECK(!file || !a->weights, ERR_USAGE, "--weights %s: %s is one file; take a folder",
          a->weights, a->to);
    CHECK(!file || !a->shard_size, ERR_USAGE, "--shard-size %s: %s is one file", a->shard_size,
          a->to);
    CHECK(!file || file_kind(a->from) == FILE_REGULAR || convert_base(a->from), ERR_USAGE,
          "%s: holds no weights itself; only one component goes into one file", a->from);
    TRY(convert_writer_create(&writer));
    const Status s = file ? convert_component(a->from, final, true, &options, &writer)
                          : convert_folder(a->from, partial, final, &options, &writer);
    convert_writer_destroy(&writer);
    if (s == OK) printf("%s\n", final);
    return s;
}

Status convert_main(int argc, char **argv)
{
    Arguments arguments = { 0 };
    bool helped = false;

    stop_install();
    TRY(options_parse(&command, argc, argv, &arguments, &helped));
    if (helped) return OK;
    log_set_quiet(arguments.quiet);
    return run(&arguments);
}
