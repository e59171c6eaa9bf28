#include "cli/cli.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "sim/html.h"
#include "sim/report.h"
#include "sim/runs.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/resource.h>
#include <unistd.h>

#define SCENARIO_MAX 1048576
#define RUNS_MAX 1000000
#define BAR 24

static const char usage[] =
    "usage: maeslant sim SCENARIO.yaml [--seed N] [--runs N] [--json] [--report FILE.html]\n"
    "\n"
    "What would have happened: runs the rollout's own code over a simulated fleet in virtual "
    "time,\n"
    "and what others do on the same fleet. The same scenario and seed give the same result.\n"
    "\n"
    "  --seed N       1 unless given\n"
    "  --runs N       so many seeds from that one on: means and 95 % confidence intervals\n"
    "  --report FILE  a page with charts, in one file, for people\n"
    "  --json         one JSON object\n";

struct bar {
    bool terminal, drawn;
    double shown_at;
    uint64_t devices;
    unsigned run, runs;
};

static void erase(struct bar *bar)
{
    if (bar->drawn)
        fputs("\r\033[K", stderr);
    bar->drawn = false;
}

static void show(void *user, const char *strategy, double t, uint64_t exposed, uint64_t settled)
{
    struct bar *bar = user;
    double now = clock_now(CLOCK_MONOTONIC);
    char span[32], filled[3 * BAR + 1] = "";
    if (!bar->terminal || now - bar->shown_at < 0.1)
        return;
    bar->shown_at = now;
    format_duration(floor(t), span, sizeof span);
    double share = bar->devices ? (double)settled / (double)bar->devices : 0;
    size_t len = 0;
    for (int i = 0; i < BAR; i++)
        len += (size_t)snprintf(filled + len, sizeof filled - len, "%s",
                                i < (int)(share * BAR) ? "█" : "░");
    fprintf(stderr, "\r\033[K%s %s  %s  exposed %llu  settled %llu", filled, strategy, span,
            (unsigned long long)exposed, (unsigned long long)settled);
    if (bar->runs > 1)
        fprintf(stderr, "  run %u of %u", bar->run, bar->runs);
    fflush(stderr);
    bar->drawn = true;
}

static void next_run(void *user, unsigned run)
{
    ((struct bar *)user)->run = run;
}

static json_t *number_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *one_json(const struct sim_result *result, const struct scenario *scenario)
{
    double end = isnan(result->halted_at) ? result->completed_at : result->halted_at;
    return json_pack(
        "{s:I, s:I, s:I, s:b, s:o, s:o, s:o, s:b, s:s}", "exposed", (json_int_t)result->exposed,
        "harmed", (json_int_t)result->harmed, "proven_harm", (json_int_t)result->proven_harm,
        "halted", result->halted, "halted_at", number_or_null(result->halted_at), "completed_at",
        number_or_null(result->completed_at), "soaks", number_or_null(end / scenario->policy.soak),
        "false_halt", result->false_halt, "why", result->why);
}

static json_t *interval_json(const struct runs_interval *interval)
{
    if (interval->count == 0)
        return json_null();
    return json_pack("{s:f, s:f, s:f, s:I}", "mean", interval->mean, "low", interval->low, "high",
                     interval->high, "runs", (json_int_t)interval->count);
}

static json_t *many_json(const struct runs_summary *summary)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < RUNS_FIGURES; i++)
        (void)json_object_set_new(object, runs_figure_names[i],
                                  interval_json(&summary->figures[i]));
    return object;
}

static double wall_seconds(double began)
{
    return clock_now(CLOCK_MONOTONIC) - began;
}

static int64_t max_rss(void)
{
    struct rusage used;
    return getrusage(RUSAGE_SELF, &used) == 0 ? (int64_t)used.ru_maxrss * 1024 : 0;
}

static void show_json(const struct scenario *scenario, const struct runs *runs, double began)
{
    _cleanup_json_ json_t *object = json_object();
    json_t *strategies = json_object();
    for (unsigned i = 0; i < STRATEGY_COUNT; i++) {
        const struct runs_strategy *strategy = &runs->strategies[i];
        if (strategy->ran)
            (void)json_object_set_new(strategies, strategy_names[i],
                                      runs->count > 1 ? many_json(&strategy->summary)
                                                      : one_json(&strategy->first, scenario));
    }
    (void)json_object_set_new(object, "wall_s", json_real(wall_seconds(began)));
    (void)json_object_set_new(object, "max_rss_bytes", json_integer(max_rss()));
    if (runs->count > 1)
        (void)json_object_set_new(object, "runs", json_integer(runs->count));
    (void)json_object_set_new(object, "strategies", strategies);
    print_json(object);
}

static void moment(double t, char *ret, size_t size)
{
    if (isnan(t))
        snprintf(ret, size, "–");
    else
        format_duration(t < 60 ? t : floor(t), ret, size);
}

