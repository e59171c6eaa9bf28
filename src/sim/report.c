#include "sim/report.h"

#include "base/parse.h"
#include "sim/chart.h"
#include "sim/html.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char style[] =
    ":root{color-scheme:light dark;--ground:#f3f5f7;--surface:#fff;--ink:#15191e;--quiet:#545d68;"
    "--line:#d5dbe1;--release:#0b5394;--bad:#b3211b;--good:#196c34;--gold:#7a4a00;--plum:#6b3fa0;"
    "--teal:#00696b;font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
    "@media(prefers-color-scheme:dark){:root{--ground:#0f1317;--surface:#181d23;--ink:#e8ecf0;"
    "--quiet:#a3adb8;--line:#2e3640;--release:#7cb8f2;--bad:#ff8a80;--good:#6fce8a;--gold:#e5b567;"
    "--plum:#c4a5f0;--teal:#66cfcf}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);"
    "font-variant-numeric:tabular-nums}main{max-width:70rem;margin:0 auto;padding:1.5rem 1rem 4rem}"
    "h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.5rem 0 "
    ".5rem}h3{font-size:1rem;margin:0}p{margin:.25rem "
    "0;max-width:44rem}.quiet,.range{color:var(--quiet)}.range{white-space:nowrap}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;"
    "margin:1.25rem 0}.card{background:var(--surface);border:1px solid var(--line);border-radius:"
    "8px;padding:.75rem 1rem}.card b{display:block;font-size:1.45rem;line-height:1.3}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;background:var(--surface);"
    "border:1px solid var(--line);border-radius:8px}th,td{text-align:right;padding:.45rem .7rem;"
    "border-bottom:1px solid var(--line);vertical-align:top}th:first-child,td:first-child,"
    "th:last-child,td:last-child{text-align:left}td:first-child{min-width:11rem}"
    "td:last-child{min-width:15rem}thead "
    "th{font-weight:"
    "600;color:var(--quiet);white-space:nowrap}tr:last-child td{border-bottom:0}figure{margin:1rem "
    "0;background:var(--surface);border:1px solid var(--line);border-radius:8px;padding:1rem}"
    ".chart{width:100%;height:auto;display:block;margin-top:.5rem}.rule{stroke:var(--line);"
    "stroke-width:1}.tick{fill:var(--quiet);font-size:12px}.mark{stroke:var(--bad);"
    "stroke-dasharray:6 4}.marked{fill:var(--bad);font-size:12px}.line{fill:none;stroke-width:2;"
    "stroke:var(--ink)}.dashed{stroke-dasharray:5 4}.blue{stroke:var(--release)}"
    ".red{stroke:var(--bad)}.green{stroke:var(--good)}.gold{stroke:var(--gold)}"
    ".plum{stroke:var(--plum)}.teal{stroke:var(--teal)}.legend{list-style:none;margin:.5rem 0 0;"
    "padding:0;display:flex;flex-wrap:wrap;gap:.25rem 1.25rem}.key{width:24px;height:8px;"
    "margin-right:.4rem}.last{color:var(--quiet)}.bar{height:.7rem;border-radius:3px;"
    "background:var(--bad);min-width:2px}.bars td:nth-child(2){width:50%}"
    "@media print{body{background:#fff}figure,table{break-inside:avoid}}";

static const char *const titles[STRATEGY_COUNT] = {
    [STRATEGY_MAESLANT] = "Maeslant",
    [STRATEGY_ALL_AT_ONCE] = "All at once",
    [STRATEGY_PERCENT_STAGES] = "Percent stages (as hawkBit)",
    [STRATEGY_CANARY_THRESHOLD] = "Canary with a threshold (as Flagger, Argo Rollouts)",
    [STRATEGY_RATE_ABORT] = "Rate with abort criteria (as AWS IoT Jobs)",
    [STRATEGY_FIXED_TEST] = "One statistical test (as Kayenta)",
};
static const char *const classes[STRATEGY_COUNT] = {"blue", "red", "gold", "plum", "teal", "green"};

