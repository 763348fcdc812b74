/* version: what was built; written by tools/write_version.sh into the build folder. */
#ifndef ZT_TOOLS_VERSION_H
#define ZT_TOOLS_VERSION_H

extern const char version_number[];    /* "0.1.0" */
extern const char version_commit[];    /* "728c549e1f2a", with "-dirty" when files were changed */
extern const char version_compiler[];  /* "gcc 12.2.0" */
extern const char version_libraries[]; /* "Open MPI 4.1.4, HDF5 1.10.8, ..." at build time */

#endif