static void print_one(const struct scenario *scenario, const struct runs *runs)
{
    struct grid grid = {.columns = 8};
    const char *const head[] = {"strategy", "exposed",   "harmed", "proven",
                                "halted",   "completed", "soaks",  "why"};
    grid_add(&grid, head);
    for (unsigned i = 0; i < STRATEGY_COUNT; i++) {
        const struct runs_strategy *strategy = &runs->strategies[i];
        const struct sim_result *result = &strategy->first;
        char exposed[32], harmed[32], proven[32], halted[32], completed[32], soaks[32];
        double end = isnan(result->halted_at) ? result->completed_at : result->halted_at;
        if (!strategy->ran)
            continue;
        snprintf(exposed, sizeof exposed, "%llu", (unsigned long long)result->exposed);
        snprintf(harmed, sizeof harmed, "%llu", (unsigned long long)result->harmed);
        snprintf(proven, sizeof proven, "%llu", (unsigned long long)result->proven_harm);
        moment(result->halted_at, halted, sizeof halted);
        moment(result->completed_at, completed, sizeof completed);
        if (isnan(end))
            snprintf(soaks, sizeof soaks, "–");
        else
            snprintf(soaks, sizeof soaks, "%.1f", end / scenario->policy.soak);
        const char *const cells[] = {
            strategy_names[i], exposed, harmed,     i == STRATEGY_MAESLANT ? proven : "–", halted,
            completed,         soaks,   result->why};
        grid_add(&grid, cells);
    }
    grid_print(&grid, stdout);
    grid_free(&grid);
    const struct sim_result *own = &runs->strategies[STRATEGY_MAESLANT].first;
    printf("\nmaeslant: %llu requests, %llu permits, %llu placebos\n",
           (unsigned long long)own->asks, (unsigned long long)own->exposed,
           (unsigned long long)own->placebos);
}

static void spread_text(const struct runs_interval *figure, char *ret, size_t size)
{
    char mean[32], low[32], high[32];
    number_text(figure->mean, mean, sizeof mean);
    number_text(figure->low, low, sizeof low);
    number_text(figure->high, high, sizeof high);
    snprintf(ret, size, "%s (%s–%s)", mean, low, high);
}

static void print_many(const struct runs *runs)
{
    struct grid grid = {.columns = 1 + RUNS_FIGURES};
    const char *cells[1 + RUNS_FIGURES] = {"strategy"};
    char texts[RUNS_FIGURES][112];
    for (unsigned i = 0; i < RUNS_FIGURES; i++)
        cells[1 + i] = runs_figure_names[i];
    grid_add(&grid, cells);
    for (unsigned i = 0; i < STRATEGY_COUNT; i++) {
        const struct runs_strategy *strategy = &runs->strategies[i];
        if (!strategy->ran)
            continue;
        cells[0] = strategy_names[i];
        for (unsigned j = 0; j < RUNS_FIGURES; j++) {
            const struct runs_interval *figure = &strategy->summary.figures[j];
            if (figure->count == 0)
                snprintf(texts[j], sizeof texts[j], "–");
            else
                spread_text(figure, texts[j], sizeof texts[j]);
            cells[1 + j] = texts[j];
        }
        grid_add(&grid, cells);
    }
    printf("%u runs: means and 95 %% confidence intervals; shares for halted, completed and "
           "false_halt\n\n",
           runs->count);
    grid_print(&grid, stdout);
    grid_free(&grid);
}

static int write_report(const char *path, const char *name, const struct scenario *scenario,
                        const struct runs *runs, struct error *error)
{
    _cleanup_buf_ struct buf page = BUF_INIT;
    report_page(name, scenario, runs, &page);
    return file_write(AT_FDCWD, path, page.data, page.len, 0644, error);
}

static int read_number(const char *text, const char *option, uint64_t min, uint64_t max,
                       uint64_t *ret, struct error *error)
{
    if (!text)
        return 0;
    return parse_u64(text, min, max, ret, error) < 0 ? error_prefix(error, -EINVAL, "%s", option)
                                                     : 0;
}

static int simulate(const char *path, uint64_t seed, unsigned count, bool json, const char *report,
                    struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct scenario scenario = {0};
    double began = clock_now(CLOCK_MONOTONIC);
    int r = file_read(AT_FDCWD, path, SCENARIO_MAX, &text, error);
    if (r < 0)
        return r;
    r = scenario_parse(text.data, text.len, &scenario, error);
    if (r < 0)
        return error_prefix(error, r, "%s", path);

    struct bar bar = {
        .terminal = isatty(STDERR_FILENO) && !json, .devices = scenario.devices, .runs = count};
    struct runs_progress progress = {.sim = {.show = show, .user = &bar}, .next = next_run};
    struct runs runs = {0};
    r = runs_do(&scenario, seed, count, &progress, &runs, error);
    erase(&bar);
    if (r == 0 && report)
        r = write_report(report, path, &scenario, &runs, error);
    if (r == 0 && json) {
        show_json(&scenario, &runs, began);
    } else if (r == 0) {
        if (count > 1)
            print_many(&runs);
        else
            print_one(&scenario, &runs);
        printf("%.1f s of work, %.0f MiB\n", wall_seconds(began), (double)max_rss() / 1048576);
        if (report)
            printf("the page: %s\n", report);
    }
    runs_free(&runs);
    scenario_free(&scenario);
    return r;
}

int command_sim(int argc, char **argv)
{
    const char *path, *seed_text = NULL, *runs_text = NULL, *report = NULL;
    bool json = false;
    uint64_t seed = 1, count = 1;
    struct error error = ERROR_INIT;
    const struct option_spec specs[] = {{"seed", 's', &seed_text},
                                        {"runs", 's', &runs_text},
                                        {"report", 's', &report},
                                        {"json", 'f', &json}};
    int r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), &path, 1, 1);
    if (r >= 0)
        return r;
    if ((r = read_number(seed_text, "--seed", 0, UINT64_MAX, &seed, &error)) == 0 &&
        (r = read_number(runs_text, "--runs", 1, RUNS_MAX, &count, &error)) == 0)
        r = simulate(path, seed, (unsigned)count, json, report, &error);
    return r < 0 ? fail(r, &error) : EXIT_OK;
}
