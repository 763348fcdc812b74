/*
 * caption_match: does a caption get its own video?
 *
 * Every scene (tools/scenes.h) is rendered once from its first wording, at the size of its first
 * clip. The nearest clip of the dataset by squared distance of normalised latents, among those of
 * the same size, must be one of that scene.
 */
#ifndef ZT_TOOLS_CAPTION_MATCH_H
#define ZT_TOOLS_CAPTION_MATCH_H

#include "core/solver/generate.h"
#include "data/dataset.h"
#include "infer/engine.h"
#include "tools/nearest_clip.h"
#include "tools/scenes.h"

typedef struct MatchOptions {
    GenerateOptions generate; /* on_step is not used */
    int64_t scenes;           /* how many are rendered: the first ones */
    const char *out;          /* folder for the videos and sheet.png, or NULL */
} MatchOptions;

/* matches (options->scenes), the same on every rank. Scenes are dealt over the replicas. velocity
 * must be planned for every bucket and generate_rows(1, guidance) rows. Collective over the world;
 * an error on any rank is an error on all. */
Status caption_match(Engine *engine, Velocity *velocity, Dataset *ds, const Scenes *scenes,
                     const MatchOptions *options, Match *matches);

#endif
