/* The Python files of an exported folder, as they lie in scripts/huggingface. The Makefile makes
 * the table of them, so that the program writes them wherever it runs. */
#ifndef DEQ_STORE_HUGGINGFACE_FILES_H
#define DEQ_STORE_HUGGINGFACE_FILES_H

struct huggingface_file {
    const char *name, *text;
};

/* Ends with a name of NULL. */
extern const struct huggingface_file huggingface_files[];

#endif
