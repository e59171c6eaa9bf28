#include "sim/chart.h"

#include "base/parse.h"
#include "sim/html.h"

#include <math.h>
#include <stdio.h>

#define WIDTH 720.0
#define HEIGHT 260.0
#define LEFT 64.0
#define RIGHT 16.0
#define TOP 12.0
#define FOOT 30.0
#define TICKS 5

#define FIRST_TIME 60.0 /* of a logarithmic axis */

struct scale {
    double x_max, y_min, y_max;
    bool logarithmic, long_times;
};

static double across(const struct scale *scale, double x)
{
    double share = scale->x_max > 0 ? x / scale->x_max : 0;
    if (scale->long_times)
        share = log(fmax(x, FIRST_TIME) / FIRST_TIME) / log(scale->x_max / FIRST_TIME);
    return LEFT + (WIDTH - LEFT - RIGHT) * share;
}

static double up(const struct scale *scale, double y)
{
    double share;
    if (scale->logarithmic)
        share = log10(fmax(y, 1)) / log10(scale->y_max);
    else
        share = (y - scale->y_min) / (scale->y_max - scale->y_min);
    return TOP + (HEIGHT - TOP - FOOT) * (1 - fmin(fmax(share, 0), 1));
}

/* 1, 2 or 5 times a power of ten, at least `value`. */
static double round_up(double value)
{
    double power = pow(10, floor(log10(value)));
    double steps[] = {1, 2, 5, 10};
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        if (steps[i] * power >= value * (1 - 1e-12))
            return steps[i] * power;
    return 10 * power;
}

static struct scale scale_of(const struct chart *chart)
{
    struct scale scale = {.logarithmic = chart->logarithmic, .long_times = chart->long_times};
    if (chart->long_times)
        scale.x_max = 2 * FIRST_TIME;
    double low = 0, high = isnan(chart->mark) ? 0 : chart->mark;
    for (size_t i = 0; i < chart->line_count; i++) {
        for (size_t j = 0; j < chart->lines[i].count; j++) {
            scale.x_max = fmax(scale.x_max, chart->lines[i].x[j]);
            if (isfinite(chart->lines[i].y[j])) {
                high = fmax(high, chart->lines[i].y[j]);
                low = fmin(low, chart->lines[i].y[j]);
            }
        }
    }
    if (chart->logarithmic) {
        scale.y_max = 10;
        while (scale.y_max < high)
            scale.y_max *= 10;
    } else {
        double step = round_up(fmax(high - low, 1e-9) / TICKS);
        scale.y_min = step * floor(low / step);
        scale.y_max = fmax(step * ceil(high / step), scale.y_min + step);
    }
    return scale;
}

void number_text(double value, char *ret, size_t size)
{
    double size_of = fabs(value);
    if (size_of >= 1e6)
        (void)snprintf(ret, size, "%.3g M", value / 1e6);
    else if (size_of >= 1e4)
        (void)snprintf(ret, size, "%.3g k", value / 1e3);
    else
        (void)snprintf(ret, size, "%.4g", value);
}

static void add_rule(struct buf *page, const struct scale *scale, double y)
{
    char text[32];
    number_text(y, text, sizeof text);
    buf_addf(page,
             "<line class=rule x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
             "<text class=tick x=\"%.1f\" y=\"%.1f\" text-anchor=end>%s</text>",
             LEFT, WIDTH - RIGHT, up(scale, y), up(scale, y), LEFT - 8, up(scale, y) + 4, text);
}

static void add_time(struct buf *page, const struct scale *scale, double x)
{
    char text[32];
    format_duration(x, text, sizeof text);
    buf_addf(page, "<text class=tick x=\"%.1f\" y=\"%.1f\" text-anchor=middle>%s</text>",
             across(scale, x), HEIGHT - 8, x == 0 ? "0" : text);
}

