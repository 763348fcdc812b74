#include "infer/engine.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/stop.h"
#include "core/formats/model_base.h"
#include "core/formats/signature.h"

#include "infer/adapters.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Damage and what cannot be read pass a checkpoint over; a lost rank or no memory does not. */
static bool passes_over(Status status)
{
    return status == ERR_FORMAT || status == ERR_IO;
}

/* Rank 0's choice of the index-th candidate, told to all. */
static Status share_candidate(Engine *e, const char *path, int64_t index, int64_t *count)
{
    Group *world = comm_world(e->comm);
    const bool looks = comm_rank(e->comm) == 0;

    TRY(comm_agree(e->comm, looks ? model_dir_candidate(path, index, count, e->path) : OK));
    TRY(group_broadcast(world, tensor_of(count, U8, SHAPE((int64_t)sizeof(*count))), 0));
    return group_broadcast(world, tensor_of(e->path, U8, SHAPE(FILE_PATH_BYTES)), 0);
}

/* The newest that one of the keys has signed. Nothing of a model is parsed here but model.sig. */
static Status find_signed(Engine *e, const char *path, const TrustedKeys *keys)
{
    const int rank = comm_rank(e->comm), size = comm_size(e->comm);
    char why[1024] = "";
    int64_t count = 1;

    for (int64_t i = 0; i < count; i++) {
        TRY(share_candidate(e, path, i, &count));
        if (i >= count) break; /* the run has removed one since */
        const Status s = comm_agree(e->comm, signature_verify_share(e->path, keys, rank, size));
        if (s == OK) log_info("%s: signed by a trusted key, every file is as it was", e->path);
        if (s == OK || !passes_over(s) || count == 1) return s;
        if (i == 0) snprintf(why, sizeof(why), "%s", status_message());
        log_warn("checkpoint %s passed over: %s", file_name(e->path), status_message());
    }
    return status_fail(ERR_FORMAT,
                       "%s: none of its %lld checkpoints is signed by a trusted key: %s", path,
                       (long long)count, why);
}

/* Rank 0 looks (it may read whole checkpoints to verify them); the others are told. */
static Status find_whole(Engine *e, const char *path)
{
    const bool looks = comm_rank(e->comm) == 0;

    TRY(comm_agree(e->comm, looks ? model_dir_resolve(path, e->path) : OK));
    return group_broadcast(comm_world(e->comm), tensor_of(e->path, U8, SHAPE(FILE_PATH_BYTES)), 0);
}

static Status find_model(Engine *e, const EngineOptions *o)
{
    TRY(o->trusted ? find_signed(e, o->model, o->trusted) : find_whole(e, o->model));
    return comm_agree(e->comm, model_dir_read(e->path, &e->model));
}

/* Not collective. */
static Status open_device(Engine *e, const EngineOptions *o)
{
    const int ranks = comm_local_size(e->comm);

    TRY(device_open(&e->device, o->device, NULL, o->threads, o->exact));
    if (o->threads > 0 || ranks <= 1) return OK;
    /* the ranks of a host may run anywhere on it: without a share each would take every core */
    return device_open(&e->device, o->device, NULL,
                       e->device.threads / ranks > 0 ? e->device.threads / ranks : 1, o->exact);
}

Status engine_check_halves(MeshShape shape, int halves)
{
    const long long ranks = mesh_ranks(shape);
    CHECK(shape.data % halves == 0, ERR_CONFIG,
          "--guidance-ranks %d shares each prompt among %d replicas of the model: there %s %d, on "
          "%lld rank%s; start a multiple of %lld ranks",
          halves, halves, shape.data == 1 ? "is" : "are", shape.data, ranks, ranks == 1 ? "" : "s",
          halves * ranks / shape.data);
    return OK;
}

/* replicas without a prompt sit idle: no limit from the batch */
MeshLimits engine_mesh_limits(const ModelDir *model, bool exact)
{
    const DitConfig *c = &model->config.dit;
    return (MeshLimits){ .heads = c->num_attention_heads,
                         .ffn_dim = c->ffn_dim,
                         .layers = c->num_layers,
                         .chunks = exact ? EXACT_CHUNKS : 0,
                         .batch = INT_MAX };
}

static Status make_mesh(Engine *e, MeshShape wanted, bool exact, int halves)
{
    const MeshLimits limits = engine_mesh_limits(&e->model, exact);
    MeshShape shape = { 0 };

    TRY(comm_agree(e->comm, mesh_resolve(wanted, comm_size(e->comm), &limits, &shape)));
    TRY(comm_agree(e->comm, engine_check_halves(shape, halves)));
    TRY(comm_mesh(e->comm, shape, &e->mesh));
    return comm_guidance(e->comm, &e->mesh.mesh, halves, &e->halves);
}

