#include "agent/courier.h"

#include "agent/client.h"
#include "agent/outbox.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/random.h"
#include "trust/envelope.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PAUSE_FIRST 0.2
#define PAUSE_MOST 900.0
#define STATUS_EVERY (6 * 3600.0)
#define STATUS_SETTLE 1.0 /* several changes make one call */
#define CALL_TIMEOUT 15.0

struct courier {
    struct agent *agent;
    int wake_fd;
    atomic_bool status_due;
    atomic_bool fresh;  /* something new, or the server is known to be back: no back-off */
    atomic_bool ending; /* no product will put anything any more: `grace` holds */
    double grace;
    pthread_t thread;
};

static json_t *product_status(struct product *product)
{
    json_t *object = json_object();

    (void)json_object_set_new(object, "product", json_string(product->config->name));
    (void)json_object_set_new(object, "channel", json_string(product->config->channel));
    (void)json_object_set_new(
        object, "current", json_string(*product->shown_current ? product->shown_current : "empty"));
    if (*product->shown_previous)
        (void)json_object_set_new(object, "previous", json_string(product->shown_previous));
    (void)json_object_set_new(object, "state", json_string(trial_state_name(product->shown.state)));
    if (*product->blocked)
        (void)json_object_set_new(object, "blocked", json_string(product->blocked));
    if (product->sequence)
        (void)json_object_set_new(object, "sequence", json_integer((json_int_t)product->sequence));
    return object;
}

static json_t *status_body(struct agent *agent)
{
    json_t *body = json_object();
    json_t *products = json_array();
    json_t *attributes = client_attributes(&agent->config);

    (void)pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < agent->product_count; i++)
        (void)json_array_append_new(products, product_status(&agent->products[i]));
    (void)pthread_mutex_unlock(&agent->lock);
    (void)json_object_set_new(body, "boot", json_string(agent->boot));
    (void)json_object_set_new(body, "boots", json_integer((json_int_t)agent->boots));
    (void)json_object_set_new(body, "products", products);
    (void)json_object_set_new(body, "attributes", attributes);
    return body;
}

static int send_status(struct courier *courier, struct http_client *http, int cancel_fd)
{
    struct agent *agent = courier->agent;
    _cleanup_json_ json_t *body = status_body(agent);
    _cleanup_reply_ struct reply reply = {0};
    struct error error = ERROR_INIT;
    int r = client_post(agent, http, "status", body, CONTEXT_ANSWER, CALL_TIMEOUT, cancel_fd,
                        &reply, &error);

    if (r == 0 && reply.status == 200) {
        int64_t number = -1;

        (void)json_may_integer(reply.value, "", "halts", 0, INT64_MAX, &number, NULL);
        client_keep_time(agent);
        if (number > halts_number(&agent->halts))
            (void)client_halts(agent, http, CALL_TIMEOUT, cancel_fd, NULL);
        return 0;
    }
    if (r == 0 && reply.status < 500 && reply.status != 409) {
        log_warning("status-refused", "%s", reply.problem ? reply.problem : "no reason given");
        return 0; /* the same again would be refused again */
    }
    if (r == 0)
        r = -EAGAIN;
    if (r != -ECANCELED)
        log_debug("status", "%s", reply.problem ? reply.problem : error.text);
    return r;
}

/* Hands an answer to the product whose trial it is. */
static void hand_over(struct agent *agent, const json_t *body, const char *answer)
{
    const char *permit = "", *outcome = "";

    (void)json_may_string(body, "", "permit", 32, &permit, NULL);
    (void)json_may_string(body, "", "outcome", 15, &outcome, NULL);
    log_info("report-answered", "permit %s, %s: %s", permit, outcome, answer);
    (void)pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < agent->product_count; i++) {
        struct product *product = &agent->products[i];

        if (strcmp(product->trial_permit, permit) != 0)
            continue;
        product->answer.here = true;
        (void)snprintf(product->answer.permit, sizeof(product->answer.permit), "%s", permit);
        (void)snprintf(product->answer.outcome, sizeof(product->answer.outcome), "%s", outcome);
        (void)snprintf(product->answer.answer, sizeof(product->answer.answer), "%s", answer);
        fd_raise(product->wake_fd);
    }
    (void)pthread_mutex_unlock(&agent->lock);
}

/* The report will never be taken: unknown or foreign permit, settled otherwise, malformed. */
static bool is_final(const struct reply *reply)
{
    static const char *const retried[] = {"seq-replayed",     "clone",          "quarantined",
                                          "device-retired",   "device-unknown", "signature-invalid",
                                          "signature-missing"};

    if (reply->status < 400 || reply->status >= 500 || reply->status == 408 ||
        reply->status == 429 || reply->code[0] == '\0')
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(retried); i++)
        if (strcmp(reply->code, retried[i]) == 0)
            return false;
    return true;
}

/* The first report that waits in memory, or NULL. */
static json_t *unkept_first(struct agent *agent)
{
    json_t *body;

    (void)pthread_mutex_lock(&agent->lock);
    body = json_incref(json_array_get(agent->unkept, 0));
    (void)pthread_mutex_unlock(&agent->lock);
    return body;
}

static void unkept_drop(struct agent *agent)
{
    (void)pthread_mutex_lock(&agent->lock);
    (void)json_array_remove(agent->unkept, 0);
    (void)pthread_mutex_unlock(&agent->lock);
}

