#include "agent/journal.h"

#include "agent/hooks.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {
    [STATE_IDLE] = "idle",           [STATE_STAGED] = "staged",
    [STATE_ASKED] = "asked",         [STATE_MARKED] = "marked",
    [STATE_ACTIVE] = "active",       [STATE_SOAKING] = "soaking",
    [STATE_REPORTED] = "reported",   [STATE_INTERRUPTED] = "interrupted",
    [STATE_REJECTED] = "rejected",   [STATE_CONFIRMED] = "confirmed",
    [STATE_REVERTING] = "reverting",
};
static const char *const arm_names[] = {
    [TRIAL_NONE] = "-",
    [TRIAL_RELEASE] = "release",
    [TRIAL_PLACEBO] = "placebo",
    [TRIAL_REVERT] = "revert",
};

const char *trial_state_name(enum trial_state state)
{
    return state_names[state];
}

const char *trial_arm_name(enum trial_arm arm)
{
    return arm_names[arm];
}

bool trial_state_holds_trial(enum trial_state state)
{
    switch (state) {
    case STATE_ASKED:
    case STATE_MARKED:
    case STATE_ACTIVE:
    case STATE_SOAKING:
    case STATE_INTERRUPTED:
    case STATE_REPORTED:
    case STATE_REVERTING:
        return true;
    default:
        return false;
    }
}

void journal_reset(struct journal *ret)
{
    *ret = (struct journal){.state = STATE_IDLE, .exit_status = -1};
}

static const char *or_none(const char *text)
{
    return *text ? text : "-";
}

static void add_number(struct buf *buf, const char *key, bool present, int value)
{
    if (present)
        buf_addf(buf, "%s %d\n", key, value);
    else
        buf_addf(buf, "%s -\n", key);
}

void journal_text(const struct journal *journal, struct buf *ret)
{
    size_t start = ret->len;
    char sum[SHA256_HEX_SIZE];

    buf_addf(ret, "maeslant-journal 1\nstate %s\nrelease %s\nprevious %s\narm %s\n",
             state_names[journal->state], or_none(journal->release), or_none(journal->previous),
             arm_names[journal->arm]);
    buf_addf(ret, "permit %s\nnonce %s\nboot %s\n", or_none(journal->permit),
             or_none(journal->nonce), or_none(journal->boot));
    buf_addf(ret, "boots %llu\ninterruptions %llu\nsoak_ms %llu\nsoaked_ms %llu\n",
             (unsigned long long)journal->boots, (unsigned long long)journal->interruptions,
             (unsigned long long)journal->soak_ms, (unsigned long long)journal->soaked_ms);
    buf_addf(ret, "clock_ms %lld\npermit_at %lld\nconfirm_by %lld\n", (long long)journal->clock,
             (long long)journal->permit_at, (long long)journal->confirm_by);
    buf_addf(ret, "outcome %s\nreason %s\nprobe %s\n", or_none(journal->outcome),
             or_none(journal->reason), or_none(journal->probe));
    add_number(ret, "exit", journal->exit_status >= 0, journal->exit_status);
    add_number(ret, "signal", journal->signal > 0, journal->signal);
    buf_addf(ret, "changed_at %lld\n", (long long)journal->changed_at);
    sha256_hex(ret->data + start, ret->len - start, sum);
    buf_addf(ret, "sum %s\n", sum);
}

struct reader {
    const char *p, *end;
    unsigned line;
    struct error *error;
};

