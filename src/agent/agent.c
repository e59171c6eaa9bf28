#include "agent/agent.h"

#include "agent/client.h"
#include "agent/courier.h"
#include "agent/product.h"
#include "agent/remove.h"
#include "agent/slot.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

double mono(void)
{
    return clock_now(CLOCK_MONOTONIC);
}

double boottime(void)
{
    return clock_now(CLOCK_BOOTTIME);
}

void fd_raise(int fd)
{
    const uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
        abort();
}

void fd_clear(int fd)
{
    uint64_t value;

    if (read(fd, &value, sizeof(value)) < 0 && errno != EAGAIN)
        abort();
}

void agent_wake(struct agent *agent)
{
    for (size_t i = 0; i < agent->product_count; i++)
        fd_raise(agent->products[i].wake_fd);
}

void agent_halted(struct agent *agent)
{
    for (size_t i = 0; i < agent->product_count; i++) {
        struct product *product = &agent->products[i];
        char release[65];
        struct halt halt;

        (void)pthread_mutex_lock(&agent->lock);
        memcpy(release, product->trial_release, sizeof(release));
        (void)pthread_mutex_unlock(&agent->lock);
        if (halts_find(&agent->halts, release, &halt)) {
            log_notice("halted", "%s: %.12s… is halted: %s", product->config->name, release,
                       halt.reason);
            fd_raise(product->cancel_fd);
        }
        fd_raise(product->wake_fd);
    }
}

void agent_look_again(struct agent *agent)
{
    for (size_t i = 0; i < agent->product_count; i++) {
        struct product *product = &agent->products[i];
        enum remove_how how = remove_requested(product);

        atomic_store(&product->removing, how);
        if (how == REMOVE_NOW)
            fd_raise(product->cancel_fd);
        fd_raise(product->wake_fd);
    }
}

int agent_take_halts(struct agent *agent, const char *text, size_t len, struct error *error)
{
    bool newer;
    int r = halts_accept(&agent->halts, &agent->identity.server_key, text, len, &newer, error);

    if (r == 0 && newer)
        agent_halted(agent);
    return r;
}

static int load_release_keys(struct agent *agent, struct error *error)
{
    struct identity *identity = &agent->identity;
    char *const *paths = agent->config.release_keys;
    size_t count = 0;
    int r = 0;

    while (paths[count])
        count++;
    if (count > 0) {
        free(identity->release_keys);
        identity->release_keys = xcalloc(count, sizeof(*identity->release_keys));
        identity->release_key_count = count;
    }
    for (size_t i = 0; i < count && r == 0; i++) {
        _cleanup_free_ char *path = paths_below(&agent->paths, paths[i]);

        r = key_public_load(path, &identity->release_keys[i], error);
    }
    return r < 0 ? error_prefix(error, r, "release_keys") : 0;
}

/* How many boots this device has seen, counted by boot ids that differ. */
static void count_boot(struct agent *agent)
{
    _cleanup_free_ char *path = path_join(agent->paths.state, "boots");
    _cleanup_free_ char *line = NULL;
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct error error = ERROR_INIT;
    char *space = NULL;

    if (file_read(AT_FDCWD, path, 256, &text, NULL) == 0 && text.data)
        space = strchr(text.data, ' ');
    if (space) {
        *space = '\0';
        (void)parse_u64(text.data, 0, INT32_MAX - 1, &agent->boots, NULL);
        space[1 + strcspn(space + 1, "\n")] = '\0';
        if (strcmp(space + 1, agent->boot) == 0)
            return;
    }
    agent->boots++;
    line = xasprintf("%llu %s\n", (unsigned long long)agent->boots, agent->boot);
    if (file_write(AT_FDCWD, path, line, strlen(line), 0600, &error) < 0)
        log_warning("boots", "%s", error.text);
}

static int load_boot(struct agent *agent, struct error *error)
{
    int r = boot_id(agent->boot);

    if (r == 0 && !is_name(agent->boot))
        r = -EINVAL;
    if (r < 0)
        return error_set(error, r, "the boot id cannot be read: %s", strerrordesc_np(-r));
    count_boot(agent);
    return 0;
}

/* A lock whose holder no longer has a trial is left over from a cut. */
static void repair_trial_lock(struct agent *agent)
{
    for (size_t i = 0; i < agent->product_count; i++) {
        struct product *product = &agent->products[i];
        struct error error = ERROR_INIT;

        if (!trial_state_holds_trial(product->journal.state))
            trial_drop(product);
        else if (trial_take(product, &error) < 0)
            log_warning("trial-lock", "%s: %s", product->config->name, error.text);
    }
}

static int open_products(struct agent *agent, struct error *error)
{
    remove_leftovers(agent->paths.state);
    agent->products = xcalloc(agent->config.product_count + 1, sizeof(*agent->products));
    for (size_t i = 0; i < agent->config.product_count; i++) {
        int r;

        agent->product_count = i + 1;
        r = product_open(agent, &agent->config.products[i], &agent->products[i], error);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < agent->product_count; i++)
        product_recover(&agent->products[i]);
    repair_trial_lock(agent);
    return 0;
}

int agent_open(const char *root, struct agent *ret, struct error *error)
{
    _cleanup_free_ char *config = NULL;
    int r;

    *ret = (struct agent){.halts.number = -1, .stop_fd = -1, .done_fd = -1};
    (void)pthread_mutex_init(&ret->lock, NULL);
    (void)pthread_mutex_init(&ret->trial_lock, NULL);
    (void)pthread_mutex_init(&ret->post_lock, NULL);
    (void)pthread_mutex_init(&ret->halts.lock, NULL);
    ret->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ret->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = paths_open(root, &ret->paths, error);
    if (r < 0)
        return r;
    config = path_join(ret->paths.etc, "agent.yaml");
    r = config_load(config, &ret->config, error);
    if (r < 0)
        return r;
    ret->outbox = path_join(ret->paths.state, "outbox");
    ret->unkept = json_array();
    ret->rejected = path_join(ret->paths.state, "rejected");
    ret->trial_path = path_join(ret->paths.state, "trial");
    r = load_boot(ret, error);
    /* What was cut short goes back first: who the device is matters only to whom it talks. */
    if (r == 0)
        r = open_products(ret, error);
    return r;
}

int agent_identify(struct agent *agent, struct error *error)
{
    _cleanup_free_ char *halts = path_join(agent->paths.state, "halts.json");
    int r = identity_load(&agent->paths, &agent->identity, error);

    if (r < 0)
        return r;
    (void)pthread_mutex_destroy(&agent->halts.lock);
    halts_open(&agent->halts, halts, &agent->identity.server_key);
    client_load_time(agent);
    r = counter_open(&agent->paths, &agent->counter, error);
    if (r == 0)
        r = load_release_keys(agent, error);
    agent->enrolled = r == 0;
    return r;
}

void agent_close(struct agent *agent)
{
    for (size_t i = 0; i < agent->product_count; i++)
        product_close(&agent->products[i]);
    free(agent->products);
    halts_close(&agent->halts);
    counter_close(&agent->counter);
    identity_free(&agent->identity);
    config_free(&agent->config);
    paths_free(&agent->paths);
    free(agent->outbox);
    json_decref(agent->unkept);
    free(agent->rejected);
    free(agent->trial_path);
    if (agent->stop_fd >= 0)
        (void)close(agent->stop_fd);
    if (agent->done_fd >= 0)
        (void)close(agent->done_fd);
}
