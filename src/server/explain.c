/* Why a rollout did what it did, in plain English with the numbers. Every number says what it is
 * about; what a probability bounds is said in the sentence that names it. */
#include "server/engine-internal.h"

#include "base/clock.h"
#include "base/parse.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void say(json_t *list, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(json_t *list, const char *format, ...)
{
    va_list values;
    char text[1024];

    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    json_array_append_new(list, json_string(text));
}

/* "14:03:22 UTC" */
static void clock_text(double t, char ret[static 16])
{
    char text[25];

    clock_format(llround(t * 1000), text);
    snprintf(ret, 16, "%.8s UTC", text + 11);
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* "once in 16 tries", "once in 100 000 000 tries": never larger than exp(log_odds). */
static void odds_text(double log_odds, char ret[static 64])
{
    char digits[32];
    double odds = floor(exp(log_odds) * (1 + 1e-12));
    size_t at = 0;
    int len;

    if (log_odds > log(1e15)) {
        snprintf(ret, 64, "once in 10^%d tries", (int)floor(log_odds / M_LN10));
        return;
    }
    if (odds >= 1e4) { /* two leading digits say enough */
        double unit = pow(10, floor(log10(odds)) - 1);
        odds = floor(odds / unit) * unit;
    }
    len = snprintf(digits, sizeof digits, "%.0f", fmax(1, odds));
    at = (size_t)snprintf(ret, 64, "once in ");
    for (int i = 0; i < len && at < 48; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            ret[at++] = ' ';
        ret[at++] = digits[i];
    }
    snprintf(ret + at, 64 - at, odds <= 1 ? " try" : " tries");
}

/* ln of 1 / P(a fair coin gives at least k of n). */
static double coin_log_odds(uint64_t n, uint64_t k)
{
    double log_sum = -INFINITY;

    for (uint64_t i = k; i <= n; i++) {
        double term = lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) -
                      (double)n * M_LN2;
        double high = fmax(log_sum, term), low = fmin(log_sum, term);

        log_sum = isinf(low) ? high : high + log1p(exp(low - high));
        if (term < log_sum - 40)
            break;
    }
    return fmax(0, -log_sum);
}

static void slice_text(const char *slice, char *ret, size_t size)
{
    if (!slice || !*slice || strcmp(slice, "all") == 0)
        ret[0] = '\0';
    else
        snprintf(ret, size, " (%.120s)", slice);
}

/* What the coin tosses say about these counts. */
static void say_coins(json_t *list, uint64_t k_release, uint64_t k_placebo, double log_split)
{
    uint64_t tosses = k_release + k_placebo;
    char chance[64], any_time[64];

    if (tosses == 0) {
        say(list, "No pair of devices, one with the release and one with the placebo, has seen a "
                  "failure, so the coin tosses say nothing against the release.");
        return;
    }
    odds_text(coin_log_odds(tosses, k_release), chance);
    odds_text(fmax(0, log_split), any_time);
    say(list,
        "In the pairs, where a fair coin decided who of two devices got the release, %" PRIu64
        " failure%s fell on the release and %" PRIu64
        " on the placebo. Were the release harmless, %" PRIu64
        " coin toss%s would give at least so "
        "many on its side at most %s; and after every single report since the start was looked "
        "at, evidence as strong as this turns up at most %s.",
        k_release, plural(k_release), k_placebo, tosses, tosses == 1 ? "" : "es", chance, any_time);
}

static void say_rate(json_t *list, const struct rollout_because *because)
{
    char chance[64], slice[140];

    odds_text(fmax(0, because->log_e), chance);
    slice_text(because->slice, slice, sizeof slice);
    say(list,
        "%" PRIu64 " of the %" PRIu64 " devices%s that began the release failed. The policy "
        "tolerates a rate of %.3g %%: were the true rate no higher, evidence as strong as this "
        "would turn up at any moment of the rollout at most %s.",
        because->k, because->n, slice, because->tolerated * 100, chance);
}