static Status choose_weights(Engine *e, const char *weights)
{
    char folder[64];
    snprintf(folder, sizeof(folder), "%s_ema",
             e->model.low_rank ? "lora" : model_base_folder(&e->model, COMPONENT_TRANSFORMER));
    const bool has =
        e->model.low_rank ? model_dir_has_lora(e->path, folder) : model_dir_has(e->path, folder);

    CHECK(has || !weights || strcmp(weights, "ema") != 0, ERR_USAGE,
          "%s: has no averaged weights (%s); use --weights raw", e->path, folder);
    e->ema = has && (!weights || strcmp(weights, "ema") == 0);
    return OK;
}

static Status check_parts(const Engine *e, const EngineOptions *o)
{
    const ModelConfig *c = &e->model.config;
    const int64_t width = dit_width(&c->dit);

    CHECK(!o->loras[1] || o->loras[1]->count == 0 || e->model.boundary > 0, ERR_USAGE,
          "--lora-low %s: %s has one transformer; use --lora", o->loras[1]->items[0], e->path);
    CHECK(e->model.text != TEXT_NONE, ERR_FORMAT,
          "%s: has no text encoder, so prompts cannot be encoded", e->path);
    CHECK(!o->exact || (width % EXACT_CHUNKS == 0 && c->dit.ffn_dim % EXACT_CHUNKS == 0),
          ERR_CONFIG,
          "%s: exact numerics want a width (%lld) and an ffn_dim (%lld) that %d divides", e->path,
          (long long)width, (long long)c->dit.ffn_dim, EXACT_CHUNKS);
    CHECK(e->codec.channels == c->dit.out_channels, ERR_FORMAT,
          "%s: codec has %lld channels, transformer out_channels is %lld", e->path,
          (long long)e->codec.channels, (long long)c->dit.out_channels);
    return OK;
}

/* The folder of an expert, or of the text encoder that was trained with it; averaged where this
 * model directory has averages of what it trained. */
static void folder_of(const Engine *e, Component component, int expert, char out[64])
{
    const bool averaged = e->ema && expert == e->model.trained && !e->model.low_rank;
    snprintf(out, 64, "%s%s%s", component_folder(component), expert > 0 ? "_2" : "",
             averaged ? "_ema" : "");
}

/* What was asked for, else what the files have; exact numerics are F32's. */
static Status choose_dtype(Engine *e, const EngineOptions *o)
{
    char folder[64], holder[FILE_PATH_BYTES];

    CHECK(!o->exact || !o->dtype || strcmp(o->dtype, "f32") == 0, ERR_USAGE,
          "--dtype %s: exact numerics work in f32", o->dtype);
    e->dtype = o->dtype && strcmp(o->dtype, "bf16") == 0 ? BF16 : F32;
    if (o->dtype || o->exact) return OK;
    folder_of(e, COMPONENT_TRANSFORMER, 0, folder);
    TRY(model_base_holder(&e->model, e->path, folder, holder));
    return model_dir_dtype(holder, folder, &e->dtype);
}

static Status load_component(Engine *e, const EngineOptions *o, Component component, int expert)
{
    char folder[64], holder[FILE_PATH_BYTES];

    folder_of(e, component, expert, folder);
    TRY(model_base_holder(&e->model, e->path, folder, holder));
    return model_dir_load_views(holder, folder, &e->dit.params, &e->mesh.mesh,
                                e->weights[expert].views, o->allow_nan);
}

/* A checkpoint of low-rank changes: the model that they change was loaded from its base. */
static Status merge_trained(Engine *e, int expert)
{
    char folder[FILE_PATH_BYTES];

    TRY(file_join(folder, e->path, e->ema ? "lora_ema" : "lora"));
    return adapter_merge(&e->device, folder, 1.0, &e->dit.params, &e->mesh.mesh,
                         &e->weights[expert]);
}

static Status load_expert(Engine *e, const EngineOptions *o, int expert)
{
    TRY(load_component(e, o, COMPONENT_TRANSFORMER, expert));
    if (e->model.text == TEXT_BYTES) TRY(load_component(e, o, COMPONENT_TEXT_ENCODER, expert));
    if (e->model.low_rank && expert == e->model.trained) TRY(merge_trained(e, expert));
    if (!o->loras[expert]) return OK;
    return adapters_merge(&e->device, o->loras[expert], &e->dit.params, &e->mesh.mesh,
                          &e->weights[expert]);
}

/* Not collective. */
static Status use_expert(void *context, int expert)
{
    Engine *e = context;
    return dit_bind_store(&e->dit, &e->weights[expert]);
}

/* Not collective: what each rank does for itself, its device being open. */
static Status look(Engine *e, const EngineOptions *o)
{
    TRY(choose_weights(e, o->weights));
    TRY(choose_dtype(e, o));
    e->compute = e->device;
    if (e->dtype == BF16 && !o->exact) TRY(device_take_bf16(&e->compute, NULL));
    TRY(codec_load(e->path, codec_use(&e->device, WAN_DECODES), &e->codec));
    TRY(check_parts(e, o));
    for (int i = 0; i < 2; i++)
        if (o->loras[i]) TRY(adapters_check(o->loras[i]));
    return OK;
}

