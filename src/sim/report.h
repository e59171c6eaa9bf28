/* A run as a page: one file, charts as inline SVG, no script, readable by people who decide. */
#pragma once

#include "base/buf.h"
#include "sim/runs.h"

void report_page(const char *name, const struct scenario *scenario, const struct runs *runs,
                 struct buf *ret);
