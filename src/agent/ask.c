#include "agent/client.h"
#include "agent/courier.h"
#include "agent/leash.h"
#include "agent/outbox.h"
#include "agent/remove.h"
#include "agent/trial.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/random.h"
#include "trust/envelope.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CALL_TIMEOUT 10.0
#define PAUSE_FIRST 0.2
#define PAUSE_MOST 60.0
#define SPREAD_DEFAULT 300.0
#define ANSWER_WAIT 3.0
#define FRESH 2.0               /* seconds: older words about halts are asked for again */
#define START_BY_MOST_MS 900000 /* rule 13: what waits for a boot keeps longest */

/* The time until which a permit for this begin keeps runs from here: the record's clock is taken
 * before the begin is sent. */
int ask_begin(struct product *product, struct error *error)
{
    random_hex(product->journal.nonce, 32);
    product->journal.permit[0] = '\0';
    product->journal.boots = product->journal.interruptions = 0;
    product->journal.soak_ms = product->journal.soaked_ms = 0;
    product->journal.permit_at = product->journal.confirm_by = 0;
    product->journal.outcome[0] = product->journal.reason[0] = product->journal.probe[0] = '\0';
    product->journal.exit_status = -1;
    product->journal.signal = 0;
    return product_set(product, STATE_ASKED, error);
}

static json_t *begin_body(struct product *product)
{
    const struct journal *journal = &product->journal;
    const struct config *config = &product->agent->config;
    json_t *body = json_object();

    (void)json_object_set_new(body, "nonce", json_string(journal->nonce));
    (void)json_object_set_new(body, "product", json_string(product->config->name));
    (void)json_object_set_new(body, "channel", json_string(product->config->channel));
    (void)json_object_set_new(body, "release", json_string(journal->release));
    (void)json_object_set_new(body, "from",
                              json_string(journal->arm == TRIAL_REVERT ? journal->release
                                          : *journal->previous         ? journal->previous
                                                                       : "empty"));
    (void)json_object_set_new(body, "attributes", client_attributes(config));
    (void)json_object_set_new(body, "purpose",
                              json_string(journal->arm == TRIAL_REVERT ? "revert" : "release"));
    (void)json_object_set_new(body, "boot", json_string(product->agent->boot));
    if (config->group)
        (void)json_object_set_new(body, "group", json_string(config->group));
    return body;
}

bool permit_holds(struct product *product, const char **ret_reason)
{
    const struct journal *journal = &product->journal;
    char boot[37];
    struct halt halt;

    *ret_reason = "stale";
    if (boot_id(boot) < 0 || strcmp(boot, journal->boot) != 0)
        return false;
    if (boottime() - (double)product->begun_ms / 1000 > product->start_by)
        return false;
    if (boottime() - product->heard > FRESH) {
        double now = boottime();

        /* It may have slept: what was said meanwhile counts, and silence counts against it. */
        if (client_halts(product->agent, product->http, 5, product->agent->stop_fd, NULL) < 0)
            return false;
        product->heard = now;
        if (boottime() - (double)product->begun_ms / 1000 > product->start_by)
            return false;
    }
    *ret_reason = "halted";
    return !product_halted(product, journal->release, &halt);
}

/* Back to where a permit can be asked for; a permit that was given is declined. */
static int decline(struct product *product, const char *reason)
{
    struct journal *journal = &product->journal;
    struct error error = ERROR_INIT;
    int r;

    (void)snprintf(journal->reason, sizeof(journal->reason), "%s", reason);
    log_notice("permit-declined", "%s: permit %s: %s", product->config->name, journal->permit,
               reason);
    report_put(product, "declined", NULL);
    journal->arm = TRIAL_NONE;
    r = product_set(product, STATE_STAGED, &error);
    if (r < 0)
        log_error("journal", "%s", error.text);
    product->next_ask = mono() + product->agent->config.poll * (0.5 + random_unit());
    return r;
}