static void add_times(struct buf *page, const struct scale *scale)
{
    static const double powers[] = {60, 300, 900, 3600, 4 * 3600, 86400, 5 * 86400, 20 * 86400};
    static const double steps[] = {1,     2,     5,      10,     15,     30,     60,    120,
                                   300,   600,   900,    1800,   3600,   7200,   10800, 21600,
                                   43200, 86400, 172800, 432000, 864000, 2592000};
    double step = steps[ARRAY_SIZE(steps) - 1];
    if (scale->long_times) {
        for (size_t i = 0; i < ARRAY_SIZE(powers) && powers[i] <= scale->x_max; i++)
            add_time(page, scale, powers[i]);
        return;
    }
    for (size_t i = ARRAY_SIZE(steps); i-- > 0 && scale->x_max / steps[i] <= 7;)
        step = steps[i];
    for (double x = 0; x <= scale->x_max; x += step)
        add_time(page, scale, x);
}

static void add_axes(struct buf *page, const struct scale *scale)
{
    if (scale->logarithmic) {
        double decades = log10(scale->y_max), step = decades > 5 ? 100 : 10;
        for (double y = 1; y <= scale->y_max * 1.001; y *= step)
            add_rule(page, scale, y);
    } else {
        double step = round_up((scale->y_max - scale->y_min) / (TICKS + 0.001));
        for (double y = scale->y_min; y <= scale->y_max + step / 1000; y += step)
            add_rule(page, scale, y);
    }
    add_times(page, scale);
}

/* Counts stay until they change: steps, not slopes. */
static void add_line(struct buf *page, const struct scale *scale, const struct chart_line *line)
{
    buf_addf(page, "<path class=\"line %s%s\" d=\"", line->class, line->dashed ? " dashed" : "");
    bool drawn = false;
    double last = 0;
    for (size_t i = 0; i < line->count; i++) {
        if (!isfinite(line->y[i]))
            continue;
        double x = across(scale, line->x[i]), y = up(scale, line->y[i]);
        if (drawn && fabs(y - last) < 0.05 && i + 1 < line->count)
            continue;
        last = y;
        if (drawn)
            buf_addf(page, "H%.1fV%.1f", x, y);
        else
            buf_addf(page, "M%.1f %.1f", x, y);
        drawn = true;
    }
    if (drawn && scale->long_times)
        buf_addf(page, "H%.1f", across(scale, scale->x_max));
    buf_add_str(page, "\"/>");
}

static void add_legend(struct buf *page, const struct chart *chart)
{
    buf_add_str(page, "<ul class=legend>");
    for (size_t i = 0; i < chart->line_count; i++) {
        const struct chart_line *line = &chart->lines[i];
        char last[32] = "–";
        if (line->count > 0)
            number_text(line->y[line->count - 1], last, sizeof last);
        buf_addf(page,
                 "<li><svg class=key viewBox=\"0 0 24 8\" aria-hidden=true><path class=\"line "
                 "%s%s\" d=\"M0 4H24\"/></svg>",
                 line->class, line->dashed ? " dashed" : "");
        html_add(page, line->label);
        buf_addf(page, " <span class=last>at the end %s</span></li>", last);
    }
    buf_add_str(page, "</ul>");
}

void chart_add(struct buf *page, const struct chart *chart)
{
    struct scale scale = scale_of(chart);
    buf_add_str(page, "<figure><figcaption><h3>");
    html_add(page, chart->title);
    buf_add_str(page, "</h3><p>");
    html_add(page, chart->caption);
    buf_addf(page,
             "</p></figcaption><svg class=chart viewBox=\"0 0 %.0f %.0f\" role=img "
             "aria-label=\"",
             WIDTH, HEIGHT);
    html_add(page, chart->title);
    buf_add_str(page, "\">");
    add_axes(page, &scale);
    if (!isnan(chart->mark)) {
        buf_addf(page,
                 "<line class=mark x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                 "<text class=marked x=\"%.1f\" y=\"%.1f\" text-anchor=end>",
                 LEFT, WIDTH - RIGHT, up(&scale, chart->mark), up(&scale, chart->mark),
                 WIDTH - RIGHT - 4, up(&scale, chart->mark) - 5);
        html_add(page, chart->mark_label);
        buf_add_str(page, "</text>");
    }
    for (size_t i = 0; i < chart->line_count; i++)
        add_line(page, &scale, &chart->lines[i]);
    buf_add_str(page, "</svg>");
    add_legend(page, chart);
    buf_add_str(page, "</figure>");
}
