/*
 * model_dir: a model as a diffusers pipeline directory (spec 1, 2, 9).
 *
 *     model_index.json
 *     transformer/   config.json, diffusion_pytorch_model*.safetensors      (EMA: transformer_ema/)
 *     text_encoder/  config.json, model*.safetensors                        (EMA:
 * text_encoder_ema/) tokenizer/     tokenizer_config.json       scheduler/ scheduler_config.json
 * codec/
 *
 * Unknown keys are ignored, missing old keys take their defaults. Weights are read slice by slice
 * into the rank's own buffer. Not collective.
 */
#ifndef ZT_CORE_FORMATS_MODEL_DIR_H
#define ZT_CORE_FORMATS_MODEL_DIR_H

#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/formats/safetensors_set.h"
#include "core/model/params.h"
#include "core/solver/sigmas.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What reads captions: nothing here; bytes, an encoder that is trained with the model and part of
 * its configuration; the frozen umT5, which is not (text.num_layers 0, and rows of text_dim). */
typedef enum TextKind { TEXT_NONE, TEXT_BYTES, TEXT_UMT5 } TextKind;

enum { FROZEN_TEXT_ROWS = 512 };

typedef struct ModelDir {
    ModelConfig config;
    TextKind text;
    double shift;       /* of the flow schedule */
    bool wan_vae;       /* vae/ is there (core/codec); else codec/, fitted at ingest */
    bool image_encoder; /* image_encoder/ is there */
    bool given_frame;   /* image to video gives the first latent frame, at timestep 0 (TI2V) */
    double boundary;    /* above 0: transformer/ takes timesteps from 1000 boundary on,
                           transformer_2/ those below */
    /* how the folder says it is sampled; not written: what we write means zero for both, our own */
    SolverKind solver;
    SigmaSchedule sigmas;
    /* of one that was fine-tuned (core/formats/model_base.h): where the model directory is that has
     * what was not trained ("": this one has all), and which transformer was: 0, or 1 the second */
    char base[FILE_PATH_BYTES];
    int trained;
    bool low_rank; /* what was trained are changes of it (lora/), not its weights */
} ModelDir;

/* Reads model_index.json and the configurations of all parts. ERR_FORMAT names file and key. */
Status model_dir_read(const char *path, ModelDir *out);
/* The same of one whose base is at `base` by now, whatever its base.json says; "": where that says.
 */
Status model_dir_read_over(const char *path, const char *base, ModelDir *out);
/* The text encoder's configuration alone, of a directory that has one. */
Status model_dir_read_text(const char *path, TextConfig *out);
/* Makes the folders and writes all of those. ema: the _ema folders too. */
Status model_dir_write(const char *path, const ModelDir *model, bool ema);

/* "diffusion_pytorch_model" or "model". */
const char *model_dir_base(Component component);
/* Whether PATH/FOLDER holds weights ("transformer_ema"). */
bool model_dir_has(const char *path, const char *folder);
/* Whether PATH/FOLDER holds low-rank changes ("lora", "lora_ema"). */
bool model_dir_has_lora(const char *path, const char *folder);
/*
 * Reads this rank's slice of every local parameter of one component into its view in `flat` (F32,
 * params->local_elements). folder: "transformer", "transformer_ema", "text_encoder",
 * "text_encoder_ema". Every rank checks the whole model: ERR_FORMAT names file and tensor for one
 * that is missing, too many, or has another shape (both are said).
 */
Status model_dir_load_params(const char *path, const char *folder, const ParamList *params,
                             const Mesh *mesh, Tensor flat);
/* BF16 where the folder's transformer is stored so, else F32. */
Status model_dir_dtype(const char *path, const char *folder, DType *out);
/* The same into views of any store: (params->count), F32 or BF16. any_value: what is not finite is
 * warned of instead of refused. */
Status model_dir_load_views(const char *path, const char *folder, const ParamList *params,
                            const Mesh *mesh, const Tensor *views, bool any_value);
/* Any set of tensors with one for each parameter (optimizer moments), opened and checked like that:
 * `prefix` puts "transformer." before each name and takes all components; otherwise only
 * `component`. The caller closes it. */
Status model_dir_open_set(const char *folder, const char *base, bool prefix, Component component,
                          const ParamList *params, SafetensorsSet *out);
/* A slice of one of its tensors, into out, F32 or BF16. ERR_FORMAT when a value is not finite. */
Status model_dir_read_slice(const SafetensorsSet *set, const Param *param, SafetensorsSlice slice,
                            Tensor out);
/* Elements of one of its tensors, local or not, from `first` on in the order of the whole tensor,
 * as many as out (F32) has. *bytes grows by what was read. ERR_FORMAT when one is not finite. */
Status model_dir_read_elements(const SafetensorsSet *set, bool prefix, const Param *param,
                               int64_t first, Tensor out, int64_t *bytes);

/* Adds what a model of such a set is known by: of every tensor its name, its shape and its first
 * 1,024 values as F32, the same for F32 and BF16 files of the same values. Whole models differ in
 * nearly every tensor, and reading all of one would take minutes. */
Status model_dir_digest_set(const SafetensorsSet *set, const ParamList *params,
                            DigestStream *stream);

/*
 * Turns what a user gives into a model directory: itself (a model directory or a checkpoint), or
 * for a run's folder its newest checkpoint that verifies. Says (log_info) which was taken and
 * (log_warn) why another was passed over. Reads whole files: call on one rank and tell the others.
 */
Status model_dir_resolve(const char *path, char out[FILE_PATH_BYTES]);
/* For whoever verifies in another way: the model directories that the path may stand for, one by
 * one, newest first. `index` from 0; *count of them; out is set when index < *count. Nothing is
 * read but the names in folders. */
Status model_dir_candidate(const char *path, int64_t index, int64_t *count,
                           char out[FILE_PATH_BYTES]);

/* Steps of RUN/checkpoints/step-N, newest first; the caller frees *steps. No folder: none. */
Status model_dir_steps(const char *run_dir, int64_t **steps, int64_t *count);
/* RUN/checkpoints/step-00000123 + suffix ("" or ".partial"). */
Status model_dir_step_path(const char *run_dir, int64_t step, const char *suffix,
                           char out[FILE_PATH_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