static void say_threshold(json_t *list, const struct server_rollout *rollout)
{
    char chance[64];

    odds_text(log(1 / rollout->policy.alpha), chance);
    say(list,
        "The policy lets a harmless release be halted at most %s (alpha %.3g); its harm budget is "
        "%.6g device%s.",
        chance, rollout->policy.alpha, rollout->policy.harm_budget,
        rollout->policy.harm_budget == 1 ? "" : "s");
}

static void say_causes(json_t *list, const struct server_rollout *rollout)
{
    for (unsigned arm = 0; arm < 2; arm++) {
        _cleanup_buf_ struct buf text = BUF_INIT;
        const struct cause *first = NULL;
        char at[16];

        for (size_t i = 0; i < rollout->cause_count; i++) {
            const struct cause *cause = &rollout->causes[i];

            if (cause->arm != (enum rollout_arm)arm)
                continue;
            if (!first)
                first = cause;
            buf_addf(&text, "%s%" PRIu64 " × %s", text.len ? "; " : "", cause->count, cause->why);
        }
        if (!first)
            continue;
        clock_text(first->first_t, at);
        if (arm == ARM_RELEASE)
            say(list,
                "The first failure came at %s from device %.12s…: %s. What failed in all: %s.", at,
                first->first_device, first->why, text.data);
        else
            say(list,
                "Devices that only ran the placebo failed too, which is nothing of the "
                "release: %s.",
                text.data);
    }
}

static void say_halt(json_t *list, const struct server_rollout *rollout,
                     const struct rollout_view *view)
{
    const struct rollout_because *because = &view->because;
    char at[16];

    clock_text(rollout->halted_at, at);
    switch (because->alarm) {
    case ALARM_PERSON:
        say(list, "Halted at %s by %s: %s.", at, because->by ? because->by : "a person",
            because->reason && *because->reason ? because->reason : "no reason was given");
        return;
    case ALARM_PROVEN_HARM:
        say(list,
            "Halted at %s because the coin tosses prove that the release harmed at least %" PRIu64
            " devices, more than the harm budget of %.6g; the proof is wrong with probability at "
            "most %.3g, whatever else went wrong in the world.",
            at, because->proven_harm, rollout->policy.harm_budget, rollout->policy.alpha / 2);
        say_coins(list, because->k_release, because->k_placebo, view->log_split);
        break;
    default:
        if (because->k_release + because->k_placebo > 0)
            say(list,
                "Halted at %s because %" PRIu64 " of the %" PRIu64
                " devices that began the release failed while the placebos did not fail in the "
                "same way (%" PRIu64 " to %" PRIu64 " in the pairs).",
                at, because->k, because->n, because->k_release, because->k_placebo);
        else
            say(list,
                "Halted at %s because %" PRIu64 " of the %" PRIu64
                " devices that began the release failed. There were no coin tosses: this rests on "
                "the tolerated rate alone.",
                at, because->k, because->n);
        say_rate(list, because);
        if (rollout->policy.placebo_pairs)
            say_coins(list, because->k_release, because->k_placebo, view->log_split);
        if (rollout->policy.placebo_pairs && view->log_split < log(10))
            say(list, "The coin tosses alone did not yet tell the release from a sick world, so "
                      "ten more devices ran the placebo, and all of them came through: the world "
                      "is well, and the release is not.");
    }
    say_threshold(list, rollout);
}

#define SLICES_SAID 5