/* The value of the next line, which must have this key, into `ret` (NUL-terminated). */
static int next_value(struct reader *reader, const char *key, char *ret, size_t size)
{
    const char *newline = memchr(reader->p, '\n', (size_t)(reader->end - reader->p));
    size_t key_len = strlen(key);
    size_t len;

    reader->line++;
    if (!newline)
        return error_set(reader->error, -EBADMSG,
                         "journal line %u: the record ends early, before \"%s\"", reader->line,
                         key);
    len = (size_t)(newline - reader->p);
    if (len <= key_len + 1 || memcmp(reader->p, key, key_len) != 0 || reader->p[key_len] != ' ')
        return error_set(reader->error, -EBADMSG,
                         "journal line %u: \"%.*s\": expected \"%s\" and a value", reader->line,
                         (int)(len < 64 ? len : 64), reader->p, key);
    len -= key_len + 1;
    if (len >= size || memchr(reader->p + key_len + 1, '\0', len))
        return error_set(reader->error, -EBADMSG,
                         "journal line %u: the value of \"%s\" is too long or holds a NUL",
                         reader->line, key);
    memcpy(ret, reader->p + key_len + 1, len);
    ret[len] = '\0';
    reader->p = newline + 1;
    return 0;
}

static int wrong(struct reader *reader, const char *key, const char *value, const char *expected)
{
    return error_set(reader->error, -EBADMSG, "journal line %u: %s is \"%.64s\": expected %s",
                     reader->line, key, value, expected);
}

static int next_hex(struct reader *reader, const char *key, char *ret, size_t digits)
{
    uint8_t bytes[SHA256_SIZE];
    int r = next_value(reader, key, ret, digits + 1);

    if (r < 0)
        return r;
    if (strcmp(ret, "-") == 0)
        ret[0] = '\0';
    else if (strlen(ret) != digits || hex_decode(ret, bytes, digits / 2) < 0)
        return wrong(reader, key, ret, "hex digits or -");
    return 0;
}

static int next_name(struct reader *reader, const char *key, char *ret, size_t size)
{
    int r = next_value(reader, key, ret, size);

    if (r < 0)
        return r;
    if (strcmp(ret, "-") == 0)
        ret[0] = '\0';
    else if (!is_name(ret))
        return wrong(reader, key, ret, "a name or -");
    return 0;
}

static int next_choice(struct reader *reader, const char *key, const char *const *names,
                       size_t count, unsigned *ret)
{
    char value[32];
    int r = next_value(reader, key, value, sizeof(value));

    for (unsigned i = 0; r == 0 && i < count; i++) {
        if (strcmp(value, names[i]) == 0) {
            *ret = i;
            return 0;
        }
    }
    return r < 0 ? r : wrong(reader, key, value, "one of the known names");
}

static int next_u64(struct reader *reader, const char *key, uint64_t *ret)
{
    char value[24];
    int r = next_value(reader, key, value, sizeof(value));

    if (r == 0 && parse_u64(value, 0, INT64_MAX, ret, NULL) < 0)
        r = wrong(reader, key, value, "a whole number");
    return r;
}

static int next_i64(struct reader *reader, const char *key, int64_t *ret)
{
    uint64_t value = 0;
    int r = next_u64(reader, key, &value);

    *ret = (int64_t)value;
    return r;
}

static int next_small(struct reader *reader, const char *key, uint64_t min, uint64_t max, int none,
                      int *ret)
{
    char value[24];
    uint64_t number;
    int r = next_value(reader, key, value, sizeof(value));

    if (r < 0)
        return r;
    *ret = none;
    if (strcmp(value, "-") == 0)
        return 0;
    if (parse_u64(value, min, max, &number, NULL) < 0)
        return wrong(reader, key, value, "a small number or -");
    *ret = (int)number;
    return 0;
}

static int read_trial(struct reader *reader, struct journal *ret)
{
    unsigned state = 0, arm = 0;
    int r = next_choice(reader, "state", state_names, ARRAY_SIZE(state_names), &state);

    if (r == 0)
        r = next_hex(reader, "release", ret->release, 64);
    if (r == 0)
        r = next_hex(reader, "previous", ret->previous, 64);
    if (r == 0)
        r = next_choice(reader, "arm", arm_names, ARRAY_SIZE(arm_names), &arm);
    if (r == 0)
        r = next_hex(reader, "permit", ret->permit, 32);
    if (r == 0)
        r = next_hex(reader, "nonce", ret->nonce, 64);
    if (r == 0)
        r = next_name(reader, "boot", ret->boot, sizeof(ret->boot));
    ret->state = (enum trial_state)state;
    ret->arm = (enum trial_arm)arm;
    return r;
}

