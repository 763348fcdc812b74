/*
 * param_table: one row a parameter; enum, shape, initializer and cut all come from here.
 *
 * X(ID, name, dimensions, cut, init): names and shapes of spec 3 (diffusers) and 9 (transformers).
 * cut is the dimension that tensor ranks share out (whole heads or ffn columns), or -1: whole on
 * every rank; OWN_TOKENS: whole, too, but each rank applies it to its own tokens.
 * Initializers are the original model's (spec 13) and, for the text encoder, T5's.
 */
#ifndef ZT_CORE_MODEL_PARAM_TABLE_H
#define ZT_CORE_MODEL_PARAM_TABLE_H

enum { OWN_TOKENS = -2 };

/* clang-format off */
#define DIMS(...) { __VA_ARGS__ }

/* stage 0 of the pipeline */
#define FIRST_PARAMS(X) \
    X(PATCH_W,   "patch_embedding.weight",                          DIMS(WIDTH, IN, PT, PH, PW), OWN_TOKENS, XAVIER) \
    X(PATCH_B,   "patch_embedding.bias",                            DIMS(WIDTH),                 OWN_TOKENS, ZERO) \
    X(TIME1_W,   "condition_embedder.time_embedder.linear_1.weight", DIMS(WIDTH, FREQ),          -1, SMALL) \
    X(TIME1_B,   "condition_embedder.time_embedder.linear_1.bias",  DIMS(WIDTH),                 -1, ZERO) \
    X(TIME2_W,   "condition_embedder.time_embedder.linear_2.weight", DIMS(WIDTH, WIDTH),         -1, SMALL) \
    X(TIME2_B,   "condition_embedder.time_embedder.linear_2.bias",  DIMS(WIDTH),                 -1, ZERO) \
    X(TIME_PROJ_W, "condition_embedder.time_proj.weight",           DIMS(SIX_WIDTH, WIDTH),      -1, XAVIER) \
    X(TIME_PROJ_B, "condition_embedder.time_proj.bias",             DIMS(SIX_WIDTH),             -1, ZERO) \
    X(TEXT1_W,   "condition_embedder.text_embedder.linear_1.weight", DIMS(WIDTH, TEXT),          -1, XAVIER) \
    X(TEXT1_B,   "condition_embedder.text_embedder.linear_1.bias",  DIMS(WIDTH),                 -1, ZERO) \
    X(TEXT2_W,   "condition_embedder.text_embedder.linear_2.weight", DIMS(WIDTH, WIDTH),         -1, XAVIER) \
    X(TEXT2_B,   "condition_embedder.text_embedder.linear_2.bias",  DIMS(WIDTH),                 -1, ZERO)

/* ... of models that read image tokens (spec 3, 4.4), and of those whose tokens have positions */
#define IMAGE_FIRST_PARAMS(X) \
    X(IMAGE_NORM1_W, "condition_embedder.image_embedder.norm1.weight", DIMS(IMAGE),        -1, ONE) \
    X(IMAGE_NORM1_B, "condition_embedder.image_embedder.norm1.bias",   DIMS(IMAGE),        -1, ZERO) \
    X(IMAGE1_W,  "condition_embedder.image_embedder.ff.net.0.proj.weight", DIMS(IMAGE, IMAGE), -1, XAVIER) \
    X(IMAGE1_B,  "condition_embedder.image_embedder.ff.net.0.proj.bias",   DIMS(IMAGE),    -1, ZERO) \
    X(IMAGE2_W,  "condition_embedder.image_embedder.ff.net.2.weight",  DIMS(WIDTH, IMAGE), -1, XAVIER) \
    X(IMAGE2_B,  "condition_embedder.image_embedder.ff.net.2.bias",    DIMS(WIDTH),        -1, ZERO) \
    X(IMAGE_NORM2_W, "condition_embedder.image_embedder.norm2.weight", DIMS(WIDTH),        -1, ONE) \
    X(IMAGE_NORM2_B, "condition_embedder.image_embedder.norm2.bias",   DIMS(WIDTH),        -1, ZERO)
