# file: core/model/attention.c
# the backward of the Q/K norm without its all-reduce over heads
/group_all_reduce(ctx->groups->tensor, dots)/d
