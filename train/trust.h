/* trust: the keys of a run, read before anything else is done: the one that its checkpoints are
 * signed with and those that it believes. */
#ifndef ZT_TRAIN_TRUST_H
#define ZT_TRAIN_TRUST_H

#include "core/formats/trusted_keys.h"
#include "train/train_config.h"

typedef struct Trust {
    EcdsaKey *sign;      /* owned; on rank 0 when checkpoint.sign names a file, else NULL */
    TrustedKeys trusted; /* owned; none unless a signature is required */
} Trust;

/* Not collective: agree afterwards. Only rank 0 reads the private key. ERR_CONFIG when the run
 * could not go on from what it signs itself; ERR_FORMAT and ERR_IO for files. */
Status trust_open(const CheckpointKeys *config, int rank, Trust *out);
void trust_close(Trust *trust);

#endif