/* Slices that e-BH names, and organisations that differ from the others. */
static void say_parts(json_t *list, const struct server_rollout *rollout)
{
    struct rollout_slice_view slices[SLICES_SAID];
    size_t count = rollout_slices(rollout->fold, slices, SLICES_SAID);
    for (size_t i = 0; i < count && slices[i].guilty; i++)
        say(list,
            "Guilty slice: %.120s, where %" PRIu64 " of %" PRIu64
            " settled releases failed and the coins fell %" PRIu64 " to %" PRIu64
            "; of the slices named so, at most one in %.3g is named wrongly.",
            slices[i].name, slices[i].k, slices[i].n, slices[i].k_release, slices[i].k_placebo,
            1 / rollout->policy.alpha);

    size_t cap = json_object_size(rollout->start.organisations) + 64;
    _cleanup_free_ struct rollout_organisation_view *organisations =
        xcalloc(cap, sizeof *organisations);
    count = rollout_organisations(rollout->fold, organisations, cap);
    for (size_t i = 0; i < count; i++) {
        const struct rollout_organisation_view *mine = &organisations[i];
        if (mine->stopped)
            say(list,
                "Organisation %.120s gets no more permits, by its own evidence: %" PRIu64
                " of its %" PRIu64 " settled releases failed.",
                mine->name, mine->k, mine->n);
        if (mine->too_healthy || mine->too_sick)
            say(list,
                "Organisation %.120s reports %s failures than all the others together, beyond "
                "chance (%" PRIu64 " of %" PRIu64 "): its devices differ, or its reports are not "
                "true.",
                mine->name, mine->too_healthy ? "fewer" : "more", mine->k, mine->n);
    }
}

static void say_after_halt(json_t *list, const struct server_rollout *rollout,
                           const struct rollout_view *view)
{
    uint64_t reverted = 0, healthy = 0;
    char took[32];

    for (uint32_t i = 0; i < rollout->device_count; i++) {
        enum rollout_device_state state = rollout_device_state(rollout->fold, i);
        reverted += state == DEVICE_REVERTED;
        healthy += state == DEVICE_HEALTHY;
    }
    if (isfinite(view->first_failure_at) && view->first_failure_at <= rollout->halted_at) {
        format_duration(rollout->halted_at - view->first_failure_at, took, sizeof took);
        say(list, "From the first failure to the halt it took %s.", took);
    }
    say(list,
        "%" PRIu64 " device%s had begun the release; %" PRIu64 " %s still in trial, %" PRIu64
        " trial%s went back because of the halt, %" PRIu64 " device%s reported to be back, %" PRIu64
        " %s to go back.",
        view->permits, plural(view->permits), view->in_flight, view->in_flight == 1 ? "is" : "are",
        rollout->obeyed, plural(rollout->obeyed), reverted, plural(reverted), healthy,
        healthy == 1 ? "confirmed device has" : "confirmed devices have");
    if (rollout->last_reverted_at > rollout->halted_at && rollout->obeyed + reverted > 0) {
        format_duration(rollout->last_reverted_at - rollout->halted_at, took, sizeof took);
        say(list, "The last device that went back said so %s after the halt.", took);
    }
}

static void say_pause(json_t *list, const struct rollout_view *view)
{
    const struct rollout_because *because = &view->because;

    if (because->alarm == ALARM_PERSON) {
        say(list, "Paused by %s: %s. No new permits are given, and nothing goes back.",
            because->by ? because->by : "a person",
            because->reason && *because->reason ? because->reason : "no reason was given");
        return;
    }
    if (because->alarm == ALARM_ORGANISATION) {
        char slice[140];
        slice_text(because->slice, slice, sizeof slice);
        say(list,
            "Paused, because one organisation's devices alone speak against the release%s: %" PRIu64
            " of %" PRIu64
            " failed there, and nobody else's did. That halts nobody else. It gets no "
            "more permits; the others wait for a person to decide (`maeslant rollout resume`, or "
            "`halt`).",
            slice, because->k, because->n);
        return;
    }
    say(list,
        "Paused, because %" PRIu64 " of the %" PRIu64 " devices that began the release failed, but "
        "the coin tosses do not yet say that the release is to blame: the world may be sick. No "
        "new permits are given until they do, until ten placebos begun since then have all come "
        "through (then it is a halt), until the placebos themselves are seen to fail, or until a "
        "person decides.",
        because->k, because->n);
    say_rate(list, because);
    say_coins(list, because->k_release, because->k_placebo, view->log_split);
}

