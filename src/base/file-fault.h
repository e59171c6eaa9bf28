/* What file.c and tree.c share: the fault hook and one form of error. Not for other folders. */
#pragma once

#include "base/error.h"

/* The hook's answer for a system call about to be made, 0 without a hook. */
int file_fault(const char *call, const char *path);
/* "path: cannot call: reason". Returns `code`. */
int file_failed(struct error *error, int code, const char *call, const char *path);
