/* The command line's words and options, strict: what a command does not know is an error. */
#pragma once

#include "base/error.h"

#include <stddef.h>

#define OPTIONS_MAX_WORDS 3

struct options {
    const char *content, *watch, *run, *slot, *corpus, *output, *last; /* NULL: not given */
    unsigned engine;                                                   /* 1 unless given */
    unsigned fields;                                                   /* 0: not given */
    const char *words[OPTIONS_MAX_WORDS];
    size_t word_count;
};

/* `known` lists the options that the command takes, separated by spaces ("--run --watch"); each has
 * a value. */
int options_parse(int argc, char **argv, const char *known, struct options *ret,
                  struct error *error);