#define IMAGE_PLACE_PARAMS(X) \
    X(IMAGE_POS, "condition_embedder.image_embedder.pos_embed", DIMS(ONE_, IMAGE_POSITIONS, IMAGE), -1, POSITIONS)

#define ATTENTION_PARAMS(X, ID, prefix) \
    X(ID##_Q_W,    prefix ".to_q.weight",     DIMS(WIDTH, WIDTH), 0, XAVIER) \
    X(ID##_Q_B,    prefix ".to_q.bias",       DIMS(WIDTH),        0, ZERO) \
    X(ID##_K_W,    prefix ".to_k.weight",     DIMS(WIDTH, WIDTH), 0, XAVIER) \
    X(ID##_K_B,    prefix ".to_k.bias",       DIMS(WIDTH),        0, ZERO) \
    X(ID##_V_W,    prefix ".to_v.weight",     DIMS(WIDTH, WIDTH), 0, XAVIER) \
    X(ID##_V_B,    prefix ".to_v.bias",       DIMS(WIDTH),        0, ZERO) \
    X(ID##_O_W,    prefix ".to_out.0.weight", DIMS(WIDTH, WIDTH), 1, XAVIER) \
    X(ID##_O_B,    prefix ".to_out.0.bias",   DIMS(WIDTH),       -1, ZERO) \
    X(ID##_NORM_Q, prefix ".norm_q.weight",   DIMS(WIDTH),        0, ONE) \
    X(ID##_NORM_K, prefix ".norm_k.weight",   DIMS(WIDTH),        0, ONE)

/* blocks.N. */
#define BLOCK_PARAMS(X) \
    X(BLOCK_MODULATION, "scale_shift_table", DIMS(ONE_, SIX, WIDTH), -1, TABLE) \
    ATTENTION_PARAMS(X, ATTN1, "attn1") \
    X(NORM2_W,  "norm2.weight",          DIMS(WIDTH),      OWN_TOKENS, ONE) \
    X(NORM2_B,  "norm2.bias",            DIMS(WIDTH),      OWN_TOKENS, ZERO) \
    ATTENTION_PARAMS(X, ATTN2, "attn2") \
    X(FFN1_W,   "ffn.net.0.proj.weight", DIMS(FFN, WIDTH),  0, XAVIER) \
    X(FFN1_B,   "ffn.net.0.proj.bias",   DIMS(FFN),         0, ZERO) \
    X(FFN2_W,   "ffn.net.2.weight",      DIMS(WIDTH, FFN),  1, XAVIER) \
    X(FFN2_B,   "ffn.net.2.bias",        DIMS(WIDTH),      -1, ZERO)

/* ... of models that read image tokens: keys and values of their own, beside the text's */
#define IMAGE_BLOCK_PARAMS(X) \
    X(IMAGE_K_W,    "attn2.add_k_proj.weight",   DIMS(WIDTH, WIDTH), 0, XAVIER) \
    X(IMAGE_K_B,    "attn2.add_k_proj.bias",     DIMS(WIDTH),        0, ZERO) \
    X(IMAGE_V_W,    "attn2.add_v_proj.weight",   DIMS(WIDTH, WIDTH), 0, XAVIER) \
    X(IMAGE_V_B,    "attn2.add_v_proj.bias",     DIMS(WIDTH),        0, ZERO) \
    X(IMAGE_NORM_K, "attn2.norm_added_k.weight", DIMS(WIDTH),        0, ONE)

/* the last stage */
#define LAST_PARAMS(X) \
    X(HEAD_MODULATION, "scale_shift_table", DIMS(ONE_, TWO, WIDTH), -1, TABLE) \
    X(PROJ_OUT_W,      "proj_out.weight",   DIMS(OUT_PATCH, WIDTH), OWN_TOKENS, ZERO) \
    X(PROJ_OUT_B,      "proj_out.bias",     DIMS(OUT_PATCH),        OWN_TOKENS, ZERO)

/* the text encoder lives on stage 0, whole on every tensor rank: it is small */
#define TEXT_FIRST_PARAMS(X) \
    X(TEXT_SHARED,     "shared.weight",                   DIMS(VOCAB, MODEL), -1, T5_EMBEDDING) \
    X(TEXT_FINAL_NORM, "encoder.final_layer_norm.weight", DIMS(MODEL),        -1, ONE)

/* encoder.block.N. */
#define TEXT_BLOCK_PARAMS(X) \
    X(TEXT_NORM1,    "layer.0.layer_norm.weight",                              DIMS(MODEL),          -1, ONE) \
    X(TEXT_Q,        "layer.0.SelfAttention.q.weight",                         DIMS(INNER, MODEL),   -1, T5_Q) \
    X(TEXT_K,        "layer.0.SelfAttention.k.weight",                         DIMS(INNER, MODEL),   -1, T5_IN) \
    X(TEXT_V,        "layer.0.SelfAttention.v.weight",                         DIMS(INNER, MODEL),   -1, T5_IN) \
    X(TEXT_O,        "layer.0.SelfAttention.o.weight",                         DIMS(MODEL, INNER),   -1, T5_IN) \
    X(TEXT_REL_BIAS, "layer.0.SelfAttention.relative_attention_bias.weight",   DIMS(BUCKETS, HEADS), -1, T5_BIAS) \
    X(TEXT_NORM2,    "layer.1.layer_norm.weight",                              DIMS(MODEL),          -1, ONE) \
    X(TEXT_WI0,      "layer.1.DenseReluDense.wi_0.weight",                     DIMS(FF, MODEL),      -1, T5_IN) \
    X(TEXT_WI1,      "layer.1.DenseReluDense.wi_1.weight",                     DIMS(FF, MODEL),      -1, T5_IN) \
    X(TEXT_WO,       "layer.1.DenseReluDense.wo.weight",                       DIMS(MODEL, FF),      -1, T5_IN)

#define PARAM_ENUM(ID, name, dims, cut, init) ID,
/* FIRST_COUNT and BLOCK_COUNT are the most there may be; which a model has: params_in_group. */
enum { FIRST_PARAMS(PARAM_ENUM) FIRST_PLAIN, FIRST_BEFORE = FIRST_PLAIN - 1,
       IMAGE_FIRST_PARAMS(PARAM_ENUM) FIRST_IMAGE, FIRST_IMAGE_BEFORE = FIRST_IMAGE - 1,
       IMAGE_PLACE_PARAMS(PARAM_ENUM) FIRST_COUNT };
enum { BLOCK_PARAMS(PARAM_ENUM) BLOCK_PLAIN, BLOCK_BEFORE = BLOCK_PLAIN - 1,
       IMAGE_BLOCK_PARAMS(PARAM_ENUM) BLOCK_COUNT };
enum { LAST_PARAMS(PARAM_ENUM) LAST_COUNT };
enum { TEXT_FIRST_PARAMS(PARAM_ENUM) TEXT_FIRST_COUNT };
enum { TEXT_BLOCK_PARAMS(PARAM_ENUM) TEXT_BLOCK_COUNT };
#undef PARAM_ENUM

/* Positions inside one attention's ten parameters: &block[ATTN1_Q_W][...] or &block[ATTN2_Q_W][...]. */
enum { ATTN_Q_W, ATTN_Q_B, ATTN_K_W, ATTN_K_B, ATTN_V_W, ATTN_V_B, ATTN_O_W, ATTN_O_B, ATTN_NORM_Q, ATTN_NORM_K };
/* From cross-attention's first on, where the image tokens' five lie. */
enum { ATTN_IMAGE = IMAGE_K_W - ATTN2_Q_W };
/* clang-format on */

#endif