static int experts_of(const Engine *e)
{
    return e->model.boundary > 0 ? 2 : 1;
}

/* Room for the weights, which the model looks at from here on: those of the first expert. */
static Status reserve(Engine *e, const EngineOptions *o)
{
    TRY(dit_create(&e->compute, &e->model.config, &e->mesh, RECOMPUTE_NONE,
                   o->exact ? EXACT_CHUNKS : 0, &e->dit));
    for (int i = 0; i < experts_of(e); i++)
        TRY(weight_store_create(&e->device, &e->dit.params, e->dtype, &e->weights[i]));
    e->experts = (GenerateExperts){ e, use_expert };
    return use_expert(e, 0);
}

static Status load(Engine *e, const EngineOptions *o)
{
    TRY(reserve(e, o));
    for (int i = 0; i < experts_of(e); i++) TRY(load_expert(e, o, i));
    return OK;
}

Status engine_find(Comm *comm, const EngineOptions *options, Engine *out)
{
    const int halves = options->halves > 1 ? options->halves : 1;
    Status s = OK;

    *out = (Engine){ .comm = comm };
    TRY_TO(failed, s, find_model(out, options));
    TRY_TO(failed, s, make_mesh(out, options->shape, options->exact, halves));
    TRY_TO(failed, s, comm_agree(comm, open_device(out, options)));
    TRY_TO(failed, s, comm_agree(comm, look(out, options)));
    return OK;
failed:
    engine_close(out);
    return s;
}

Status engine_load(Engine *e, const EngineOptions *options)
{
    const double start = clock_seconds();
    char mesh[96];
    Status s = comm_agree(e->comm, stop_check("loading the model"));

    if (s == OK) s = comm_agree(e->comm, load(e, options));
    if (s != OK) {
        engine_close(e);
        return s;
    }
    const double bytes = (double)(e->weights[0].arena.size + e->weights[1].arena.size);
    log_info("model %s (%s weights, %s) %.2f M parameters, mesh %s, %s, %d threads a rank", e->path,
             e->ema ? "averaged" : "raw", dtype_name(e->dtype), (double)e->dit.params.total * 1e-6,
             mesh_describe(e->mesh.mesh.shape, mesh), e->compute.name, e->device.threads);
    log_info("loaded %.0f MiB a rank in %.1f s, %.2f GB/s", bytes * 0x1p-20,
             clock_seconds() - start, bytes * 1e-9 / (clock_seconds() - start));
    return OK;
}

Status engine_open(Comm *comm, const EngineOptions *options, Engine *out)
{
    TRY(engine_find(comm, options, out));
    return engine_load(out, options);
}

static Status describe(Engine *e, const EngineOptions *o, const Mesh *mesh, Group *storage)
{
    const MeshSeat half = mesh_guidance_seat(mesh, o->halves > 1 ? o->halves : 1);

    CHECK(strlen(o->model) < sizeof(e->path), ERR_USAGE, "%s: is a path of %zu bytes", o->model,
          strlen(o->model));
    strcpy(e->path, o->model);
    TRY(model_dir_read(e->path, &e->model));
    e->mesh = mesh_groups_described(mesh, storage);
    storage[MESH_AXES] = (Group){ .rank = half.rank, .size = half.size };
    e->halves = &storage[MESH_AXES];
    TRY(device_open(&e->device, o->device ? o->device : "auto", NULL, o->threads, o->exact));
    e->device.counting = true;
    TRY(look(e, o));
    return reserve(e, o);
}

Status engine_describe(const EngineOptions *options, const Mesh *mesh, Group *storage, Engine *out)
{
    *out = (Engine){ 0 };
    const Status s = describe(out, options, mesh, storage);
    if (s != OK) engine_close(out);
    return s;
}

void engine_close(Engine *engine)
{
    dit_destroy(&engine->dit);
    for (int i = 0; i < 2; i++) weight_store_destroy(&engine->weights[i]);
    codec_destroy(&engine->codec);
    *engine = (Engine){ 0 };
}

int64_t engine_side_step(const Engine *engine)
{
    return codec_side(&engine->codec);
}

bool engine_leads(const Engine *engine)
{
    return engine->mesh.replica->rank == 0 && engine->halves->rank == 0;
}

bool engine_decodes(const Engine *engine)
{
    return engine->halves->rank == 0 &&
           (engine->mesh.replica->rank == 0 || engine->codec.kind == CODEC_WAN);
}

int engine_seats(const Engine *engine)
{
    return engine->mesh.mesh.shape.data / engine->halves->size;
}

int engine_seat(const Engine *engine)
{
    return engine->mesh.mesh.dp / engine->halves->size;
}

Status engine_join(const Engine *engine, Tensor t)
{
    return engine->mesh.replica->rank == 0 ? group_all_reduce(engine->mesh.data, t) : OK;
}