static int read_permit(struct product *product, const json_t *value, struct error *error)
{
    struct journal *journal = &product->journal;
    const char *permit, *arm, *nonce, *release, *device;
    const json_t *leash = NULL;
    int64_t soak = 0, start_by = 60000, confirm = 0, every = 5000;
    uint8_t bytes[16];
    int r = json_need_string(value, "permit", "permit", 32, &permit, error);

    if (r == 0 && (strlen(permit) != 32 || hex_decode(permit, bytes, 16) < 0))
        r = error_set(error, -EINVAL, "permit \"%s\": expected 32 hex digits", permit);
    if (r == 0)
        r = json_need_string(value, "permit", "arm", 16, &arm, error);
    if (r == 0)
        r = json_need_string(value, "permit", "nonce", 64, &nonce, error);
    if (r == 0)
        r = json_need_string(value, "permit", "release", 64, &release, error);
    if (r == 0)
        r = json_need_string(value, "permit", "device", 64, &device, error);
    if (r == 0)
        r = json_may_integer(value, "permit", "soak_ms", 0, INT64_MAX / 2, &soak, error);
    if (r == 0)
        r = json_may_integer(value, "permit", "start_by_ms", 0, START_BY_MOST_MS, &start_by, error);
    if (r == 0)
        r = json_may_integer(value, "permit", "confirm_within_ms", 0, INT64_MAX / 2, &confirm,
                             error);
    if (r == 0)
        r = json_may(value, "permit", "leash", JSON_OBJECT, &leash, error);
    product->leash_poll = true;
    if (r == 0 && leash)
        r = json_may_bool(leash, "permit.leash", "poll", &product->leash_poll, error);
    if (r == 0 && leash)
        r = json_may_integer(leash, "permit.leash", "every_ms", 0, 3600000, &every, error);
    if (r != 0)
        return r;
    if (strcmp(nonce, journal->nonce) != 0 || strcmp(release, journal->release) != 0 ||
        strcmp(device, product->agent->identity.device) != 0)
        return error_set(error, -EBADMSG,
                         "the permit is for another device, release or question than ours");
    if (journal->arm == TRIAL_REVERT ? strcmp(arm, "revert") != 0
                                     : strcmp(arm, "release") != 0 && strcmp(arm, "placebo") != 0)
        return error_set(error, -EBADMSG, "the permit's arm is \"%s\": not what was asked for",
                         arm);
    if (journal->arm != TRIAL_REVERT)
        journal->arm = strcmp(arm, "placebo") == 0 ? TRIAL_PLACEBO : TRIAL_RELEASE;
    memcpy(journal->permit, permit, 33);
    journal->soak_ms = (uint64_t)soak;
    journal->soaked_ms = 0;
    journal->permit_at = clock_ms(CLOCK_REALTIME);
    product->start_by = (double)start_by / 1000;
    product->confirm_within = (double)confirm / 1000;
    product->leash_every = (double)(every < 10000 ? every : 10000) / 1000;
    return 0;
}

static int revert_with(struct product *product)
{
    struct verdict verdict = {
        .outcome = "reverted",
        .reason = product->regressed ? "regressed" : "halted",
        .exit_status = -1,
    };
    struct slot_mark known;

    /* Without an answer the permit that began it all is the one to name. */
    if (!*product->journal.permit &&
        slot_mark_read(product->dir, product->journal.release, &known) == 0)
        memcpy(product->journal.permit, known.permit, sizeof(known.permit));
    product->untouched = false;
    revert_begin(product, &verdict);
    return 0;
}

static int mark(struct product *product)
{
    struct error error = ERROR_INIT;
    const char *reason;

    if (product->journal.arm == TRIAL_REVERT)
        return revert_with(product);
    product->untouched = true;
    product->usage = (struct check_usage){0};
    leash_stop(product->leash);
    product->leash = leash_start(product->agent, product->journal.permit, product->leash_poll,
                                 product->leash_every);
    if (!permit_holds(product, &reason))
        return decline(product, reason);
    if (product_set(product, STATE_MARKED, &error) < 0) {
        log_error("journal", "%s", error.text);
        return decline(product, "disk");
    }
    if (!permit_holds(product, &reason))
        return decline(product, reason);
    log_notice("permit", "%s: permit %s for %.12s…: %s", product->config->name,
               product->journal.permit, product->journal.release,
               trial_arm_name(product->journal.arm));
    return 0;
}

/* `wait` and `no` to the question for a trial. */
static int told_no(struct product *product, const json_t *value, bool wait)
{
    const char *reason = "refused", *sentence = "";
    struct error error = ERROR_INIT;
    int64_t retry = 0;
    double pause;
    int r;

    (void)json_may_string(value, "", "reason", REASON_MAX - 1, &reason, NULL);
    (void)json_may_string(value, "", "sentence", 1024, &sentence, NULL);
    (void)json_may_integer(value, "", "retry_after_ms", 0, 86400000, &retry, NULL);
    pause = retry > 0 ? (double)retry / 1000 : product->agent->config.poll;
    pause *= wait ? 0.9 + 0.2 * random_unit() : 1 + random_unit();
    log_info(wait ? "told-to-wait" : "told-no", "%s: %.12s…: %s: %s", product->config->name,
             product->journal.release, reason, sentence);
    if (product->journal.arm == TRIAL_REVERT) {
        product->revert_by = 0; /* it was answered: only its word counts now */
        product->next_revert = mono() + (wait ? pause : 60 + pause);
        product_block(product, reason);
        journal_reset(&product->journal);
        r = product_set(product, STATE_IDLE, &error);
    } else {
        product->next_ask = mono() + pause;
        product_block(product, reason);
        r = product_set(product, STATE_STAGED, &error);
    }
    if (r < 0)
        log_error("journal", "%s", error.text);
    return r;
}

