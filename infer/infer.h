/* infer: the sampling command, prompts to videos over any mesh. */
#ifndef ZT_INFER_INFER_H
#define ZT_INFER_INFER_H

/* `zoetrope infer ...`: argv[0] is "infer". Returns the process' exit code. Collective: every rank
 * of the job calls it with the same arguments. */
int infer_main(int argc, char **argv);

#endif
