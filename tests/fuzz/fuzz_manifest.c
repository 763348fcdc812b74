/*
 * fuzz_manifest: manifest.json of a checkpoint. Its root digest keeps most broken copies from being
 * taken; those that are must name files inside the folder, each once.
 */
#include "core/formats/manifest.h"
#include "tests/fuzz/fuzz.h"

static void check_name(const char *name)
{
    MUST(name[0] != 0 && name[0] != '/');
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        MUST(*part != 0 && *part != '/');
        MUST(strcmp(part, "..") != 0 && strncmp(part, "../", 3) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Manifest manifest = { 0 };
    char *text = fuzz_copy(bytes, size);
    const Status s = manifest_parse(text, size, "fuzz", &manifest);
    if (s != OK) fuzz_refused(s, ERR_FORMAT);
    for (int64_t i = 0; i < manifest.count; i++) {
        check_name(manifest.files[i].name);
        MUST(manifest.files[i].bytes >= 0);
        MUST(i == 0 || strcmp(manifest.files[i - 1].name, manifest.files[i].name) < 0);
    }
    manifest_destroy(&manifest);
    free(text);
    return 0;
}
