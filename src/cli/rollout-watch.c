#include "cli/rollout.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define PAUSE 0.5

static const char usage[] =
    "usage: maeslant rollout watch ROLLOUT [--once] [--json] [connection options]\n"
    "\n"
    "A live view until the rollout is halted or done: stage, window, pairs, in flight, settled,\n"
    "failed, proven harm, evidence, time left. Without a terminal, or with --json, it prints what\n"
    "changed, a line each. Exit status 0: done; 1: halted.\n"
    "\n"
    "  --once  one look\n" CONTROL_HELP;

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    interrupted = number;
}

static size_t lines_of(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += *text == '\n';
    return count;
}

/* Draws over what was drawn before. */
static void draw(const char *text, size_t *drawn)
{
    if (*drawn)
        printf("\033[%zuA\033[J", *drawn);
    fputs(text, stdout);
    fflush(stdout);
    *drawn = lines_of(text);
}

static void say(const json_t *view, bool json, char **last)
{
    char *text =
        json ? json_text(view)
             : xasprintf("%s stage %s exposed %.0f placebo %.0f in flight %.0f settled %.0f "
                         "failed %.0f coin %.0f:%.0f proven harm %.0f",
                         text_of(view, "state"), text_of(view, "stage"), number_of(view, "permits"),
                         number_of(view, "placebos"), number_of(view, "in_flight"),
                         number_of(view, "settled"), number_of(view, "failed"),
                         number_of(view, "k_release"), number_of(view, "k_placebo"),
                         number_of(view, "proven_harm"));
    if (!*last || strcmp(*last, text) != 0) {
        puts(text);
        fflush(stdout);
    }
    free(*last);
    *last = text;
}

static int watch(struct control *control, const char *name, bool once, struct error *error)
{
    _cleanup_free_ char *last = NULL;
    size_t drawn = 0;
    bool terminal = isatty(STDOUT_FILENO) && !control->json;
    while (!interrupted) {
        _cleanup_json_ json_t *view = NULL;
        int r = rollout_get(control, name, &view, error);
        if (r < 0)
            return r;
        if (terminal) {
            _cleanup_buf_ struct buf text = BUF_INIT, wrapped = BUF_INIT;
            rollout_render(view, &text);
            /* A line that the terminal breaks by itself would be two for the next drawing. */
            wrap_text(text.data, terminal_columns(), &wrapped);
            draw(wrapped.data, &drawn);
        } else {
            say(view, control->json, &last);
        }
        const char *state = text_of(view, "state");
        if (strcmp(state, "halted") == 0)
            return EXIT_REFUSED;
        if (once || strcmp(state, "done") == 0)
            return EXIT_OK;
        clock_sleep(PAUSE);
    }
    return EXIT_OK;
}

int command_rollout_watch(int argc, char **argv)
{
    struct control control = {0};
    bool once = false;
    const char *name;
    const struct option_spec specs[] = {{"once", 'f', &once}, CONTROL_OPTIONS(control)};
    struct error error = ERROR_INIT;
    int r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), &name, 1, 1);
    if (r >= 0)
        return r;
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    if ((r = control_open(&control, &error)) == 0)
        r = watch(&control, name, once, &error);
    control_close(&control);
    return r < 0 ? fail(r, &error) : r;
}
