#include "train/trust.h"

#include "core/base/log.h"

#include <stddef.h>

static Status read_trusted(const ConfigTexts *files, TrustedKeys *out)
{
    const char *paths[CONFIG_TEXTS_MAX];
    for (int64_t i = 0; i < files->count; i++) paths[i] = files->items[i];
    return trusted_keys_read(paths, (int)files->count, out);
}

/* Found now, and not when the run is to be resumed. */
static Status check_own(const CheckpointKeys *config, const Trust *trust)
{
    if (!trust->sign)
        log_warn("checkpoint.require_signature without checkpoint.sign: this run's own checkpoints "
                 "will not be signed, so it will not resume from them");
    CHECK(!trust->sign || trusted_keys_find(&trust->trusted, ecdsa_fingerprint(trust->sign)),
          ERR_CONFIG,
          "checkpoint.sign %s: its public half is not among checkpoint.trusted_keys, so the run "
          "could not resume from what it saves; add it",
          config->sign);
    return OK;
}

Status trust_open(const CheckpointKeys *config, int rank, Trust *out)
{
    Trust trust = { 0 };
    Status s = OK;
    if (config->sign[0] && rank == 0) s = ecdsa_read_private(config->sign, &trust.sign);
    if (s == OK && config->require_signature)
        s = read_trusted(&config->trusted_keys, &trust.trusted);
    if (s == OK && config->require_signature && rank == 0) s = check_own(config, &trust);
    if (s == OK)
        *out = trust;
    else
        trust_close(&trust);
    return s;
}

void trust_close(Trust *trust)
{
    ecdsa_destroy(trust->sign);
    trusted_keys_destroy(&trust->trusted);
    *trust = (Trust){ 0 };
}