static void say_next_stage(json_t *list, const struct server_rollout *rollout,
                           const struct rollout_view *view)
{
    const struct policy_stage *stage, *next;
    char since[32], needed[32];

    if (view->stage_index + 1 >= view->stage_count || !(view->stage_opened_at > 0))
        return;
    stage = &rollout->policy.stages[view->stage_index];
    next = &rollout->policy.stages[view->stage_index + 1];
    format_duration(fmax(0, view->t - view->stage_opened_at), since, sizeof since);
    format_duration(stage->min_time, needed, sizeof needed);
    say(list,
        "Stage %s has been open for %s; %s opens after %" PRIu64
        " settled device%s of this stage and at least %s%s.",
        stage->name, since, next->name, stage->min_settled, plural(stage->min_settled), needed,
        next->approval ? ", and when a person approves it" : "");
}

static void say_running(json_t *list, const struct server_rollout *rollout,
                        const struct rollout_view *view)
{
    char chance[64], limit[64];

    if (!(view->stage_opened_at > 0)) {
        say(list,
            "Not started yet: it waits for approvals (%" PRIu64
            " given; `maeslant rollout approve`).",
            rollout->approvals);
        return;
    }
    say(list,
        "Running in stage %s (%u of %u): %" PRIu64 " device%s began the release, %" PRIu64
        " settled, %" PRIu64 " failed, %" PRIu64 " in flight.",
        view->stage, view->stage_index + 1, view->stage_count, view->permits, plural(view->permits),
        view->settled, view->failed, view->in_flight);
    if (rollout->start.gate_off) {
        say(list, "THE GATE IS OFF: every device gets the release when it asks, and nothing but a "
                  "person halts it.");
        return;
    }
    say(list,
        "What is in flight may cost %.3g of the %.6g devices that the harm budget allows; the next "
        "permit costs %.3g, which falls with every clean soak.",
        view->window_used, view->window, view->cost);
    if (view->failed == 0 && view->k_placebo == 0) {
        say(list, "No device has failed, neither with the release nor with the placebo.");
        say_next_stage(list, rollout, view);
        return;
    }
    odds_text(fmax(0, view->log_e), chance);
    odds_text(view->log_threshold, limit);
    say(list,
        "Were the true failure rate no higher than the policy tolerates, the failures so far would "
        "turn up at any moment at most %s; at %s the gate acts.",
        chance, limit);
    if (rollout->policy.placebo_pairs)
        say_coins(list, view->k_release, view->k_placebo, view->log_split);
    else
        say(list,
            "The policy has no placebo, so all of this rests on the tolerated rate of at "
            "most %.3g %%.",
            rollout->policy.tolerance_cap * 100);
    say_next_stage(list, rollout, view);
}

static void say_done(json_t *list, const struct rollout_view *view)
{
    say(list,
        "Done: %" PRIu64 " device%s began the release, %" PRIu64 " run it, %" PRIu64
        " failed (%" PRIu64 " of them by silence); of %" PRIu64 " placebos %" PRIu64 " failed.",
        view->permits, plural(view->permits), view->healthy, view->failed, view->silent,
        view->placebo_settled, view->placebo_failed);
}

json_t *explain_rollout(struct engine *engine, struct server_rollout *rollout)
{
    json_t *list = json_array();
    struct rollout_view view;

    rollout_look(rollout->fold, &view);
    switch (view.state) {
    case ROLLOUT_HALTED:
        say_halt(list, rollout, &view);
        say_causes(list, rollout);
        say_after_halt(list, rollout, &view);
        break;
    case ROLLOUT_PAUSED:
        say_pause(list, &view);
        say_causes(list, rollout);
        break;
    case ROLLOUT_DONE:
        say_done(list, &view);
        say_causes(list, rollout);
        break;
    case ROLLOUT_RUNNING:
        say_running(list, rollout, &view);
        say_causes(list, rollout);
        break;
    }
    say_parts(list, rollout);
    if (rollout->mismatch)
        say(list,
            "Recomputing its events gave another decision than the stored one (%.300s): look "
            "at the server's log before it goes on.",
            rollout->mismatch);
    if (view.late > 0)
        say(list,
            "%" PRIu64 " report%s came after the deadline; they are kept and change no "
            "evidence.",
            view.late, plural(view.late));
    return list;
}