void html_add(struct buf *page, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            buf_add_str(page, "&amp;");
        else if (*text == '<')
            buf_add_str(page, "&lt;");
        else if (*text == '>')
            buf_add_str(page, "&gt;");
        else if (*text == '"')
            buf_add_str(page, "&quot;");
        else
            buf_add(page, text, 1);
    }
}

static void add_whole(struct buf *page, uint64_t value)
{
    char digits[32];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    for (int i = 0; i < len; i++) {
        buf_add(page, &digits[i], 1);
        if (i + 1 < len && (len - 1 - i) % 3 == 0)
            buf_add_str(page, "\xe2\x80\xaf"); /* a narrow space that does not break */
    }
}

static void add_moment(struct buf *page, double t)
{
    char text[32];
    if (isnan(t)) {
        buf_add_str(page, "–");
        return;
    }
    format_duration(t < 60 ? t : floor(t), text, sizeof text);
    buf_add_str(page, text);
}

static void add_card(struct buf *page, const char *label, uint64_t value)
{
    buf_add_str(page, "<div class=card><b>");
    add_whole(page, value);
    buf_addf(page, "</b>%s</div>", label);
}

static void add_summary(struct buf *page, const struct scenario *scenario,
                        const struct sim_result *result)
{
    char soak[32];
    buf_add_str(page, "<p>");
    html_add(page, "Maeslant ");
    html_add(page, result->why);
    buf_add_str(page, ".</p><div class=cards>");
    add_card(page, "devices in the fleet", scenario->devices);
    add_card(page, "got the release", result->exposed);
    add_card(page, "were broken by it", result->harmed);
    add_card(page, "need a visit by hand", result->repairs);
    add_card(page, "are proven to be harmed, by coin tosses", result->proven_harm);
    add_card(page, "tried the old release once more, as placebos", result->placebos);
    buf_add_str(page, "</div>");
    format_duration(scenario->policy.soak, soak, sizeof soak);
    buf_addf(page,
             "<p class=quiet>The policy: at most %g devices of harm in flight, a good release "
             "stopped in error at most once in %.0f rollouts, each device watched for %s. Failures "
             "that have nothing to do with the release: %.3g %% of all trials. Figures are of one "
             "simulation with made-up devices, never of what happened.</p>",
             scenario->policy.harm_budget, 1 / scenario->policy.alpha, soak,
             100 * (scenario->noise_failed + scenario->noise_silent));
}

static void add_table(struct buf *page, const struct runs *runs)
{
    buf_add_str(page, "<div class=scroll><table><thead><tr><th>Strategy<th>Got the "
                      "release<th>Broken<th>Halted after<th>Everybody after<th>What happened"
                      "</thead><tbody>");
    for (unsigned i = 0; i < STRATEGY_COUNT; i++) {
        const struct sim_result *result = &runs->strategies[i].first;
        if (!runs->strategies[i].ran)
            continue;
        buf_add_str(page, "<tr><td>");
        html_add(page, titles[i]);
        buf_add_str(page, "<td>");
        add_whole(page, result->exposed);
        buf_add_str(page, "<td>");
        add_whole(page, result->harmed);
        buf_add_str(page, "<td>");
        add_moment(page, result->halted_at);
        buf_add_str(page, "<td>");
        add_moment(page, result->completed_at);
        buf_add_str(page, "<td>");
        html_add(page, result->why);
        if (result->false_halt)
            buf_add_str(page, " – in error: the release harms nobody");
    }
    buf_add_str(page, "</tbody></table></div>");
}

