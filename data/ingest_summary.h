/* ingest_summary: what people read when ingest is done. */
#ifndef ZT_DATA_INGEST_SUMMARY_H
#define ZT_DATA_INGEST_SUMMARY_H

#include "data/ingest_pass.h"

/* A row a bucket, how much the codec keeps, how many videos were used and skipped. */
void ingest_summary(const Ingest *job);

#endif
