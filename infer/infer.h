/* infer: the sampling command, prompts to videos over any mesh. */
#ifndef ZT_INFER_INFER_H
#define ZT_INFER_INFER_H

#include "comm/comm.h"
#include "core/base/status.h"
#include "infer/request.h"

/* `zoetrope infer ...`: argv[0] is "infer". Collective: every rank of the job calls it with the
 * same arguments and gets the same status. */
Status infer_main(int argc, char **argv);

/* The same in a job that runs already. Collective over the world. */
Status infer_run(Comm *comm, const InferOptions *options);

#endif