/* What the disk did not take is tried again; nothing waits in memory that could be durable. */
static void keep_unkept(struct agent *agent)
{
    for (;;) {
        _cleanup_json_ json_t *body = unkept_first(agent);
        const char *permit = "", *outcome = "";

        if (!body)
            return;
        (void)json_may_string(body, "", "permit", 32, &permit, NULL);
        (void)json_may_string(body, "", "outcome", 15, &outcome, NULL);
        if (outbox_put(agent->outbox, permit, outcome, body, NULL) < 0)
            return;
        unkept_drop(agent);
    }
}

/* Sends the oldest report. -ENOENT: none waits. */
static int deliver_one(struct courier *courier, struct http_client *http, double timeout,
                       int cancel_fd)
{
    struct agent *agent = courier->agent;
    _cleanup_free_ char *name = NULL;
    _cleanup_json_ json_t *body = NULL;
    _cleanup_json_ json_t *sent = NULL;
    _cleanup_reply_ struct reply reply = {0};
    struct error error = ERROR_INIT;
    const char *answer = "refused";
    int r;

    keep_unkept(agent);
    r = outbox_first(agent->outbox, &name, &body, &error);
    if (r == -ENOENT && (body = unkept_first(agent)))
        r = 0;
    if (r < 0)
        return r;
    sent = json_copy(body);
    r = client_post(agent, http, "report", sent, CONTEXT_ANSWER, timeout, cancel_fd, &reply,
                    &error);
    if (r == 0 && reply.status == 200)
        r = json_need_string(reply.value, "answer", "answer", 15, &answer, &error);
    else if (r == 0 && is_final(&reply))
        log_error("report-refused", "%s: %s", name ? name : "a report", reply.problem);
    else if (r == 0)
        r = error_set(&error, -EAGAIN, "%s", reply.problem ? reply.problem : "no answer");
    if (r < 0) {
        if (r != -ECANCELED)
            log_info("report-waits", "%s: %s", name ? name : "a report", error.text);
        return r == -ENOENT ? -EAGAIN : r;
    }
    hand_over(agent, body, answer);
    if (name)
        return outbox_drop(agent->outbox, name, &error);
    unkept_drop(agent);
    return 0;
}

static void wait_until(struct courier *courier, double until)
{
    struct pollfd fds[] = {{.fd = courier->wake_fd, .events = POLLIN},
                           {.fd = courier->agent->stop_fd, .events = POLLIN}};
    double left = until - mono();

    (void)poll(fds, 2, left > 3600 ? 3600000 : left > 0 ? (int)(left * 1000) + 1 : 0);
    fd_clear(courier->wake_fd);
}

static void deliver_last(struct courier *courier, struct http_client *http)
{
    double until = mono() + courier->grace;

    while (mono() < until)
        if (deliver_one(courier, http, until - mono(), -1) < 0)
            break;
}

static void *run(void *user)
{
    struct courier *courier = user;
    struct agent *agent = courier->agent;
    struct http_client *http = NULL;
    struct error error = ERROR_INIT;
    double pause = PAUSE_FIRST, next_status = mono(), next_try = 0;

    while (!agent_stopping(agent) && client_new(agent, &http, &error) < 0) {
        log_error("courier", "%s", error.text);
        wait_until(courier, mono() + 60);
    }
    while (!agent_stopping(agent)) {
        int r = 0;

        if (atomic_exchange(&courier->status_due, false) && next_status > mono() + STATUS_SETTLE)
            next_status = mono() + STATUS_SETTLE * (0.5 + random_unit());
        if (atomic_exchange(&courier->fresh, false)) {
            next_try = 0;
            pause = PAUSE_FIRST;
        }
        if (mono() >= next_try)
            r = deliver_one(courier, http, CALL_TIMEOUT, agent->stop_fd);
        if (r == 0 && mono() >= next_try) {
            pause = PAUSE_FIRST;
            continue;
        }
        if (r == -ENOENT) {
            pause = PAUSE_FIRST;
            next_try = 0;
        } else if (r < 0) {
            next_try = mono() + pause * (0.5 + random_unit());
            pause = pause * 2.5 > PAUSE_MOST ? PAUSE_MOST : pause * 2.5;
        }
        if (mono() >= next_status && !agent_stopping(agent))
            next_status = mono() + (send_status(courier, http, agent->stop_fd) == 0
                                        ? STATUS_EVERY * (0.8 + 0.4 * random_unit())
                                        : 30 * (0.5 + random_unit()));
        wait_until(courier, next_try > mono() && next_try < next_status ? next_try : next_status);
    }
    /* The products end first, and have their last words to say. */
    while (!atomic_load(&courier->ending)) {
        struct pollfd wake = {.fd = courier->wake_fd, .events = POLLIN};

        (void)poll(&wake, 1, 1000);
        fd_clear(courier->wake_fd);
    }
    if (http && courier->grace > 0)
        deliver_last(courier, http);
    http_client_free(http);
    return NULL;
}

struct courier *courier_start(struct agent *agent)
{
    struct courier *courier = xcalloc(1, sizeof(*courier));

    courier->agent = agent;
    courier->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (courier->wake_fd < 0 || pthread_create(&courier->thread, NULL, run, courier) != 0)
        abort();
    return courier;
}

void courier_wake(struct courier *courier)
{
    if (!courier)
        return;
    atomic_store(&courier->fresh, true);
    fd_raise(courier->wake_fd);
}

void courier_status_changed(struct courier *courier)
{
    if (!courier)
        return;
    atomic_store(&courier->status_due, true);
    fd_raise(courier->wake_fd);
}

void courier_stop(struct courier *courier, double grace)
{
    if (!courier)
        return;
    courier->grace = grace;
    atomic_store(&courier->ending, true);
    fd_raise(courier->wake_fd);
    (void)pthread_join(courier->thread, NULL);
    (void)close(courier->wake_fd);
    free(courier);
}
