# file: train/optimizer.c
# memory of rank PLANT_RANK turns the lowest bit of its first weight over after step PLANT_STEP's update
s|^#include <math.h>|&\n#include <stdlib.h>|
s|^    return update_all(o, step);|    TRY(update_all(o, step));\n    if (done + 1 == atoi(getenv("PLANT_STEP")) \&\& o->mesh->rank == atoi(getenv("PLANT_RANK")))\n        *(char *)o->weights.data ^= 1;\n    return OK;|
