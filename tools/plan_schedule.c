#include "tools/plan_parts.h"

#include "core/base/file.h"
#include "core/parallel/schedule_draw.h"
#include "core/parallel/schedule_trace.h"

#include <stdlib.h>

/* The replica with the most micro-batches of full size. */
static int most_micros(const StatePlan *plan, MeshShape shape)
{
    const int64_t micro = plan->config.data.micro_batch;
    const int64_t all = (plan->config.data.batch + micro - 1) / micro;
    return (int)((all + shape.data - 1) / shape.data);
}

Status plan_schedule(const StatePlan *plan, MeshShape shape, Schedule *out)
{
    const ScheduleOptions options = { .kind = (ScheduleKind)plan->config.parallel.schedule,
                                      .stages = shape.pipeline,
                                      .chunks = 1,
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
