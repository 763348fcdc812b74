#include "core/parallel/schedule_draw.h"

#include "core/parallel/schedule_trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WORKS = SLOT_WEIGHTS + 1, LABEL_BYTES = 32 };

static const struct {
    char letter;
    const char *name;
    int color[3]; /* red, green, blue */
} works[WORKS] = {
    [SLOT_FORWARD] = { 'F', "forward", { 111, 168, 220 } },
    [SLOT_BACKWARD] = { 'B', "backward", { 246, 178, 107 } },
    [SLOT_WEIGHTS] = { 'W', "weights", { 147, 196, 125 } },
};

/* Traces in units of a chunk's work. */
typedef struct Drawing {
    const Schedule *schedule;
    Trace *traces; /* owned; (stages) */
    int columns;
    double bubble;
} Drawing;

static Status drawing_create(const Schedule *s, Drawing *out)
{
    const double unit = (double)s->chunks;
    const ScheduleTimes times = { unit, unit, unit };
    Drawing d = { .schedule = s, .traces = calloc((size_t)s->stages, sizeof *d.traces) };
    CHECK(d.traces, ERR_MEMORY, "no memory to draw %d stages", s->stages);
    const Status status = schedule_simulate(s, &times, d.traces);
    if (status != OK) {
        free(d.traces);
        return status;
    }
    d.columns = (int)trace_span(d.traces, s->stages);
    d.bubble = trace_bubble(d.traces, s->stages);
    *out = d;
    return OK;
}

static void drawing_destroy(Drawing *d)
{
    traces_destroy(d->traces, d->schedule->stages);
    free(d->traces);
}

/* "F3", with several chunks "F3a", "F3b", ..., beyond the alphabet "F3.26". */
static int print_label(const Schedule *s, Slot slot, char out[LABEL_BYTES])
{
    const char letter = works[slot.kind].letter;
    if (s->chunks == 1) return snprintf(out, LABEL_BYTES, "%c%d", letter, slot.micro);
    if (s->chunks > 26)
        return snprintf(out, LABEL_BYTES, "%c%d.%d", letter, slot.micro, slot.chunk);
    return snprintf(out, LABEL_BYTES, "%c%d%c", letter, slot.micro, 'a' + slot.chunk);
}

static Status check_written(FILE *stream)
{
    CHECK(fflush(stream) == 0 && !ferror(stream), ERR_IO, "drawing of a schedule: %s",
          strerror(errno));
    return OK;
}

/* ---- text ---- */

static void print_row(const Drawing *d, int rank, int width, FILE *stream)
{
    int column = 0;
    (void)fprintf(stream, "rank %-3d", rank);
    for (int i = 0; i < d->traces[rank].count; i++) {
        const TraceEvent *e = &d->traces[rank].events[i];
        char label[LABEL_BYTES];
        if ((int)e->slot.kind >= WORKS) continue;
        for (; column < (int)e->start; column++) (void)fprintf(stream, " %-*s", width, ".");
        (void)print_label(d->schedule, e->slot, label);
        for (; column < (int)e->end; column++) (void)fprintf(stream, " %-*s", width, label);
    }
    for (; column < d->columns; column++) (void)fprintf(stream, " %-*s", width, ".");
    (void)fprintf(stream, "\n");
}

Status schedule_draw_text(const Schedule *schedule, FILE *stream)
{
    Drawing d;
    char label[LABEL_BYTES];
    TRY(drawing_create(schedule, &d));
    const Slot longest = { SLOT_FORWARD, schedule->micros - 1, schedule->chunks - 1 };
    const int width = schedule->micros > 0 ? print_label(schedule, longest, label) : 1;
    for (int rank = 0; rank < schedule->stages; rank++) print_row(&d, rank, width, stream);
    (void)fprintf(stream, "bubble %.1f %%\n", 100.0 * d.bubble);
    drawing_destroy(&d);
    return check_written(stream);
}

/* ---- SVG ---- */

enum { UNIT = 26, ROW = 28, LEFT = 64, TOP = 12, LEGEND = 40 }; /* pixels */

/* Later chunks are darker. */
static void print_color(const Schedule *s, Slot slot, FILE *stream)
{
    const int *c = works[slot.kind].color;
    const int light = 100 - (s->chunks > 1 ? 35 * slot.chunk / (s->chunks - 1) : 0);
    (void)fprintf(stream, "rgb(%d,%d,%d)", c[0] * light / 100, c[1] * light / 100,
                  c[2] * light / 100);
}

static void print_box(const Schedule *s, Slot slot, int x, int y, int width, FILE *stream)
{
    (void)fprintf(stream,
                  "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" stroke=\"#444\" fill=\"", x,
                  y, width, ROW - 6);
    print_color(s, slot, stream);
    (void)fprintf(stream, "\"/>\n");
}

static void print_text(int x, int y, const char *anchor, const char *text, FILE *stream)
{
    (void)fprintf(stream, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", x, y, anchor,
                  text);
}

static void print_event(const Drawing *d, int rank, const TraceEvent *e, FILE *stream)
{
    const int x = LEFT + UNIT * (int)e->start, y = TOP + ROW * rank;
    const int width = UNIT * (int)(e->end - e->start);
    char label[LABEL_BYTES];
    (void)print_label(d->schedule, e->slot, label);
    print_box(d->schedule, e->slot, x, y, width, stream);
    /* the colour says the kind */
    print_text(x + width / 2, y + 15, "middle", label + 1, stream);
}

static void print_legend(const Drawing *d, int y, FILE *stream)
{
    const Schedule *s = d->schedule;
    char text[64];
    int x = LEFT;
    for (int kind = 0; kind < WORKS; kind++) {
        if ((kind == SLOT_BACKWARD && !s->backward) || (kind == SLOT_WEIGHTS && !s->weights))
            continue;
        print_box(s, (Slot){ (SlotKind)kind, 0, 0 }, x, y, UNIT, stream);
        print_text(x + UNIT + 6, y + 15, "start", works[kind].name, stream);
        x += 110;
    }
    (void)snprintf(text, sizeof text, "bubble %.1f %%", 100.0 * d->bubble);
    print_text(x, y + 15, "start", text, stream);
}

Status schedule_draw_svg(const Schedule *schedule, FILE *stream)
{
    Drawing d;
    TRY(drawing_create(schedule, &d));
    const int columns = d.columns > 18 ? d.columns : 18; /* room for the legend */
    const int width = LEFT + UNIT * columns + TOP;
    const int height = TOP + ROW * schedule->stages + LEGEND;
    (void)fprintf(stream,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                  "font-family=\"sans-serif\" font-size=\"11\">\n"
                  "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
                  width, height, width, height);
    for (int rank = 0; rank < schedule->stages; rank++) {
        char name[LABEL_BYTES];
        (void)snprintf(name, sizeof name, "rank %d", rank);
        print_text(TOP, TOP + ROW * rank + 15, "start", name, stream);
        for (int i = 0; i < d.traces[rank].count; i++)
            if ((int)d.traces[rank].events[i].slot.kind < WORKS)
                print_event(&d, rank, &d.traces[rank].events[i], stream);
    }
    print_legend(&d, TOP + ROW * schedule->stages + 8, stream);
    (void)fprintf(stream, "</svg>\n");
    drawing_destroy(&d);
    return check_written(stream);
}
