# file: core/model/dit.c
# what tensor ranks share of a replicated parameter is averaged, not summed
s|TRY(group_all_reduce(dit->groups.tensor, params_view(p, grads)));|{ & TRY(op_axpby(dit->dev, params_view(p, grads), 0.0f, params_view(p, grads), 1.0f / (float)dit->groups.tensor->size)); }|