static int read_progress(struct reader *reader, struct journal *ret)
{
    int r = next_u64(reader, "boots", &ret->boots);

    if (r == 0)
        r = next_u64(reader, "interruptions", &ret->interruptions);
    if (r == 0)
        r = next_u64(reader, "soak_ms", &ret->soak_ms);
    if (r == 0)
        r = next_u64(reader, "soaked_ms", &ret->soaked_ms);
    if (r == 0)
        r = next_i64(reader, "clock_ms", &ret->clock);
    if (r == 0)
        r = next_i64(reader, "permit_at", &ret->permit_at);
    if (r == 0)
        r = next_i64(reader, "confirm_by", &ret->confirm_by);
    return r;
}

static int read_outcome(struct reader *reader, struct journal *ret)
{
    int r = next_name(reader, "outcome", ret->outcome, sizeof(ret->outcome));

    if (r == 0)
        r = next_name(reader, "reason", ret->reason, sizeof(ret->reason));
    if (r == 0)
        r = next_name(reader, "probe", ret->probe, sizeof(ret->probe));
    if (r == 0)
        r = next_small(reader, "exit", 0, 255, -1, &ret->exit_status);
    if (r == 0)
        r = next_small(reader, "signal", 1, 128, 0, &ret->signal);
    if (r == 0)
        r = next_i64(reader, "changed_at", &ret->changed_at);
    return r;
}

int journal_parse(const char *text, size_t len, struct journal *ret, struct error *error)
{
    struct reader reader = {.p = text, .end = text + len, .error = error};
    char value[80], sum[SHA256_HEX_SIZE];
    size_t summed;
    int r;

    journal_reset(ret);
    if (len > JOURNAL_MAX)
        return error_set(error, -EBADMSG, "the journal has %zu bytes: expected at most %d", len,
                         JOURNAL_MAX);
    r = next_value(&reader, "maeslant-journal", value, sizeof(value));
    if (r == 0 && strcmp(value, "1") != 0)
        r = wrong(&reader, "maeslant-journal", value, "version 1");
    if (r == 0)
        r = read_trial(&reader, ret);
    if (r == 0)
        r = read_progress(&reader, ret);
    if (r == 0)
        r = read_outcome(&reader, ret);
    summed = (size_t)(reader.p - text);
    if (r == 0)
        r = next_value(&reader, "sum", value, sizeof(value));
    if (r == 0 && reader.p != reader.end)
        r = error_set(error, -EBADMSG, "the journal has bytes behind its sum: expected none");
    if (r == 0) {
        sha256_hex(text, summed, sum);
        if (strcmp(sum, value) != 0)
            r = wrong(&reader, "sum", value, "the SHA-256 of the lines before it");
    }
    if (r < 0)
        journal_reset(ret);
    return r;
}

int journal_load(const char *path, struct journal *ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = file_read(AT_FDCWD, path, JOURNAL_MAX, &text, error);

    journal_reset(ret);
    if (r == -EFBIG)
        return error_prefix(error, -EBADMSG, "damaged");
    if (r < 0)
        return r;
    r = journal_parse(text.data ? text.data : "", text.len, ret, error);
    return r < 0 ? error_prefix(error, r, "%s", path) : 0;
}

int journal_save(const char *path, struct journal *journal, const char *boot, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r;

    journal->changed_at = clock_ms(CLOCK_REALTIME);
    if (journal->changed_at < 0)
        journal->changed_at = 0;
    (void)snprintf(journal->boot, sizeof(journal->boot), "%s", boot);
    journal_text(journal, &text);
    crash_point("before-", state_names[journal->state]);
    r = file_write(AT_FDCWD, path, text.data, text.len, 0600, error);
    crash_point("after-", state_names[journal->state]);
    return r;
}
