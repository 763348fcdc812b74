/*
 * signature: model.sig, whose files these are. OpenSSF Model Signing v1.0 with an elliptic curve
 * key; the format is described in docs/interop.md.
 *
 * A signature is over every file of a folder, manifest.json among them, but not over itself: the
 * order of a save is files, manifest.json, model.sig, rename. Checking believes nothing before the
 * signature is that of a trusted key: then the list of files is parsed, names are compared with the
 * folder's (symbolic links are refused), bytes with their SHA-256. After that other code may parse
 * the files. It does not protect from one who can write into the folder while it is read.
 *
 * Not collective. Ranks that check a folder together each read model.sig and take a share of the
 * files; agree afterwards.
 */
#ifndef ZT_CORE_FORMATS_SIGNATURE_H
#define ZT_CORE_FORMATS_SIGNATURE_H

#include "core/base/file.h"
#include "core/formats/manifest.h"
#include "core/formats/statement.h"
#include "core/formats/trusted_keys.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Signature {
    Statement statement;    /* owned */
    const EcdsaKey *signer; /* view of the trusted keys */
} Signature;

/* Replaces FOLDER/model.sig in one instant. The digests are the manifest's; manifest.json, which
 * must stand there already, is read. `name`: what the folder will be called. */
Status signature_write(const char *folder, const char *name, const Manifest *manifest,
                       const EcdsaKey *key);

bool signature_is_there(const char *folder);
/* ERR_FORMAT: not there, damaged, by none of the keys. */
Status signature_read(const char *folder, const TrustedKeys *keys, Signature *out);
/* The same from memory; `what` is what errors call it. */
Status signature_parse(const char *text, size_t length, const char *what, const TrustedKeys *keys,
                       Signature *out);
void signature_destroy(Signature *signature);

/* That the folder has exactly the files that were signed. *left_out (NULL: refused) counts files
 * that the signer named as left out. ERR_FORMAT names the first that does not fit. */
Status signature_check_names(const char *folder, const Signature *signature, int64_t *left_out);
/* Reads file `index` whole, unless `known` (may be NULL) has its digest. ERR_FORMAT names a file
 * whose bytes are not those that were signed. */
Status signature_check_file(const char *folder, const Signature *signature, const Manifest *known,
                            int64_t index);
/* All of it: model.sig, names and this rank's share of the files; nothing may be left out. A signal
 * ends it between two files: ERR_STOPPED. */
Status signature_verify_share(const char *folder, const TrustedKeys *keys, int rank, int size);

#ifdef __cplusplus
}
#endif
#endif
