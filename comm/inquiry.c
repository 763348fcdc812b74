#include "comm/inquiry.h"

#include <stdio.h>

void inquiry_describe(const CallGroup *group, char out[WORDS_BYTES])
{
    const Call *c = &group->call;
    char what[48] = "";
    if (c->number == 0) {
        (void)snprintf(out, WORDS_BYTES, "nothing yet in the %s group", group->name);
        return;
    }
    if (c->peer >= 0)
        (void)snprintf(what, sizeof what, " with rank %d", group->members[c->peer]);
    else if (c->count > 0)
        (void)snprintf(what, sizeof what, " (%lld %s)", (long long)c->count, dtype_name(c->dtype));
    (void)snprintf(out, WORDS_BYTES, "%s %lld of the %s group%s at %s", call_kind_name(c->kind),
                   (long long)c->number, group->name, what, c->site);
}

bool inquiry_concerns(const Inquiry *q, int member)
{
    const int peer = q->about.call.peer;
    return q->about.members[member] != q->rank && (peer < 0 || peer == member);
}

static Part part_of(const Inquiry *q, int rank)
{
    const Call *call = &q->about.call;
    const Answer *a = &q->answers[rank];
    if (q->asked[rank]) return SILENT;
    if (call->peer >= 0 || a->collectives < call->number) return a->waits ? WAITS : WORKS;
    const bool same = a->kind == (int32_t)call->kind && a->dtype == (int32_t)call->dtype &&
                      a->count == call->count;
    return a->collectives == call->number && a->active && !same ? DIFFERS : IN_CALL;
}

Cast inquiry_cast(const Inquiry *q)
{
    Cast cast = { 0 };
    for (int i = 0; i < q->about.size; i++) {
        if (!inquiry_concerns(q, i)) continue;
        const int rank = q->about.members[i];
        const Answer *a = &q->answers[rank];
        const Part part = part_of(q, rank);
        const double s = part == WAITS ? a->waits_s : a->active ? a->age_s : 1e9;
        if (cast.count[part]++ == 0) cast.first[part] = rank;
        if (cast.count[part] == 1 || s < cast.least_s[part]) cast.least_s[part] = s;
    }
    return cast;
}

/* What one rank does, as a line tells it: "rank 2 (node7) and 1 more". */
static void name_ranks(const Inquiry *q, const Cast *cast, Part part, char *out, size_t bytes)
{
    const int rank = cast->first[part], others = cast->count[part] - 1;
    const int n = snprintf(out, bytes, "rank %d (%s)", rank, q->hosts[rank]);
    if (others > 0) (void)snprintf(out + n, bytes - (size_t)n, " and %d more", others);
}

Verdict inquiry_verdict(const Inquiry *q, const Cast *cast, Part part, double s, int64_t at_step)
{
    Verdict v = { .culprit = cast->first[part] };
    char call[WORDS_BYTES], who[HOST_BYTES + 64];
    const Answer *a = &q->answers[v.culprit];
    const long long step = (long long)at_step;
    inquiry_describe(&q->about, call);
    name_ranks(q, cast, part, who, sizeof who);
    switch (part) {
    case SILENT:
        (void)snprintf(v.line, sizeof v.line,
                       "%s gives no sign of life, stopped or lost: waited %.1f s for it in %s, "
                       "step %lld",
                       who, s, call, step);
        break;
    case WORKS:
        (void)snprintf(v.line, sizeof v.line,
                       "%s does not come to %s, step %lld, waited for %.1f s: it waits for nobody; "
                       "its last call there is %s",
                       who, call, step, s, a->here);
        break;
    case DIFFERS:
        (void)snprintf(v.line, sizeof v.line,
                       "%s is in %s, where rank %d is in %s, step %lld, for "
                       "%.1f s",
                       who, a->here, q->rank, call, step, s);
        break;
    case WAITS:
        /* either may be wrong: both tell */
        v.culprit = -1;
        (void)snprintf(
            v.line, sizeof v.line,
            "no rank can go on: rank %d (%s) waits %.1f s for %s in %s, step %lld, which "
            "waits in %s",
            q->rank, q->hosts[q->rank], s, who, call, step, a->doing);
        break;
    default:
        v.culprit = -1;
        (void)snprintf(v.line, sizeof v.line,
                       "rank %d (%s) and all others are in %s, step %lld, for %.1f s, and it does "
                       "not end: a message is lost, or calls before it did not match (comm.check: "
                       "true tells)",
                       q->rank, q->hosts[q->rank], call, step, s);
        break;
    }
    return v;
}
