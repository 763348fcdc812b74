/* Linked into sanitizer builds: plugins stay loaded, so that a leak report names their frames. */
int dlclose(void *handle);

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
