#include "infer/record.h"

#include "core/base/json_writer.h"

Status record_write(const Engine *engine, const Request *request, int64_t index,
                    const DenoiseOptions *denoise, char **out)
{
    const InferOptions *o = request->options;
    JsonWriter w = json_writer(0);
    size_t length = 0;

    json_begin_object(&w, NULL);
    json_write_string(&w, "prompt", request->prompts[index]);
    json_write_string(&w, "negative", o->negative);
    json_write_int(&w, "seed", o->seed);
    json_write_int(&w, "request", (int64_t)request->numbers[index]);
    json_write_int(&w, "steps", o->steps);
    json_write_real(&w, "guidance", o->guidance);
    if (engine->model.boundary > 0) json_write_real(&w, "guidance_low", o->guidance_low);
    json_write_real(&w, "shift", denoise->shift);
    json_write_string(&w, "solver", solver_name(denoise->solver));
    json_write_string(&w, "schedule", sigmas_name(denoise->sigmas));
    json_write_int(&w, "width", o->size.width);
    json_write_int(&w, "height", o->size.height);
    json_write_int(&w, "frames", o->frames);
    json_write_real(&w, "fps", o->fps);
    json_write_string(&w, "model", engine->path);
    json_write_string(&w, "weights", engine->ema ? "ema" : "raw");
    json_write_string(&w, "dtype", dtype_name(engine->dtype));
    json_write_string(&w, "codec", engine->codec.digest);
    json_end_object(&w);
    return json_writer_finish(&w, out, &length);
}
