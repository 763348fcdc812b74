#include "infer/infer.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/stop.h"
#include "core/formats/model_base.h"
#include "infer/engine.h"
#include "infer/references.h"
#include "infer/render.h"
#include "infer/request.h"
#include "infer/settings.h"
#include "infer/texts.h"

static EngineOptions engine_options(const InferOptions *o, const TrustedKeys *trusted)
{
    return (EngineOptions){
        .model = o->model,
        .weights = o->weights,
        .device = o->device,
        .threads = (int)o->threads,
        .exact = o->numerics && strcmp(o->numerics, "exact") == 0,
        .shape = mesh_shape(0, (int)o->tensor, (int)o->pipeline, (int)o->context),
        .halves = (int)o->guidance_ranks,
        .dtype = o->dtype,
        .loras = { &o->loras, &o->loras_low },
        .allow_nan = o->allow_nan,
        .trusted = o->require_signature ? trusted : NULL,
    };
}

/* The request's prompts, and last the negative one, by the model's frozen text encoder. Collective.
 */
static Status encode_texts(Engine *engine, const Request *request, Texts *out)
{
    const char *negative = request->options->negative;
    char holder[FILE_PATH_BYTES];
    const char **texts = malloc((size_t)(request->count + 1) * sizeof *texts);
    Status s = texts ? model_base_holder(&engine->model, engine->path, "text_encoder", holder)
                     : status_fail(ERR_MEMORY, "no memory for the prompts");

    s = comm_agree(engine->comm, s);
    if (s == OK) {
        memcpy(texts, request->prompts, (size_t)request->count * sizeof *texts);
        texts[request->count] = negative ? negative : "";
        s = texts_encode(engine->comm, &engine->device, holder, engine->dtype,
                         engine->model.config.dit.text_dim, texts, request->count + 1, out);
    }
    free(texts);
    return s;
}

/* References and text first; what encodes them is gone before the transformer is loaded. */
static Status render(Engine *engine, const EngineOptions *options, const Request *request)
{
    const bool frozen = engine->model.text == TEXT_UMT5;
    Texts texts = { 0 };
    References references = { 0 };

    Status s = comm_agree(engine->comm, render_check(engine, request));
    if (s == OK) s = references_make(engine, request->options, &references);
    if (s == OK && frozen) s = encode_texts(engine, request, &texts);
    if (s == OK) s = engine_load(engine, options);
    if (s == OK) s = render_request(engine, request, frozen ? &texts : NULL, &references);
    references_destroy(&references);
    texts_destroy(&texts);
    return s;
}

static Status run(Comm *comm, InferOptions *o, const TrustedKeys *trusted, const Request *request)
{
    const EngineOptions options = engine_options(o, trusted);
    Engine engine = { 0 };
    Status s;

    TRY(engine_find(comm, &options, &engine));
    const int64_t step = engine_side_step(&engine);
    s = comm_agree(comm, settings_fit_picture(o, &engine.model, step));
    if (s == OK) s = comm_agree(comm, settings_fill(o, &engine.model, step));
    if (s == OK) s = render(&engine, &options, request);
    engine_close(&engine);
    return s;
}

Status infer_run(Comm *comm, const InferOptions *asked)
{
    TrustedKeys trusted = { 0 };
    InferOptions o = *asked; /* and what it leaves open, once the model is known */
    Request request = { 0 };
    Status s;

    TRY(request_load(comm, &o, &request));
    if (request.count == 0) {
        log_info("%s: nothing to render", o.out);
        request_destroy(&request);
        return OK;
    }
    s = comm_agree(comm, trusted_keys_read(o.keys.items, o.keys.count, &trusted));
    if (s == OK) s = run(comm, &o, &trusted, &request);
    trusted_keys_destroy(&trusted);
    request_destroy(&request);
    return s;
}

Status infer_main(int argc, char **argv)
{
    InferOptions options = settings_unset();
    bool helped = false;
    Comm *comm = NULL;
    Status s;

    stop_install();
    TRY(comm_start(&comm));
    s = comm_agree(comm, options_parse(&infer_command, argc, argv, &options, &helped));
    log_set_quiet(options.quiet);
    comm_set_timeout(comm, options.timeout_s);
    if (s == OK && !helped) s = infer_run(comm, &options);
    log_failure(s);
    comm_finish(comm);
    return s;
}
