/* Clips with equal captions are one scene; the nearest clip is found among those of its size. */
#include "data/dataset_writer.h"
#include "tests/support/small_dataset.h"
#include "tools/nearest_clip.h"
#include "tools/scenes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { CLIPS = 6, VALUES = 2 * SMALL_PATCH };

/* Captions of each clip: 0, 2 and 5 are of one scene; 3 has only one of its wordings; 4 is of
 * another size. */
static const char *const captions[CLIPS][2] = {
    { "a dog", "a hound" }, { "a cat", NULL },    { "a dog", "a hound" },
    { "a dog", NULL },      { "a bird", "bird" }, { "a dog", "a hound" },
};

/* Clip i lies at 10 i in every dimension. */
static void write_dataset(const char *dir)
{
    const DatasetInfo info = small_info();
    DatasetWriter *writer = NULL;

    assert_int_equal(dataset_writer_create(dir, &info, &writer), OK);
    for (int i = 0; i < CLIPS; i++) {
        const int64_t frames = i == 4 ? 1 : 2;
        float values[VALUES];
        for (int j = 0; j < VALUES; j++) values[j] = (float)(10 * i);
        const ClipRecord record = { .t = frames,
                                    .h = 2,
                                    .w = 2,
                                    .latents = tensor_of(values, F32, SHAPE(frames, SMALL_PATCH)),
                                    .frames = 1 + 4 * (frames - 1),
                                    .fps = 8,
                                    .crop = { 0, 0, 16, 16 },
                                    .source = "v.mp4",
                                    .captions = captions[i],
                                    .caption_count = captions[i][1] ? 2 : 1 };
        assert_int_equal(dataset_writer_add(writer, &record), OK);
    }
    assert_int_equal(dataset_writer_finish(writer), OK);
    dataset_writer_destroy(writer);
}

typedef struct Fixture {
    char dir[256];
    Dataset *ds;
    Scenes scenes;
} Fixture;

static Fixture fixture;

static int set_up(void **state)
{
    (void)state;
    small_folder(fixture.dir);
    write_dataset(fixture.dir);
    if (dataset_open(fixture.dir, &fixture.ds) != OK) return -1;
    return scenes_find(fixture.ds, &fixture.scenes) == OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    scenes_destroy(&fixture.scenes);
    dataset_close(fixture.ds);
    small_remove(fixture.dir);
    return 0;
}

static void equal_captions_are_one_scene(void **state)
{
    static const int64_t of_clip[CLIPS] = { 0, 1, 0, 2, 3, 0 }, first[] = { 0, 1, 3, 4 };

    (void)state;
    assert_int_equal(fixture.scenes.count, 4);
    assert_memory_equal(fixture.scenes.of_clip, of_clip, sizeof(of_clip));
    assert_memory_equal(fixture.scenes.first, first, sizeof(first));
}

static void the_nearest_clip_of_the_same_size_is_found(void **state)
{
    float dog[VALUES], cat[VALUES], bird[SMALL_PATCH];
    float *const latents[4] = { dog, cat, NULL, bird };
    Match matches[4] = { [2] = { 7, 8, 9 } };

    (void)state;
    /* the dog came out near clip 2; the cat near clip 3, which is not a cat; the bird has no other
     * clip of its size, though clip 2 is nearer */
    for (int j = 0; j < VALUES; j++) dog[j] = 21, cat[j] = 27;
    for (int j = 0; j < SMALL_PATCH; j++) bird[j] = 20;
    assert_int_equal(nearest_clips(fixture.ds, &fixture.scenes, latents, 4, matches), OK);

    assert_true(matches[0].nearest == 2);
    assert_true(fabs(matches[0].distance - 1) < 1e-6);
    assert_true(fabs(matches[0].own_distance - 1) < 1e-6);
    assert_true(matches[1].nearest == 3);
    assert_true(fabs(matches[1].distance - 3) < 1e-6);
    assert_true(fabs(matches[1].own_distance - 17) < 1e-6);
    assert_true(matches[2].distance == 7 && matches[2].nearest == 8);
    assert_true(matches[3].nearest == 4);
    assert_true(fabs(matches[3].distance - 20) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_captions_are_one_scene),
        cmocka_unit_test(the_nearest_clip_of_the_same_size_is_found),
    };
    return cmocka_run_group_tests_name("scenes", tests, set_up, tear_down);
}
