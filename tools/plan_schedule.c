#include "tools/plan_parts.h"

#include "core/base/file.h"
#include "core/parallel/schedule_draw.h"
#include "core/parallel/schedule_trace.h"

#include <stdlib.h>

/* The replica with the most micro-batches of full size. */
static int most_micros(const StatePlan *plan, MeshShape shape)
{
    const int64_t micro = train_clips_of_pass(&plan->config);
    const int64_t all = (plan->config.data.batch + micro - 1) / micro;
    return (int)((all + shape.data - 1) / shape.data);
}

Status plan_schedule(const StatePlan *plan, MeshShape shape, Schedule *out)
{
    const ScheduleKind kind = (ScheduleKind)plan->config.parallel.schedule;
    /* one stage runs 1f1b whatever was asked for, as train/step.c does */
    const ScheduleOptions options = { .kind = shape.pipeline > 1 ? kind : SCHEDULE_1F1B,
                                      .stages = shape.pipeline,
                                      .chunks = mesh_chunks(shape),
                                      .micros = most_micros(plan, shape) };
    return schedule_create(&options, out);
}

Status plan_bubble(const Schedule *schedule, double *bubble)
{
    const ScheduleTimes times = { 1.0, 1.0, 1.0 };
    Trace *traces = calloc((size_t)schedule->stages, sizeof *traces);
    CHECK(traces, ERR_MEMORY, "no memory for the traces of %d stages", schedule->stages);
    const Status status = schedule_simulate(schedule, &times, traces);
    if (status == OK) {
        *bubble = trace_bubble(traces, schedule->stages);
        traces_destroy(traces, schedule->stages);
    }
    free(traces);
    return status;
}

Status plan_schedule_svg(const Schedule *schedule, const char *path)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(stream, ERR_MEMORY, "no memory for the drawing");
    Status status = schedule_draw_svg(schedule, stream);
    if (fclose(stream) != 0 && status == OK)
        status = status_fail(ERR_MEMORY, "no memory for the drawing");
    if (status == OK) status = file_write(path, text, length);
    free(text);
    return status;
}
