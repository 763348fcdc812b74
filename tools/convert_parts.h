/*
 * convert_parts: what convert is made of.
 *
 * A component is a folder with one set of safetensors files, or one such file. It is checked as a
 * whole before the first byte is written: names, shapes, dtypes, configuration. The order of its
 * tensors is kept and, where nothing else is asked for, so are its files, so that converting to and
 * fro gives the same bytes. Files over 5 GB are cut when names become diffusers', as diffusers
 * would; the index then says how to join them, which is done when names become the original's
 * again. Not collective.
 */
#ifndef ZT_TOOLS_CONVERT_PARTS_H
#define ZT_TOOLS_CONVERT_PARTS_H

#include "core/base/file.h"
#include "core/device.h"
#include "core/formats/lora.h"
#include "core/formats/safetensors_set.h"
#include "core/formats/wan_config_files.h"
#include "core/formats/wan_names.h"
#include "tools/disk.h"

#include <stdbool.h>

typedef struct ConvertOptions {
    int style;           /* a WanStyle, or WAN_STYLES: the other one than FROM's */
    bool prefix;         /* "model.diffusion_model." before a transformer's names (ComfyUI) */
    DType dtype;         /* DTYPE_COUNT: each tensor keeps its own */
    int64_t shard_bytes; /* most bytes of tensors in a file; 0: as FROM's files are, see below */
    int64_t cut_bytes;   /* where FROM's files are cut when names become diffusers' */
    const char *weights; /* of a checkpoint: "raw" or "ema"; NULL: averaged where there are such */
    int64_t heads;       /* of a transformer; 0: as its config.json says, or of 128 */
} ConvertOptions;

typedef struct ConvertTensor {
    const Safetensors *file; /* views */
    const SafetensorsEntry *entry;
    const WanTensor *names;
    int64_t file_index; /* of `file` among FROM's, by name */
} ConvertTensor;

typedef struct ConvertPart {
    char path[FILE_PATH_BYTES]; /* FROM's folder or file */
    char base[256];             /* of a folder's files */
    bool is_folder;
    SafetensorsSet set; /* owned, as is all below; files sorted by name */
    WanNames names;
    WanStyle from, to;
    bool prefix;            /* of the names written */
    ConvertTensor *tensors; /* in FROM's order, those that are dropped left out */
    SafetensorsSpec *specs; /* what becomes of them */
    char *spec_names;
    int64_t count, parameters;
    SafetensorsPlan plan; /* files to write */
    bool same_files;      /* they have FROM's names */
    bool joined;          /* files of FROM were cut: their lengths go into the index */
    WanDitConfig config;  /* of a transformer */
} ConvertPart;

/* "diffusion_pytorch_model" or "model" when the folder holds such weights, NULL otherwise. */
const char *convert_base(const char *folder);
/* Whether the folder's weights are a part of a Wan model; errors of its files are errors. */
Status component_is_known(const char *folder, bool *out);
/* Opens and checks all; plans what will be written. ERR_FORMAT, ERR_IO, ERR_USAGE, ERR_MEMORY. */
Status component_open(const char *path, const ConvertOptions *options, ConvertPart *out);
void component_close(ConvertPart *component);
/* Bytes that component_write will write of tensors. */
int64_t component_bytes(const ConvertPart *component);

/* What writing needs once, however many components there are. */
typedef struct ConvertWriter {
    Device device;
    Arena buffers;             /* owned */
    Tensor read, wide, narrow; /* as read; F32; a 16-bit type: views of the same length */
    ByteProgress progress;
} ConvertWriter;

Status convert_writer_create(ConvertWriter *out);
void convert_writer_destroy(ConvertWriter *writer);
/* What else must be known where a config.json is written: heads, and a VAE's latents. ERR_USAGE,
 * ERR_FORMAT. */
Status component_check_folder(const ConvertPart *component);
/* Writes all files of the component into the folder, which is there, or into one file. ERR_FORMAT
 * for values that the new type cannot hold, ERR_IO, ERR_STOPPED. */
Status component_write_folder(ConvertWriter *writer, const ConvertPart *component,
                              const char *folder);
Status component_write_file(ConvertWriter *writer, const ConvertPart *component, const char *path);
/* Copies a file as it is. */
Status convert_copy(ConvertWriter *writer, const char *from, const char *to);

/* Whether the folder is a checkpoint that refers to the model it began from. */
Status convert_is_checkpoint(const char *path, bool *out);
/* Makes `links`, a folder of links to all that such a checkpoint is a pipeline of. weights:
 * as in ConvertOptions. ERR_USAGE for low-rank changes and averages that are not there, ERR_IO,
 * ERR_FORMAT. */
Status convert_gather(const char *path, const char *weights, const char *links);

/* A LoRA of this model, a pipeline directory or its transformer's folder, under other names: the
 * file FINAL, or for PEFT a folder, made as PARTIAL. dtype F32 or BF16. ERR_USAGE for changes of
 * whole weights, ERR_FORMAT, ERR_IO, ERR_MEMORY. */
Status convert_lora(const char *from, const char *model, LoraStyle style, DType dtype,
                    const char *partial, const char *final);

/* A pipeline directory: its components are converted, all else is copied. `to` is there. */
Status convert_pipeline(const char *from, const char *to, const ConvertOptions *options,
                        ConvertWriter *writer);

#endif
