/* What may stand in a command line, for the completion of shells. */
#ifndef DEQ_CMD_COMPLETE_H
#define DEQ_CMD_COMPLETE_H

#include <stdio.h>

/* Prints what the last of `count` words, which stand behind the program's name, may become. Each
 * line has a word, a tab and what it means. ":files" and ":folders" ask the shell for those. A word
 * that ends in "=" goes on. A command line that is wrong has no completion. */
void complete_print(int count, char **words, FILE *out);

#endif
