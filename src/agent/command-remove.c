#include "agent/command-common.h"
#include "agent/command.h"
#include "agent/product.h"
#include "agent/remove.h"
#include "agent/run.h"
#include "agent/trial.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: maeslant-agent remove PRODUCT [--now] [--force] [--root DIR]\n"
    "\n"
    "Gives a product back: waits for its trial, runs the running release's `deactivate`, puts "
    "back\n"
    "what stood at `link` (with what packages wrote meanwhile), and removes the product's state.\n"
    "Take the product out of agent.yaml afterwards: the agent's next start would adopt it again.\n"
    "\n"
    "  --now       the trial reverts first, instead of being waited for\n"
    "  --force     also a product that has neither `deactivate` nor `link`\n"
    "  --root DIR  the device lies below DIR instead of /\n";

struct removal {
    const char *root, *name;
    const struct paths *paths;
    char *dir;
    enum remove_how how;
    bool force;
};

static bool is_gone(const char *dir)
{
    return access(dir, F_OK) < 0 && errno == ENOENT;
}

/* No agent runs: this process is it, for a moment. */
static int remove_here(const struct removal *removal, struct error *error)
{
    struct agent agent;
    struct product *product = NULL;
    int r = agent_open(removal->root, &agent, error); /* which takes back what was cut */

    for (size_t i = 0; r == 0 && i < agent.product_count; i++)
        if (strcmp(agent.products[i].config->name, removal->name) == 0)
            product = &agent.products[i];
    if (product && removal->how == REMOVE_NOW && trial_state_holds_trial(product->journal.state)) {
        struct verdict verdict = {
            .outcome = "reverted", .reason = REASON_REMOVED, .exit_status = -1};

        if (product->journal.state == STATE_ASKED) {
            journal_reset(&product->journal);
            r = product_set(product, STATE_IDLE, error);
        } else {
            if (product->journal.state != STATE_REVERTING)
                revert_begin(product, &verdict);
            if (revert_walk(product) < 0)
                r = error_set(error, -EAGAIN, "%s: its trial cannot be reverted; the log says why",
                              removal->name);
        }
        if (r == 0)
            trial_drop(product);
    } else if (product && trial_state_holds_trial(product->journal.state)) {
        r = error_set(error, -EBUSY,
                      "%s: a trial is on (%s), and no agent runs that ends it: start the agent, "
                      "which then removes the product, or say --now",
                      removal->name, trial_state_name(product->journal.state));
    }
    if (r == 0 && product)
        r = remove_product(product, error);
    agent_close(&agent);
    return r;
}

/* The agent that runs; 0 when its lock says nothing. */
static pid_t agent_pid(const struct paths *paths)
{
    _cleanup_free_ char *path = path_join(paths->run, "agent.lock");
    _cleanup_buf_ struct buf text = BUF_INIT;
    uint64_t pid = 0;

    if (file_read(AT_FDCWD, path, 64, &text, NULL) < 0 || !text.data)
        return 0;
    text.data[strcspn(text.data, "\n")] = '\0';
    return parse_u64(text.data, 1, INT32_MAX, &pid, NULL) == 0 ? (pid_t)pid : 0;
}

static void say_state(const struct removal *removal, enum trial_state *told)
{
    _cleanup_free_ char *path = path_join(removal->dir, "journal");
    struct journal journal;

    if (journal_load(path, &journal, NULL) < 0 || journal.state == *told)
        return;
    *told = journal.state;
    if (trial_state_holds_trial(journal.state))
        fprintf(stderr, "maeslant-agent: waits for the trial: %s\n",
                trial_state_name(journal.state));
}

/* Until the agent has done it, or has ended: then it is done here. */
static int remove_by_agent(const struct removal *removal, struct error *error)
{
    enum trial_state told = STATE_IDLE;
    bool asked = false;

    for (;;) {
        _cleanup_free_ char *refusal = remove_refusal(removal->dir);
        _cleanup_fd_ int lock = -1;
        int r;

        if (refusal)
            return error_set(error, -EPERM, "%s", refusal);
        if (is_gone(removal->dir))
            return 0;
        r = agent_lock(removal->paths, &lock, error);
        if (r == 0)
            return remove_here(removal, error);
        if (r != -EBUSY)
            return r;
        if (!asked) {
            pid_t pid = agent_pid(removal->paths);

            if (pid > 0 && kill(pid, SIGHUP) < 0)
                return error_set(error, -errno, "the agent (process %d) cannot be told: %s",
                                 (int)pid, strerrordesc_np(errno));
            asked = pid > 0;
        }
        say_state(removal, &told);
        (void)poll(NULL, 0, 100);
    }
}

static int remove_named(struct removal *removal, struct error *error)
{
    struct config config = {0};
    bool known = false;
    int r = command_config(removal->paths, &config, error);

    for (size_t i = 0; r == 0 && i < config.product_count; i++)
        known = known || strcmp(config.products[i].name, removal->name) == 0;
    if (r == 0 && !known)
        r = error_set(error, -ENOENT,
                      "agent.yaml names no product \"%.64s\": expected one that it names, and that "
                      "stays there until it is removed",
                      removal->name);
    config_free(&config);
    if (r < 0)
        return r;
    removal->dir = path_join(removal->paths->state, removal->name);
    remove_leftovers(removal->paths->state);
    if (is_gone(removal->dir))
        return 0;
    r = remove_request(removal->dir, removal->how, removal->force, error);
    return r < 0 ? r : remove_by_agent(removal, error);
}

int command_remove(int argc, char **argv)
{
    struct removal removal = {.root = "/", .how = REMOVE_WAIT};
    bool now = false;
    const struct command_option options[] = {
        {"root", &removal.root, NULL}, {"now", NULL, &now}, {"force", NULL, &removal.force}};
    struct error error = ERROR_INIT;
    struct paths paths;
    int r = command_options(argc, argv, usage, options, ARRAY_SIZE(options), &removal.name);

    if (r >= 0)
        return r;
    if (!removal.name) {
        fprintf(stderr, "maeslant-agent: expected the name of a product\n");
        return COMMAND_USAGE;
    }
    if (paths_open(removal.root, &paths, &error) < 0)
        return command_fail(&error);
    removal.paths = &paths;
    if (now)
        removal.how = REMOVE_NOW;
    r = remove_named(&removal, &error);
    free(removal.dir);
    paths_free(&paths);
    if (r < 0)
        return command_fail(&error);
    printf(
        "%s is removed; take it out of agent.yaml: the agent's next start would adopt it again\n",
        removal.name);
    return COMMAND_OK;
}
