/* What the tests of src/base share: cmocka, and a folder of their own. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after the four above */
#include <cmocka.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* *state is the path of a new empty folder. */
static inline int make_folder(void **state)
{
    char *path = xstrdup("/tmp/maeslant-test-XXXXXX");

    *state = mkdtemp(path);
    return *state ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    struct error error = ERROR_INIT;
    int r;

    file_set_fault(NULL);
    r = tree_remove(AT_FDCWD, *state, &error);
    free(*state);
    return r;
}

#define in_folder(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

static inline void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text, part);
}
