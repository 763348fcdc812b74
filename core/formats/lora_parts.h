/* lora_parts: what reading and writing of core/formats/lora.h share. */
#ifndef ZT_CORE_FORMATS_LORA_PARTS_H
#define ZT_CORE_FORMATS_LORA_PARTS_H

#include "core/base/json.h"
#include "core/formats/lora.h"
#include "core/formats/wan_names.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Both names of every parameter of the transformer. ERR_FORMAT when it is no Wan transformer. */
Status lora_names(const ParamList *params, WanNames *out);
/* "blocks.0.attn1.to_q" of "blocks.0.attn1.to_q.weight". */
void lora_module(const char *parameter, char out[WAN_NAME_BYTES]);

/* An adapter's configuration, if there is one. */
typedef struct LoraConfig {
    Json *root;         /* owned; NULL: none */
    const char *prefix; /* of its keys: "transformer." or "" */
    char what[512];     /* what errors call it */
} LoraConfig;

/* Takes over `root`. ERR_FORMAT for methods that are not plain LoRA. */
Status lora_config_open(Json *root, const char *what, LoraConfig *out);
void lora_config_close(LoraConfig *config);
/* The scale of a module of that rank; 1 where there is no configuration. ERR_FORMAT when it says
 * another rank. */
Status lora_config_scale(const LoraConfig *config, const char *module, int64_t rank, double *out);

#ifdef __cplusplus
}
#endif
#endif