/* The server knows a permit that this device does not: its journal was lost. */
static void give_back(struct product *product, const char *problem)
{
    struct journal kept = product->journal;
    uint8_t bytes[16];

    for (const char *p = problem; p && *p; p++) {
        char permit[33];
        size_t len = strspn(p, "0123456789abcdef");

        if (len != 32) {
            p += len ? len - 1 : 0;
            continue;
        }
        memcpy(permit, p, 32);
        permit[32] = '\0';
        if (hex_decode(permit, bytes, 16) < 0)
            continue;
        memcpy(product->journal.permit, permit, 33);
        (void)snprintf(product->journal.reason, sizeof(product->journal.reason), "journal-damaged");
        report_put(product, "failed", problem);
        break;
    }
    product->journal = kept;
}

static int refused(struct product *product, const struct reply *reply)
{
    struct error error = ERROR_INIT;
    bool revert = product->journal.arm == TRIAL_REVERT;
    int r;

    log_warning("begin-refused", "%s: %s", product->config->name,
                reply->problem ? reply->problem : "no reason given");
    if (strcmp(reply->code, "open-permit") == 0)
        give_back(product, reply->problem);
    product_block(product, reply->code[0] ? reply->code : "refused");
    product->next_ask = mono() + 10 * product->agent->config.poll * (0.5 + random_unit());
    if (strcmp(reply->code, "open-permit") == 0)
        product->next_ask = mono() + 2;
    if (revert)
        return revert_with(product); /* nobody to ask, and the halt is signed */
    r = product_set(product, STATE_STAGED, &error);
    if (r < 0)
        log_error("journal", "%s", error.text);
    return r;
}

/* One question. 1: no answer, ask again. */
static int ask_once(struct product *product, double *pause)
{
    _cleanup_json_ json_t *body = begin_body(product);
    _cleanup_reply_ struct reply reply = {0};
    struct error error = ERROR_INIT;
    const char *answer = "";
    double sent = boottime();
    int r = client_post(product->agent, product->http, "begin", body, CONTEXT_PERMIT, CALL_TIMEOUT,
                        product->agent->stop_fd, &reply, &error);

    if (r < 0) {
        log_info("begin", "%s: %s", product->config->name, error.text);
        return r == -ECANCELED ? r : 1;
    }
    if (reply.status >= 500 || reply.status == 429 || reply.status == 408 ||
        strcmp(reply.code, "seq-replayed") == 0) {
        if (reply.retry_after > *pause)
            *pause = reply.retry_after;
        return 1;
    }
    if (reply.status != 200)
        return refused(product, &reply);
    product->heard = sent;
    (void)json_may_string(reply.value, "", "answer", 16, &answer, NULL);
    if (strcmp(answer, "wait") == 0 || strcmp(answer, "no") == 0)
        return told_no(product, reply.value, strcmp(answer, "wait") == 0);
    r = read_permit(product, reply.value, &error);
    if (r < 0) {
        log_error("permit", "%s: %s", product->config->name, error.text);
        return 1;
    }
    return mark(product);
}

static int drop_question(struct product *product)
{
    struct error error = ERROR_INIT;

    journal_reset(&product->journal);
    if (product_set(product, STATE_IDLE, &error) < 0)
        log_error("journal", "%s", error.text);
    return 0;
}

int ask_walk(struct product *product)
{
    double pause = PAUSE_FIRST;
    struct halt halt = {.spread = SPREAD_DEFAULT};

    product->begun_ms = product->journal.clock;
    if (product->journal.arm == TRIAL_REVERT && product->revert_by <= 0) {
        (void)product_halted(product, product->journal.release, &halt);
        product->revert_by = mono() + (halt.now ? ANSWER_WAIT : halt.spread);
    }
    while (!agent_stopping(product->agent)) {
        int r;

        /* A permit that comes now would be for nothing. */
        if (atomic_load(&product->removing) == REMOVE_NOW)
            return drop_question(product);
        if (product->journal.arm == TRIAL_REVERT && mono() >= product->revert_by)
            return revert_with(product);
        r = ask_once(product, &pause);
        if (r != 1)
            return r;
        product_wait(product, pause * (0.5 + random_unit()));
        pause = pause * 2 > PAUSE_MOST ? PAUSE_MOST : pause * 2;
        if (product->journal.arm == TRIAL_REVERT && pause > 2)
            pause = 2;
    }
    return -ECANCELED;
}
