# file: train/optimizer.c
# what every tensor rank holds counts on each in the gradient norm
s|(p->cut < 0 && o->mesh->tp != 0)|false|
