# file: train/step.c
# noise depends on the rank
s|flow_noise(dev, &step->flow,|flow_noise(dev, \&(FlowOptions){ .seed = step->flow.seed + (uint64_t)step->groups->mesh.rank },|
