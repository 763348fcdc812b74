#include "tests/support/h5_hostile.h"

#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <cmocka.h>

/* ---- pieces --------------------------------------------------------------------------------- */

static void drop(hid_t file, const char *path)
{
    assert_true(H5Ldelete(file, path, H5P_DEFAULT) >= 0);
}

/* Puts an empty array of another make where the good one was. */
static void replace(hid_t file, const char *path, hid_t type, hid_t space, hid_t creation)
{
    drop(file, path);
    const hid_t array = H5Dcreate2(file, path, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(array >= 0);
    H5Dclose(array);
}

static hid_t line(hsize_t count)
{
    return H5Screate_simple(1, &count, NULL);
}

static hid_t chunked(int ndim, const hsize_t *chunk)
{
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    assert_true(H5Pset_chunk(creation, ndim, chunk) >= 0);
    return creation;
}

static void replace_attribute(hid_t file, const char *name, hid_t type, hid_t space,
                              const void *value)
{
    assert_true(H5Adelete(file, name) >= 0);
    const hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0 && H5Awrite(attribute, type, value) >= 0);
    H5Aclose(attribute);
}

static hid_t text_of_any_length(void)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    return type;
}

/* ---- cases ---------------------------------------------------------------------------------- */

static void other_version(hid_t file)
{
    const int64_t nine = 9;
    replace_attribute(file, "version", H5T_STD_I64LE, H5Screate(H5S_SCALAR), &nine);
}

static void version_as_real(hid_t file)
{
    const double one = 1;
    replace_attribute(file, "version", H5T_IEEE_F64LE, H5Screate(H5S_SCALAR), &one);
}

static void version_as_list(hid_t file)
{
    const int64_t ones[2] = { 1, 1 };
    replace_attribute(file, "version", H5T_STD_I64LE, line(2), ones);
}

static void format_of_any_length(hid_t file)
{
    const char *text = "zoetrope-dataset";
    replace_attribute(file, "format", text_of_any_length(), H5Screate(H5S_SCALAR), &text);
}

static void format_of_megabytes(hid_t file)
{
    static char text[40000]; /* the most an attribute of the old kind can hold is 64 kB */
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, sizeof(text));
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    replace_attribute(file, "format", type, H5Screate(H5S_SCALAR), text);
}

static void no_codec(hid_t file)
{
    assert_true(H5Adelete(file, "codec") >= 0);
}

static void no_clips(hid_t file)
{
    const int64_t none = 0;
    replace_attribute(file, "clips", H5T_STD_I64LE, H5Screate(H5S_SCALAR), &none);
}

static void billions_of_clips(hid_t file)
{
    const int64_t many = (int64_t)1 << 40;
    replace_attribute(file, "clips", H5T_STD_I64LE, H5Screate(H5S_SCALAR), &many);
}

static void fifty_million_clips(hid_t file)
{
    /* within the limit, but not in this file: nothing may be allocated for them */
    const int64_t many = 50 * 1000 * 1000;
    const hsize_t dims[2] = { 50 * 1000 * 1000, 32 }, chunk[2] = { 1024, 32 };
    replace_attribute(file, "clips", H5T_STD_I64LE, H5Screate(H5S_SCALAR), &many);
    replace(file, "/index/sha256", H5T_STD_U8LE, H5Screate_simple(2, dims, NULL),
            chunked(2, chunk));
}

static void missing_array(hid_t file)
{
    drop(file, "/index/frames");
}

