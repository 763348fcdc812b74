#include "infer/infer.h"

#include "core/base/log.h"
#include "infer/engine.h"
#include "infer/render.h"
#include "infer/request.h"

static Status run(Comm *comm, const InferOptions *o)
{
    const EngineOptions engine_options = {
        .model = o->model,
        .weights = o->weights,
        .device = o->device,
        .threads = (int)o->threads,
        .shape = { .data = 0, .tensor = (int)o->tensor, .pipeline = (int)o->pipeline },
    };
    Request request = { 0 };
    Engine engine = { 0 };
    Status s;

    TRY(request_load(comm, o, &request));
    s = engine_open(comm, &engine_options, &engine);
    if (s == OK) {
        s = render_request(&engine, &request);
        engine_close(&engine);
    }
    request_destroy(&request);
    return s;
}

int infer_main(int argc, char **argv)
{
    InferOptions options = { 0 };
    bool helped = false;
    Comm *comm = NULL;
    Status s = options_parse(&infer_command, argc, argv, &options, &helped);

    if (helped) return 0;
    log_set_quiet(options.quiet);
    /* ranks start even to say that the command line is wrong: one of them says it */
    if (comm_start(&comm) != OK) s = ERR_COMM;
    if (s == OK) s = run(comm, &options);
    if (s != OK && (!comm || comm_rank(comm) == 0)) log_error("%s", status_message());
    comm_finish(comm);
    return status_exit_code(s);
}
