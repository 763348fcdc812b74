#include "infer/infer.h"

#include <string.h>

#include "core/base/log.h"
#include "core/base/stop.h"
#include "infer/engine.h"
#include "infer/render.h"
#include "infer/request.h"

Status infer_run(Comm *comm, const InferOptions *o)
{
    TrustedKeys trusted = { 0 };
    const EngineOptions engine_options = {
        .model = o->model,
        .weights = o->weights,
        .device = o->device,
        .threads = (int)o->threads,
        .exact = o->numerics && strcmp(o->numerics, "exact") == 0,
        .shape = mesh_shape(0, (int)o->tensor, (int)o->pipeline, (int)o->context),
        .halves = (int)o->guidance_ranks,
        .trusted = o->require_signature ? &trusted : NULL,
    };
    Request request = { 0 };
    Engine engine = { 0 };
    Status s;

    TRY(request_load(comm, o, &request));
    if (request.count == 0) {
        log_info("%s: nothing to render", o->out);
        request_destroy(&request);
        return OK;
    }
    s = comm_agree(comm, trusted_keys_read(o->keys.items, o->keys.count, &trusted));
    if (s == OK) s = engine_open(comm, &engine_options, &engine);
    if (s == OK) {
        s = render_request(&engine, &request);
        engine_close(&engine);
    }
    trusted_keys_destroy(&trusted);
    request_destroy(&request);
    return s;
}

Status infer_main(int argc, char **argv)
{
    InferOptions options = { 0 };
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