static void soft_link(hid_t file)
{
    drop(file, "/index/frames");
    assert_true(H5Lcreate_soft("/index/row", file, "/index/frames", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void soft_group(hid_t file)
{
    assert_true(H5Lmove(file, "/captions", file, "/elsewhere", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_soft("/elsewhere", file, "/captions", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void external_link(hid_t file)
{
    drop(file, "/captions/bytes");
    assert_true(H5Lcreate_external("/etc/passwd", "/captions/bytes", file, "/captions/bytes",
                                   H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void group_for_an_array(hid_t file)
{
    drop(file, "/index/fps");
    H5Gclose(H5Gcreate2(file, "/index/fps", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}

static void external_storage(hid_t file)
{
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    assert_true(H5Pset_external(creation, "/etc/passwd", 0, 64) >= 0);
    replace(file, "/captions/bytes", H5T_STD_U8LE, line(64), creation);
}

static void virtual_array(hid_t file)
{
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), space = line(64);
    assert_true(H5Pset_virtual(creation, space, "/etc/passwd", "/captions/bytes", space) >= 0);
    replace(file, "/captions/bytes", H5T_STD_U8LE, space, creation);
}

static void contiguous_array(hid_t file)
{
    replace(file, "/captions/bytes", H5T_STD_U8LE, line(64), H5P_DEFAULT);
}

static void compact_array(hid_t file)
{
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(creation, H5D_COMPACT);
    replace(file, "/captions/bytes", H5T_STD_U8LE, line(64), creation);
}

static void other_filter(hid_t file)
{
    const hsize_t chunk = 64;
    const hid_t creation = chunked(1, &chunk);
    assert_true(H5Pset_nbit(creation) >= 0);
    replace(file, "/captions/bytes", H5T_STD_U8LE, line(64), creation);
}

static void strings_of_any_length(hid_t file)
{
    const hsize_t chunk = 64;
    replace(file, "/captions/bytes", text_of_any_length(), line(64), chunked(1, &chunk));
}

static void compound_type(hid_t file)
{
    const hsize_t chunk = 4;
    const hid_t type = H5Tcreate(H5T_COMPOUND, 8);
    H5Tinsert(type, "a", 0, H5T_STD_I32LE);
    H5Tinsert(type, "b", 4, H5T_STD_I32LE);
    replace(file, "/index/row", type, line(4), chunked(1, &chunk));
}

static void named_type(hid_t file)
{
    const hsize_t chunk = 64;
    const hid_t type = H5Tcopy(H5T_STD_U8LE);
    assert_true(H5Tcommit2(file, "/type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    replace(file, "/captions/bytes", type, line(64), chunked(1, &chunk));
}

static void other_byte_order(hid_t file)
{
    const hsize_t chunk = 4;
    replace(file, "/index/row", H5T_STD_I64BE, line(4), chunked(1, &chunk));
}

static void other_rank(hid_t file)
{
    const hsize_t dims[2] = { 4, 1 };
    replace(file, "/index/row", H5T_STD_I64LE, H5Screate_simple(2, dims, NULL), chunked(2, dims));
}

static void other_count(hid_t file)
{
    const hsize_t chunk = 5;
    replace(file, "/index/row", H5T_STD_I64LE, line(5), chunked(1, &chunk));
}

static void scalar_array(hid_t file)
{
    replace(file, "/index/row", H5T_STD_I64LE, H5Screate(H5S_SCALAR), H5P_DEFAULT);
}

static void huge_claim(hid_t file)
{
    const hsize_t chunk = 1 << 20;
    replace(file, "/captions/bytes", H5T_STD_U8LE, line((hsize_t)1 << 35), chunked(1, &chunk));
}

static void huge_chunk(hid_t file)
{
    /* chunks may not be larger than a fixed extent, so this one grows */
    const hsize_t chunk = (hsize_t)1 << 30, count = 64, most = H5S_UNLIMITED;
    replace(file, "/captions/bytes", H5T_STD_U8LE, H5Screate_simple(1, &count, &most),
            chunked(1, &chunk));
}

static void absent_chunk(hid_t file)
{
    const hsize_t chunk = 64;
    replace(file, "/captions/bytes", H5T_STD_U8LE, line(64), chunked(1, &chunk));
}

static void bomb(hid_t file)
{
    /* the most that can be stored for a chunk of 64 bytes: who knows what it inflates to */
    static char stored[65535];
    const hsize_t chunk = 64, at = 0;
    const hid_t creation = chunked(1, &chunk);
    H5Pset_deflate(creation, 1);
    replace(file, "/captions/bytes", H5T_STD_U8LE, line(64), creation);
    const hid_t array = H5Dopen2(file, "/captions/bytes", H5P_DEFAULT);
    assert_true(H5Dwrite_chunk(array, H5P_DEFAULT, 0, &at, sizeof(stored), stored) >= 0);
    H5Dclose(array);
}

static void other_latents(hid_t file)
{
    const hsize_t dims[3] = { 9, 12, 12 }, chunk[3] = { 1, 12, 12 };
    replace(file, "/buckets/3_4_4/latents", H5T_STD_U16LE, H5Screate_simple(3, dims, NULL),
            chunked(3, chunk));
}

/* Overwrites the values of an I64 array with one number. */
static void fill(hid_t file, const char *path, int64_t value)
{
    int64_t values[64];
    for (int i = 0; i < 64; i++) values[i] = value;
    const hid_t array = H5Dopen2(file, path, H5P_DEFAULT);
    assert_true(array >= 0 &&
                H5Dwrite(array, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(array);
}

static void bucket_beyond(hid_t file)
{
    fill(file, "/index/bucket", 3);
}

static void bucket_before(hid_t file)
{
    fill(file, "/index/bucket", -1);
}

static void row_beyond(hid_t file)
{
    fill(file, "/index/row", 1000);
}

static void captions_beyond(hid_t file)
{
    fill(file, "/index/caption_count", INT64_MAX);
}

static void offsets_backwards(hid_t file)
{
    int64_t values[64];
    const hid_t array = H5Dopen2(file, "/captions/offsets", H5P_DEFAULT);
    H5Dread(array, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    values[1] = INT64_MIN;
    H5Dwrite(array, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(array);
}

static void latent_size_of_zero(hid_t file)
{
    fill(file, "/buckets/shape", 0);
}

static const struct {
    HostileCase about;
    void (*apply)(hid_t file);
} cases[] = {
    { { "other_version", "dataset of version 9, this zoetrope reads 1 to 3" }, other_version },
    { { "version_as_real", "attribute version has another type" }, version_as_real },
    { { "version_as_list", "attribute version is not one value" }, version_as_list },
    { { "format_of_any_length", "not a fixed-length string" }, format_of_any_length },
    { { "format_of_megabytes", "40000 bytes, at most 255" }, format_of_megabytes },
    { { "no_codec", "attribute codec is missing" }, no_codec },
    { { "no_clips", "0 clips, not 1" }, no_clips },
    { { "billions_of_clips", "1099511627776 clips, not 1" }, billions_of_clips },
    { { "fifty_million_clips", "claims 1600000000 values in a file" }, fifty_million_clips },
    { { "missing_array", "/index/frames is missing" }, missing_array },
    { { "soft_link", "/index/frames is a soft, external" }, soft_link },
    { { "soft_group", "/captions is a soft, external" }, soft_group },
    { { "external_link", "/captions/bytes is a soft, external" }, external_link },
    { { "group_for_an_array", "/index/fps: cannot open" }, group_for_an_array },
    { { "external_storage", "not stored in chunks in this file" }, external_storage },
    { { "virtual_array", "not stored in chunks in this file" }, virtual_array },
    { { "contiguous_array", "not stored in chunks in this file" }, contiguous_array },
    { { "compact_array", "not stored in chunks in this file" }, compact_array },
    { { "other_filter", "filter other than" }, other_filter },
    { { "strings_of_any_length", "/captions/bytes has another type" }, strings_of_any_length },
    { { "compound_type", "/index/row has another type" }, compound_type },
    { { "named_type", "/captions/bytes has another type" }, named_type },
    { { "other_byte_order", "/index/row has another type" }, other_byte_order },
    { { "other_rank", "/index/row is not of 1 dimensions" }, other_rank },
    { { "other_count", "/index/row: dimension 0 is 5, expected 4" }, other_count },
    { { "scalar_array", "/index/row is not of 1 dimensions" }, scalar_array },
    { { "huge_claim", "claims 34359738368 values in a file" }, huge_claim },
    { { "huge_chunk", "chunk dimension 0 is 1073741824" }, huge_chunk },
    { { "absent_chunk", "the chunk of row 0 is missing" }, absent_chunk },
    { { "bomb", "the chunk of row 0 is longer than it can be" }, bomb },
    { { "other_latents", "latents: dimension 0 is 9, expected 2" }, other_latents },
    { { "bucket_beyond", "clip 0 is in bucket 3 of 3" }, bucket_beyond },
    { { "bucket_before", "clip 0 is in bucket -1 of 3" }, bucket_before },
    { { "row_beyond", "clip 0 is in row 1000" }, row_beyond },
    { { "captions_beyond", "clip 0 has captions 0 and 9223372036854775807 more" },
      captions_beyond },
    { { "offsets_backwards", "/captions/offsets[0] and the next are 0 and -922" },
      offsets_backwards },
    { { "latent_size_of_zero", "a latent of 0 x 0 x 0 cannot be cut" }, latent_size_of_zero },
};

int hostile_count(void)
{
    return (int)(sizeof(cases) / sizeof(cases[0]));
}

HostileCase hostile_case(int index)
{
    return cases[index].about;
}

int hostile_open_objects(void)
{
    return (int)H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL);
}

void hostile_apply(int index, const char *path)
{
    /* the cases leave types and spaces open; the file must be closed whatever they leave */
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    assert_true(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, access);
    H5Pclose(access);
    assert_true(file >= 0);
    cases[index].apply(file);
    assert_true(H5Fclose(file) >= 0);
}

/* ---- the oldest format ---------------------------------------------------------------------- */

static herr_t copy_attribute(hid_t from, const char *name, const H5A_info_t *info, void *context)
{
    (void)info;
    char value[512];
    const hid_t to = *(hid_t *)context;
    const hid_t source = H5Aopen(from, name, H5P_DEFAULT);
    const hid_t type = H5Aget_type(source), space = H5Aget_space(source);
    assert_true(H5Tget_size(type) <= sizeof(value) && H5Aread(source, type, value) >= 0);
    const hid_t copy = H5Acreate2(to, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(copy, type, value) >= 0);
    H5Aclose(copy);
    H5Aclose(source);
    return 0;
}

static void copy_array(hid_t from, hid_t to, const char *name)
{
    static char values[1 << 16];
    const hid_t source = H5Dopen2(from, name, H5P_DEFAULT);
    const hid_t type = H5Dget_type(source), space = H5Dget_space(source);
    assert_true((size_t)H5Sget_simple_extent_npoints(space) * H5Tget_size(type) <= sizeof(values));
    assert_true(H5Dread(source, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    const hid_t copy =
        H5Dcreate2(to, name, type, space, H5P_DEFAULT, H5Dget_create_plist(source), H5P_DEFAULT);
    assert_true(H5Dwrite(copy, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(copy);
    H5Dclose(source);
}

static herr_t copy_object(hid_t from, const char *name, const H5O_info_t *info, void *context)
{
    const hid_t to = *(hid_t *)context;
    if (strcmp(name, ".") == 0) return 0;
    if (info->type == H5O_TYPE_DATASET) {
        copy_array(from, to, name);
    } else {
        H5Gclose(H5Gcreate2(to, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    }
    return 0;
}

void hostile_old_format(const char *from, const char *to, bool new_superblock)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    const hid_t source = H5Fopen(from, H5F_ACC_RDONLY, access);
    const hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    /* an index of shared messages is something that only the new superblock can hold */
    if (new_superblock) assert_true(H5Pset_shared_mesg_nindexes(creation, 1) >= 0);
    const hid_t copy = H5Fcreate(to, H5F_ACC_TRUNC, creation, access);
    assert_true(source >= 0 && copy >= 0);
    hid_t target = copy;
    hsize_t at = 0;
    assert_true(H5Aiterate2(source, H5_INDEX_NAME, H5_ITER_INC, &at, copy_attribute, &target) >= 0);
    assert_true(
        H5Ovisit2(source, H5_INDEX_NAME, H5_ITER_INC, copy_object, &target, H5O_INFO_BASIC) >= 0);
    H5Fclose(source);
    assert_true(H5Fclose(copy) >= 0);
    H5Pclose(creation);
    H5Pclose(access);
}

/* ---- an array that nothing guards ----------------------------------------------------------- */

void hostile_without_checksums(const char *path, const unsigned long long *dims,
                               const unsigned long long *chunk, bool edges_only)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t size[3] = { dims[0], dims[1], dims[2] };
    const hsize_t chunk_size[3] = { chunk[0], chunk[1], chunk[2] };
    assert_true(H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_LATEST) >= 0);
    assert_true(H5Pset_chunk(creation, 3, chunk_size) >= 0);
    assert_true(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0);
    if (edges_only) {
        assert_true(H5Pset_fletcher32(creation) >= 0);
        assert_true(H5Pset_chunk_opts(creation, H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS) >= 0);
    }
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    const hid_t space = H5Screate_simple(3, size, NULL);
    const hid_t array =
        H5Dcreate2(file, "/a", H5T_STD_U16LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(file >= 0 && array >= 0);
    H5Dclose(array);
    H5Sclose(space);
    H5Pclose(creation);
    H5Pclose(access);
    H5Fclose(file);
}
