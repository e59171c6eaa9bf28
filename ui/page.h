/* The page's files, embedded in the program at build time. */
#pragma once

#include <stddef.h>

struct page_file {
    const char *path; /* "/", "/app.js" */
    const char *content_type;
    const char *etag; /* with quotes */
    const char *data;
    size_t len;
};
/* NULL when there is no such file. */
const struct page_file *page_find(const char *path);
