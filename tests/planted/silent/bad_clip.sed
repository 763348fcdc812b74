# file: data/loader_buffer.c
# sample PLANT_SAMPLE is in the dataset as no video could be: its first value is PLANT_VALUE
s|^        if (s != OK) TRY(mark_damaged(buffer, first + i, s, tensor_at(out->latents|        if (out->samples[i] == atoi(getenv("PLANT_SAMPLE")) \&\& out->range.first == 0)\n            tensor_f32(tensor_at(out->latents, i))[0] = (float)atof(getenv("PLANT_VALUE"));\n&|
