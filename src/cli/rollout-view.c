/* A rollout as a few lines of text: for `status` once, for `watch` again and again. */
#include "cli/rollout.h"

#include "base/clock.h"
#include "base/parse.h"

#include <math.h>
#include <string.h>

#define BAR 30

static const char *state_colour(const char *state)
{
    if (strcmp(state, "halted") == 0)
        return colour(stdout, "red");
    if (strcmp(state, "paused") == 0)
        return colour(stdout, "yellow");
    return colour(stdout, "green");
}

static void add_bar(struct buf *text, double part, const char *name)
{
    int filled = part <= 0 ? 0 : part >= 1 ? BAR : (int)lround(part * BAR);
    buf_addf(text, "%s", colour(stdout, name));
    for (int i = 0; i < BAR; i++)
        buf_add_str(text, i < filled ? "█" : "·");
    buf_addf(text, "%s", colour(stdout, "off"));
}

static void add_figure(struct buf *text, const json_t *view, const char *label, const char *key)
{
    buf_addf(text, "  %s %.0f", label, number_of(view, key));
}

/* Evidence against its threshold, both as logarithms. */
static void add_evidence(struct buf *text, const char *label, double log_value,
                         double log_threshold, const char *by)
{
    buf_addf(text, "%-13s", label);
    add_bar(text, log_value / log_threshold, log_value >= log_threshold ? "red" : "yellow");
    buf_addf(text, "  ln e = %.2f of %.2f by %s\n", round(log_value * 100) / 100 + 0.0,
             log_threshold, by);
}

#define FEW 3

/* What is left of the fleet at the speed so far; nothing sensible before a few have settled. */
static void add_time_left(struct buf *text, const json_t *view)
{
    char span[32];
    double devices = 0, settled = number_of(view, "settled");
    const char *name;
    json_t *count;
    json_object_foreach(json_object_get(view, "devices"), name, count) devices +=
        json_number_value(count);
    double started = number_of(view, "started_at");
    double spent = ((double)clock_ms(CLOCK_REALTIME) - started) / 1000;
    if (strcmp(text_of(view, "state"), "running") != 0 || devices <= settled)
        return;
    if (settled < FEW) {
        buf_addf(text, "%-13snot known before %d devices have settled\n", "time left", FEW);
        return;
    }
    format_duration(floor(spent * (devices - settled) / settled), span, sizeof span);
    buf_addf(text, "%-13sabout %s at the speed so far (%.0f of %.0f devices)\n", "time left", span,
             settled, devices);
}

void rollout_render(const json_t *view, struct buf *ret)
{
    char when[40];
    const char *state = text_of(view, "state");
    double window = number_of(view, "window"), used = number_of(view, "window_used");
    when_text(number_of(view, "started_at"), when, sizeof when);
    buf_addf(ret, "%s%s%s  %s %s  %s%s%s  started %s\n", colour(stdout, "bold"),
             text_of(view, "rollout"), colour(stdout, "off"), text_of(view, "product"),
             text_of(view, "version"), state_colour(state), state, colour(stdout, "off"), when);
    buf_addf(ret, "%-13s%s (%.0f of %.0f)\n", "stage", text_of(view, "stage"),
             number_of(view, "stage_index") + 1, number_of(view, "stage_count"));
    buf_addf(ret, "%-13s", "window");
    add_bar(ret, window > 0 ? used / window : 0, "green");
    buf_addf(ret, "  %.2f of %.2f harm in flight; the next permit costs %.3f\n", used, window,
             number_of(view, "cost"));
    buf_addf(ret, "%-13s", "release");
    add_figure(ret, view, "exposed", "permits");
    add_figure(ret, view, "in flight", "in_flight");
    add_figure(ret, view, "settled", "settled");
    add_figure(ret, view, "healthy", "healthy");
    add_figure(ret, view, "failed", "failed");
    add_figure(ret, view, "silent", "silent");
    buf_addf(ret, "\n%-13s", "placebo");
    add_figure(ret, view, "exposed", "placebos");
    add_figure(ret, view, "in flight", "placebo_in_flight");
    add_figure(ret, view, "settled", "placebo_settled");
    add_figure(ret, view, "failed", "placebo_failed");
    buf_addf(ret, "\n%-13s  %.0f, of which open %.0f; by the coin %.0f : %.0f\n", "pairs",
             number_of(view, "pairs"), number_of(view, "pairs_open"), number_of(view, "k_release"),
             number_of(view, "k_placebo"));
    buf_addf(ret, "%-13s", "proven harm");
    add_bar(ret, window > 0 ? number_of(view, "proven_harm") / floor(window) : 0, "red");
    buf_addf(ret, "  %.0f of %.0f devices\n", number_of(view, "proven_harm"), floor(window));
    double threshold = number_of(view, "log_threshold");
    add_evidence(ret, "evidence", number_of(view, "log_split"), threshold, "the coin tosses");
    add_evidence(ret, "", number_of(view, "log_e"), threshold, "the tolerated rate");
    add_time_left(ret, view);
    const char *sentence = json_string_value(json_object_get(view, "sentence"));
    if (sentence)
        buf_addf(ret, "\n%s\n", sentence);
}
