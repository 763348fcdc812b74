/* small_dataset: a made-up dataset in a temporary folder, for tests. */
#ifndef ZT_TESTS_SUPPORT_SMALL_DATASET_H
#define ZT_TESTS_SUPPORT_SMALL_DATASET_H

#include "data/dataset_writer.h"

enum {
    SMALL_CHANNELS = 3,
    SMALL_PATCH = SMALL_CHANNELS * 4,
    SMALL_BLOCK = 16, /* values of a pixel block of its codec */
    SMALL_MOST_VALUES = 3 * 4 * 4 * SMALL_CHANNELS,
};

/* Makes a folder that ends in a random name and writes it to `dir`. */
void small_folder(char dir[256]);
/* Removes it with all it holds. */
void small_remove(const char *dir);

/* A codec and geometry; points into static memory. */
DatasetInfo small_info(void);
/* Values of clip i: multiples of 1/8 that bf16 holds exactly. Returns their number. */
int64_t small_values(int64_t clip, float *values);
/* Clip i is of one of three sizes, has 1 + i % 3 captions "clip i wording k" and the source
 * "vi.mp4". shard_bytes 0: as the writer has it. Asserts that all goes well. */
void small_dataset(const char *dir, int64_t clips, int64_t shard_bytes);
/* The same, when it may go wrong. */
Status small_dataset_try(const char *dir, int64_t clips, int64_t shard_bytes);

/* Adds `delta` to the byte at `offset` of DIR/name; offset below 0 counts from the end. */
void small_damage(const char *dir, const char *name, int64_t offset, int delta);
/* Replaces the first `from` in DIR/name by `to`; a dataset.json also loses its digest. */
void small_edit(const char *dir, const char *name, const char *from, const char *to);
/* Puts a shard in the place of that of a dataset of one clip, whose index is the same and whose
 * latents are zeros with the right checksums: nothing but the clip's SHA-256 shows it. */
void small_other_latents(const char *dir);
/* Whole file; free it. */
char *small_read(const char *dir, const char *name, int64_t *length);
void small_write(const char *dir, const char *name, const char *bytes, int64_t length);

#endif
