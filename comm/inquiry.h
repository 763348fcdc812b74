/*
 * inquiry: whom an overdue call waits for, from what the ranks have answered. Inside comm/ only.
 *
 * Pure: the watchdog asks, takes the answers and decides when to judge (comm/watchdog.h says who is
 * to blame); here they become a part for each rank and one line of words.
 */
#ifndef ZT_COMM_INQUIRY_H
#define ZT_COMM_INQUIRY_H

#include "comm/calls.h"

enum { HOST_BYTES = 64, WORDS_BYTES = 224, LINE_BYTES = 768 };

/* What a rank says of a group that it is asked about; sent as it is. */
typedef struct Answer {
    int32_t id;
    int32_t waits;       /* the main thread is in a call */
    double waits_s;      /* for so long */
    int64_t collectives; /* of the group, entered so far */
    /* the call in that group, if one is under way */
    int32_t active, kind, dtype;
    int64_t count;
    double age_s;
    char here[WORDS_BYTES];  /* it, or the last there, in words */
    char doing[WORDS_BYTES]; /* the main thread's, in words, where it waits */
} Answer;

/* Why the job ends. */
typedef struct Verdict {
    int32_t culprit; /* knows already, or is stopped: others tell; -1: several */
    char line[LINE_BYTES];
} Verdict;

/* One question and what has come back. */
typedef struct Inquiry {
    int rank;                  /* who asks */
    char (*hosts)[HOST_BYTES]; /* owned; (ranks of the world) */
    Answer *answers;           /* owned; (ranks) the last of each */
    bool *asked;               /* owned; (ranks) an answer is due */
    CallGroup about;           /* the overdue call, as it was when the question was put */
} Inquiry;

/* What a rank has to do with the overdue call, the worst last. */
typedef enum Part {
    IN_CALL, /* as it should */
    WAITS,   /* elsewhere, for somebody */
    DIFFERS, /* in another operation where this call is expected */
    WORKS,   /* elsewhere, for itself */
    SILENT,  /* does not answer */
    PARTS
} Part;

/* Who plays each part: how many, the first of them, and the shortest time they have done so. */
typedef struct Cast {
    int count[PARTS], first[PARTS];
    double least_s[PARTS];
} Cast;

/* "all-reduce 17 of the world group (5 F64) at train/trainer.c:42": the last call of a group. */
void inquiry_describe(const CallGroup *group, char out[WORDS_BYTES]);

/* Whether the overdue call waits for this member of its group. */
bool inquiry_concerns(const Inquiry *inquiry, int member);
Cast inquiry_cast(const Inquiry *inquiry);
/* Why the job ends, when the worst that a rank does is `part` and the call, of this step, has taken
 * waited_s. */
Verdict inquiry_verdict(const Inquiry *inquiry, const Cast *cast, Part part, double waited_s,
                        int64_t at_step);

#endif
