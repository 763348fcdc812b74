/* fuzz_record: dataset.json, which says of which shards a dataset consists. */
#include "data/dataset_record.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    DatasetRecord record = { 0 };
    char *text = fuzz_copy(bytes, size);
    const Status s = dataset_record_parse(text, size, "fuzz", &record);
    if (s == OK) {
        int64_t clips = 0;
        for (int64_t i = 0; i < record.shard_count; i++) clips += record.shards[i].clips;
        MUST(record.shard_count >= 1 && clips == record.clips);
    } else {
        fuzz_refused(s, ERR_FORMAT);
    }
    dataset_record_destroy(&record);
    free(text);
    return 0;
}
