/* Attributes of the root: one number or one fixed-length string each. */
#include "data/h5_internal.h"

#include <string.h>

/* Lock held. */
static Status write_attribute(const H5File *file, const char *name, hid_t type, hid_t memory_type,
                              const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t id = H5Acreate2(file->id, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool good = id >= 0 && H5Awrite(id, memory_type, value) >= 0;
    const Status s = good ? OK : h5_fail(ERR_IO, file, name, "cannot write the attribute");
    if (id >= 0) H5Aclose(id);
    if (space >= 0) H5Sclose(space);
    return s;
}

static Status write_number(H5File *file, const char *name, H5Type type, const void *value)
{
    h5_lock();
    const Status s = write_attribute(file, name, h5_file_type(type), h5_memory_type(type), value);
    h5_unlock();
    return s;
}

Status h5_write_i64(H5File *file, const char *name, int64_t value)
{
    return write_number(file, name, H5_TYPE_I64, &value);
}

Status h5_write_f64(H5File *file, const char *name, double value)
{
    return write_number(file, name, H5_TYPE_F64, &value);
}

/* A fixed-length string type; HDF5 wants at least one byte. */
static hid_t text_type(size_t length)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, length > 0 ? length : 1);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

Status h5_write_text(H5File *file, const char *name, const char *value)
{
    const size_t length = strlen(value);
    CHECK(length <= H5_MAX_TEXT, ERR_FORMAT, "%s: attribute %s: %zu bytes, at most %d", file->path,
          name, length, H5_MAX_TEXT);
    h5_lock();
    const hid_t type = text_type(length);
    const Status s = write_attribute(file, name, type, type, value);
    H5Tclose(type);
    h5_unlock();
    return s;
}

/* Opens a scalar attribute of the root. Lock held. */
static Status open_attribute(const H5File *file, const char *name, hid_t *out)
{
    CHECK(H5Aexists(file->id, name) > 0, ERR_FORMAT, "%s: attribute %s is missing", file->path,
          name);
    const hid_t id = H5Aopen(file->id, name, H5P_DEFAULT);
    if (id < 0) return h5_fail(ERR_FORMAT, file, name, "cannot open the attribute");
    const hid_t space = H5Aget_space(id);
    const bool scalar = space >= 0 && H5Sget_simple_extent_type(space) == H5S_SCALAR;
    if (space >= 0) H5Sclose(space);
    if (!scalar) {
        H5Aclose(id);
        return status_fail(ERR_FORMAT, "%s: attribute %s is not one value", file->path, name);
    }
    *out = id;
    return OK;
}

static Status read_number(H5File *file, const char *name, H5Type wanted, void *out)
{
    hid_t id = H5I_INVALID_HID, type = H5I_INVALID_HID;
    Status s = OK;
    h5_lock();
    TRY_TO(done, s, open_attribute(file, name, &id));
    type = H5Aget_type(id);
    CHECK_TO(done, s, type >= 0 && H5Tequal(type, h5_file_type(wanted)) > 0, ERR_FORMAT,
             "%s: attribute %s has another type than the format's", file->path, name);
    if (H5Aread(id, h5_memory_type(wanted), out) < 0) {
        s = h5_fail(ERR_FORMAT, file, name, "cannot read the attribute");
    }
done:
    if (type >= 0) H5Tclose(type);
    if (id >= 0) H5Aclose(id);
    h5_unlock();
    return s;
}

Status h5_read_i64(H5File *file, const char *name, int64_t *out)
{
    return read_number(file, name, H5_TYPE_I64, out);
}

Status h5_read_f64(H5File *file, const char *name, double *out)
{
    return read_number(file, name, H5_TYPE_F64, out);
}

/* The type is checked first: a variable-length one must never be read. */
static Status read_fixed_text(const H5File *file, const char *name, hid_t id, hid_t type, char *out)
{
    const bool fixed = type >= 0 && H5Tget_class(type) == H5T_STRING &&
                       H5Tis_variable_str(type) == 0 && H5Tget_strpad(type) == H5T_STR_NULLPAD;
    CHECK(fixed, ERR_FORMAT, "%s: attribute %s is not a fixed-length string", file->path, name);
    const size_t size = H5Tget_size(type);
    CHECK(size >= 1 && size <= H5_MAX_TEXT, ERR_FORMAT, "%s: attribute %s: %zu bytes, at most %d",
          file->path, name, size, H5_MAX_TEXT);
    memset(out, 0, H5_MAX_TEXT + 1);
    /* read as it is stored: no conversion, so exactly `size` bytes arrive */
    if (H5Aread(id, type, out) < 0) {
        return h5_fail(ERR_FORMAT, file, name, "cannot read the attribute");
    }
    return OK;
}

Status h5_read_text(H5File *file, const char *name, char *out)
{
    hid_t id = H5I_INVALID_HID, type = H5I_INVALID_HID;
    Status s = OK;
    h5_lock();
    TRY_TO(done, s, open_attribute(file, name, &id));
    type = H5Aget_type(id);
    s = read_fixed_text(file, name, id, type, out);
done:
    if (type >= 0) H5Tclose(type);
    if (id >= 0) H5Aclose(id);
    h5_unlock();
    return s;
}
