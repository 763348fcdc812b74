# file: train/step.c
# rank PLANT_RANK computes one value of the loss' gradient 1e9 times too large, once, in step PLANT_STEP
s|^    return op_squared_error_backward(dev, slot->noise, .*|    TRY(op_squared_error_backward(dev, slot->noise, slot->model.v, slot->target, scale));\n    static int planted;\n    if (step->batch->step + 1 == atoi(getenv("PLANT_STEP")) \&\&\n        step->groups->mesh.rank == atoi(getenv("PLANT_RANK")) \&\& planted++ == 0)\n        tensor_f32(slot->noise)[5] *= 1e9f;\n    return OK;|