/* Means over the seeds, with their intervals. */
static void add_runs(struct buf *page, const struct runs *runs)
{
    buf_addf(page,
             "<h2>Over %u simulations</h2><p>Each with other chances, all strategies with the same "
             "ones. Mean, and in brackets where the mean lies with 95 %% confidence.</p><div "
             "class=scroll><table><thead><tr><th>Strategy<th>Got the "
             "release<th>Broken<th>Halted<th>Halted in error<th>Soaks until the end"
             "</thead><tbody>",
             runs->count);
    static const enum runs_figure shown[] = {FIGURE_EXPOSED, FIGURE_HARMED, FIGURE_HALTED,
                                             FIGURE_FALSE_HALT, FIGURE_SOAKS};
    for (unsigned i = 0; i < STRATEGY_COUNT; i++) {
        if (!runs->strategies[i].ran)
            continue;
        buf_add_str(page, "<tr><td>");
        html_add(page, titles[i]);
        for (size_t j = 0; j < ARRAY_SIZE(shown); j++) {
            const struct runs_interval *figure = &runs->strategies[i].summary.figures[shown[j]];
            bool share = shown[j] == FIGURE_HALTED || shown[j] == FIGURE_FALSE_HALT;
            double times = share ? 100 : 1;
            char mean[32], low[32], high[32];
            number_text(times * figure->mean, mean, sizeof mean);
            number_text(times * figure->low, low, sizeof low);
            number_text(times * figure->high, high, sizeof high);
            if (figure->count == 0)
                buf_add_str(page, "<td>–");
            else
                buf_addf(page, "<td>%s%s <span class=range>(%s to %s)</span>", mean,
                         share ? " %" : "", low, high);
        }
    }
    buf_add_str(page, "</tbody></table></div>");
}

struct columns {
    double t[SIM_SAMPLES], y[8][SIM_SAMPLES];
    size_t count;
};

static void fill(const struct sim_trace *trace, struct columns *ret)
{
    ret->count = trace->count;
    for (size_t i = 0; i < trace->count; i++) {
        const struct sim_sample *sample = &trace->samples[i];
        const double values[8] = {sample->exposed,         sample->settled,
                                  sample->harmed,          sample->proven_harm,
                                  sample->in_flight,       sample->window,
                                  sample->log_e / log(10), sample->log_split / log(10)};
        ret->t[i] = sample->t;
        for (size_t j = 0; j < 8; j++)
            ret->y[j][i] = values[j];
    }
}

