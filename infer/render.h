/*
 * render: a request's prompts to files, dealt over the replicas of the model.
 *
 * Replicas work in rounds: in each, replica r takes the next few prompts, samples them, and its
 * first rank decodes and writes them; then all agree. What a round has written stays, whatever
 * happens to a later one.
 */
#ifndef ZT_INFER_RENDER_H
#define ZT_INFER_RENDER_H

#include "infer/engine.h"
#include "infer/references.h"
#include "infer/request.h"
#include "infer/texts.h"

/* What can be known wrong of a request before hours are spent on loading: size, frames, solver and
 * schedule. The same on every rank, not collective. ERR_USAGE. */
Status render_check(Engine *engine, const Request *request);
/* texts: of the request's prompts, then of its negative one; NULL where the model encodes captions
 * itself. references: what all its videos start from. Of a request that was checked. Writes every
 * file the request asks for and prints their names to standard output. Collective over the world;
 * an error on any rank is an error on all. */
Status render_request(Engine *engine, const Request *request, const Texts *texts,
                      const References *references);

#endif
