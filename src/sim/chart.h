/* Line charts as SVG text. Inside src/sim. */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

struct chart_line {
    const char *label;
    const char *class; /* of the page's style sheet */
    const double *x, *y;
    size_t count;
    bool dashed;
};

struct chart {
    const char *title, *caption; /* of what it shows, for those who can't see it, too */
    const char *unit;            /* of y */
    const struct chart_line *lines;
    size_t line_count;
    bool logarithmic; /* y, from 1; values below are drawn at the foot */
    bool long_times;  /* x by powers, from a minute; lines that end go on as they are */
    double mark;      /* a threshold to draw, NAN for none */
    const char *mark_label;
};

void chart_add(struct buf *page, const struct chart *chart);