static void add_own_charts(struct buf *page, const struct scenario *scenario,
                           const struct sim_trace *trace)
{
    struct columns *columns = xmalloc(sizeof *columns);
    fill(trace, columns);
#define LINE(name, colour, column, dash)                                                           \
    {                                                                                              \
        .label = (name), .class = (colour), .x = columns->t, .y = columns->y[column],              \
        .count = columns->count, .dashed = (dash)                                                  \
    }
    const struct chart_line spread[] = {LINE("devices that got the release", "blue", 0, false),
                                        LINE("of these done with their soak", "teal", 1, true)};
    const struct chart_line harm[] = {LINE("devices that the release broke", "red", 2, false),
                                      LINE("proven by coin tosses", "plum", 3, true)};
    const struct chart_line window[] = {LINE("devices trying the release", "blue", 4, false),
                                        LINE("as many as the harm budget allows", "gold", 5, true)};
    const struct chart_line evidence[] = {
        LINE("failures against what is tolerated", "gold", 6, false),
        LINE("release against placebo", "plum", 7, false)};
#undef LINE
    double needed = log10(2 / scenario->policy.alpha);
    const struct chart charts[] = {
        {.title = "How the release spread",
         .caption = "On a scale where each line is ten times the one below. It goes on only as "
                    "fast as devices come out of their soak in good health.",
         .lines = spread,
         .line_count = 2,
         .logarithmic = true,
         .mark = NAN},
        {.title = "Harm, and how much of it is proven",
         .caption = "What is proven can never be more than what happened; past the budget the "
                    "release is halted.",
         .lines = harm,
         .line_count = 2,
         .mark = floor(scenario->policy.harm_budget),
         .mark_label = "harm budget"},
        {.title = "The window",
         .caption = "So many devices may try the release at one moment that, at the worst "
                    "rate which the evidence still allows, no more than the budget are harmed.",
         .lines = window,
         .line_count = 2,
         .logarithmic = true,
         .mark = NAN},
        {.title = "Evidence against the release",
         .caption = "In powers of ten: at 4 it would be a chance of one in ten thousand to see "
                    "this of a harmless "
                    "release, however often one looks.",
         .lines = evidence,
         .line_count = 2,
         .mark = needed,
         .mark_label = "halt"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(charts); i++)
        chart_add(page, &charts[i]);
    free(columns);
}

static void add_comparison(struct buf *page, const struct runs *runs)
{
    struct columns *columns = xcalloc(STRATEGY_COUNT, sizeof *columns);
    struct chart_line exposed[STRATEGY_COUNT], harmed[STRATEGY_COUNT];
    size_t count = 0;
    for (unsigned i = 0; i < STRATEGY_COUNT; i++) {
        if (!runs->strategies[i].ran)
            continue;
        fill(runs->strategies[i].trace, &columns[i]);
        exposed[count] = (struct chart_line){.label = titles[i],
                                             .class = classes[i],
                                             .x = columns[i].t,
                                             .y = columns[i].y[0],
                                             .count = columns[i].count};
        harmed[count] = exposed[count];
        harmed[count++].y = columns[i].y[2];
    }
    const struct chart charts[] = {
        {.title = "Devices broken",
         .caption = "Every strategy on the same fleet with the same chances. Both scales grow by "
                    "powers, or the smaller harms could not be seen.",
         .lines = harmed,
         .line_count = count,
         .logarithmic = true,
         .long_times = true,
         .mark = NAN},
        {.title = "Devices that got the release",
         .caption = "Speed and safety side by side: a line that ends high got everywhere, for "
                    "good or ill.",
         .lines = exposed,
         .line_count = count,
         .logarithmic = true,
         .long_times = true,
         .mark = NAN},
    };
    buf_add_str(page, "<h2>The strategies side by side</h2>");
    for (size_t i = 0; i < ARRAY_SIZE(charts); i++)
        chart_add(page, &charts[i]);
    free(columns);
}

static void add_headline(struct buf *page, const struct scenario *scenario,
                         const struct sim_result *result)
{
    add_whole(page, result->harmed);
    buf_add_str(page, " of ");
    add_whole(page, scenario->devices);
    buf_addf(page, " devices harmed%s", result->halted ? ", then it was halted" : "");
}

void report_page(const char *name, const struct scenario *scenario, const struct runs *runs,
                 struct buf *ret)
{
    const struct runs_strategy *own = &runs->strategies[STRATEGY_MAESLANT];
    bool others = false;
    for (unsigned i = STRATEGY_ALL_AT_ONCE; i < STRATEGY_COUNT; i++)
        others = others || runs->strategies[i].ran;

    const char *slash = strrchr(name, '/');
    name = slash ? slash + 1 : name;
    buf_add_str(ret, "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
                     "content=\"width=device-width,initial-scale=1\"><title>");
    html_add(ret, name);
    buf_addf(ret, " – simulated rollout</title><style>%s</style><main><h1>", style);
    if (own->first.harmed == 0 && !own->first.halted)
        buf_add_str(ret, "Nobody was harmed, and the release arrived");
    else if (own->first.false_halt)
        buf_add_str(ret, "A good release was stopped in error");
    else
        add_headline(ret, scenario, &own->first);
    buf_add_str(ret, "</h1><p class=quiet>");
    html_add(ret, name);
    buf_addf(ret, ", seed %llu</p>", (unsigned long long)runs->seed);
    add_summary(ret, scenario, &own->first);
    if (others)
        add_table(ret, runs);
    if (runs->count > 1)
        add_runs(ret, runs);
    if (others)
        add_comparison(ret, runs);
    buf_add_str(ret, "<h2>Maeslant, step by step</h2>");
    add_own_charts(ret, scenario, own->trace);
    buf_add_str(ret, "</main></html>\n");
}
