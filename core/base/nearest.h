/* nearest: which known name a mistyped word was meant to be. */
#ifndef ZT_CORE_BASE_NEAREST_H
#define ZT_CORE_BASE_NEAREST_H

#ifdef __cplusplus
extern "C" {
#endif

/* The name nearest to `word` by inserted, removed, changed and swapped letters in a list ended by
 * NULL; NULL when none is near (more than a third of the letters differ). */
const char *nearest_name(const char *word, const char *const *names);

#ifdef __cplusplus
}
#endif
#endif
