/* evaluate: held-out loss by timestep, and whether captions get their own videos. */
#ifndef ZT_TOOLS_EVALUATE_H
#define ZT_TOOLS_EVALUATE_H

/* `zoetrope evaluate ...`: argv[0] is "evaluate". Returns the process' exit code. Collective. */
int evaluate_main(int argc, char **argv);

#endif
