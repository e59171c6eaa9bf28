/* Many simulated devices report at once, and what came of it is printed as JSON:
 * load-reports PORT plain|tls TOKEN PRODUCT CHANNEL RELEASE DEVICES CONNECTIONS PID
 * Every device has a key of its own, enrols, and begins the release before the clock starts; its
 * report is signed beforehand, so that what is measured is the server. */
#include "load.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/json.h"
#include "base/parse.h"
#include "base/random.h"
#include "trust/envelope.h"
#include "trust/key.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SETUP_CONNECTIONS 64
#define BEGIN_ROUNDS 50 /* a device that is told to wait asks again */

struct device {
    struct secret_key key;
    char id[65], permit[33];
    uint64_t seq;
    char *request; /* of the phase that runs */
    size_t request_len;
    bool done; /* answered with 200 and, for a begin, with a permit */
};

struct fleet {
    const char *token, *product, *channel, *release;
    struct device *devices;
    size_t count, at;
    size_t body_bytes; /* of a report */
    bool begins;       /* the answers are permits */
    unsigned status;   /* of the first refusal */
    char refusal[400];
};

static char *post(struct device *device, const char *call, const struct buf *body, size_t *ret_len)
{
    _cleanup_free_ char *signature = device_signature(&device->key, call, body->data, body->len);
    struct buf request = BUF_INIT;

    buf_addf(&request,
             "POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
             "Maeslant-Signature: %s\r\nContent-Length: %zu\r\n\r\n",
             call, signature, body->len);
    buf_add(&request, body->data, body->len);
    *ret_len = request.len;
    return buf_take(&request);
}

static void add_common(struct buf *body, struct device *device)
{
    buf_addf(body,
             "{\"protocol\":1,\"agent\":\"0.1.0\",\"device\":\"%s\",\"seq\":%" PRIu64
             ",\"sent_at\":%" PRId64,
             device->id, ++device->seq, clock_ms(CLOCK_REALTIME));
}

static void add_attributes(struct buf *body)
{
    buf_add_str(body, ",\"attributes\":{\"arch\":\"x86_64\",\"engine\":\"1\",\"kernel\":\"6.1\","
                      "\"os\":\"debian-12\"}");
}

static void write_enroll(const struct fleet *fleet, struct device *device, struct buf *body)
{
    _cleanup_free_ char *key = base64_encode(device->key.public.bytes, KEY_PUBLIC_SIZE);

    add_common(body, device);
    add_attributes(body);
    buf_addf(body, ",\"token\":\"%s\",\"public_key\":\"%s\",\"machine\":\"%s\"}", fleet->token, key,
             device->id);
}

static void write_begin(const struct fleet *fleet, struct device *device, struct buf *body)
{
    char nonce[65];

    random_hex(nonce, 32);
    add_common(body, device);
    add_attributes(body);
    buf_addf(body,
             ",\"nonce\":\"%s\",\"product\":\"%s\",\"channel\":\"%s\",\"release\":\"%s\","
             "\"from\":\"empty\",\"boot\":\"0d6fbc9c-0f5e-4ad6-9d1b-5d2a0c1a7e11\"}",
             nonce, fleet->product, fleet->channel, fleet->release);
}

static void write_report(const struct fleet *fleet, struct device *device, struct buf *body)
{
    add_common(body, device);
    buf_addf(body,
             ",\"permit\":\"%s\",\"release\":\"%s\",\"outcome\":\"healthy\",\"boots\":3,"
             "\"boot\":\"0d6fbc9c-0f5e-4ad6-9d1b-5d2a0c1a7e11\",\"running\":\"%s\","
             "\"resources\":{\"rss_bytes\":41213952,\"cpu_ms\":1843,\"seconds\":600}}",
             device->permit, fleet->release, fleet->release);
}

typedef void write_body(const struct fleet *fleet, struct device *device, struct buf *body);

static void prepare(struct fleet *fleet, const char *call, write_body *write)
{
    for (size_t i = 0; i < fleet->count; i++) {
        struct device *device = &fleet->devices[i];
        _cleanup_buf_ struct buf body = BUF_INIT;

        free(device->request);
        device->request = NULL;
        if (device->done)
            continue;
        write(fleet, device, &body);
        fleet->body_bytes = body.len;
        device->request = post(device, call, &body, &device->request_len);
    }
    fleet->at = 0;
}

static bool next(void *user, size_t *ret_index, const char **ret_bytes, size_t *ret_len)
{
    struct fleet *fleet = user;

    while (fleet->at < fleet->count && !fleet->devices[fleet->at].request)
        fleet->at++;
    if (fleet->at == fleet->count)
        return false;
    *ret_index = fleet->at;
    *ret_bytes = fleet->devices[fleet->at].request;
    *ret_len = fleet->devices[fleet->at].request_len;
    fleet->at++;
    return true;
}

static bool read_permit(struct device *device, const char *body, size_t len)
{
    _cleanup_json_ json_t *envelope = NULL, *value = NULL;
    const char *text, *permit;
    struct error error;

    if (json_parse(body, len, &envelope, &error) < 0)
        return false;
    text = json_string_value(json_object_get(envelope, "signed"));
    if (!text || json_parse(text, strlen(text), &value, &error) < 0)
        return false;
    permit = json_string_value(json_object_get(value, "permit"));
    if (!permit || strlen(permit) != sizeof device->permit - 1)
        return false;
    memcpy(device->permit, permit, sizeof device->permit);
    return true;
}

static void answered(void *user, size_t index, unsigned status, const char *body, size_t len)
{
    struct fleet *fleet = user;
    struct device *device = &fleet->devices[index];

    if (status == 200) {
        device->done = !fleet->begins || read_permit(device, body, len);
    } else if (fleet->status == 0) {
        fleet->status = status;
        snprintf(fleet->refusal, sizeof fleet->refusal, "%.*s", (int)(len < 390 ? len : 390), body);
    }
}

static size_t undone(const struct fleet *fleet)
{
    size_t count = 0;

    for (size_t i = 0; i < fleet->count; i++)
        count += !fleet->devices[i].done;
    return count;
}

static void start_phase(struct fleet *fleet)
{
    for (size_t i = 0; i < fleet->count; i++)
        fleet->devices[i].done = false;
}

static int check_phase(const struct fleet *fleet, const char *call, struct error *error)
{
    size_t count = undone(fleet);

    if (fleet->status != 0)
        return error_set(error, -1, "%s was refused with %u: %s", call, fleet->status,
                         fleet->refusal);
    if (count > 0)
        return error_set(error, -1, "%zu devices got no good answer to %s", count, call);
    return 0;
}

static int set_up(struct fleet *fleet, const struct load_options *options, double *ret_begins,
                  struct error *error)
{
    struct load_options setup = *options;
    struct load_result result;
    int r;

    setup.connections = SETUP_CONNECTIONS;
    for (size_t i = 0; i < fleet->count; i++) {
        key_generate(&fleet->devices[i].key);
        key_device_id(&fleet->devices[i].key.public, fleet->devices[i].id);
    }
    prepare(fleet, "enroll", write_enroll);
    if ((r = load_run(&setup, &result, error)) < 0 || (r = check_phase(fleet, "enroll", error)) < 0)
        return r;
    start_phase(fleet);
    fleet->begins = true;
    for (int i = 0; i < BEGIN_ROUNDS && undone(fleet) > 0 && fleet->status == 0; i++) {
        prepare(fleet, "begin", write_begin);
        if ((r = load_run(&setup, &result, error)) < 0)
            return r;
        if (i == 0)
            *ret_begins = (double)result.answers / result.seconds;
    }
    fleet->begins = false;
    return check_phase(fleet, "begin", error);
}

static int run(struct fleet *fleet, const struct load_options *options, struct error *error)
{
    struct load_result result;
    double begins = 0;
    int r;

    if ((r = set_up(fleet, options, &begins, error)) < 0)
        return r;
    start_phase(fleet);
    prepare(fleet, "report", write_report);
    if ((r = load_run(options, &result, error)) < 0 ||
        (r = check_phase(fleet, "report", error)) < 0)
        return r;
    printf("{\"reports\":%" PRIu64 ",\"seconds\":%.4f,\"cpu_seconds\":%.2f,\"per_second\":%.0f,"
           "\"per_cpu_second\":%.0f,\"begins_per_second\":%.0f,\"body_bytes\":%zu}\n",
           result.answers, result.seconds, result.cpu_seconds,
           (double)result.answers / result.seconds,
           result.cpu_seconds > 0 ? (double)result.answers / result.cpu_seconds : 0, begins,
           fleet->body_bytes);
    return 0;
}

int main(int argc, char **argv)
{
    struct fleet fleet = {0};
    struct load_options options = {
        .address = "127.0.0.1", .next = next, .answered = answered, .user = &fleet};
    struct error error;
    uint64_t port, devices, connections, pid;
    int r;

    if (argc != 10 || parse_u64(argv[1], 1, UINT16_MAX, &port, &error) < 0 ||
        parse_u64(argv[7], 1, 1000000, &devices, &error) < 0 ||
        parse_u64(argv[8], 1, 10000, &connections, &error) < 0 ||
        parse_u64(argv[9], 0, INT32_MAX, &pid, &error) < 0) {
        fprintf(stderr, "usage: load-reports PORT plain|tls TOKEN PRODUCT CHANNEL RELEASE DEVICES "
                        "CONNECTIONS PID\n");
        return 2;
    }
    options.port = (uint16_t)port;
    options.tls = strcmp(argv[2], "tls") == 0;
    options.connections = (unsigned)connections;
    options.pid = (pid_t)pid;
    fleet.token = argv[3];
    fleet.product = argv[4];
    fleet.channel = argv[5];
    fleet.release = argv[6];
    fleet.count = (size_t)devices;
    fleet.devices = xcalloc(fleet.count, sizeof *fleet.devices);
    r = run(&fleet, &options, &error);
    if (r < 0)
        fprintf(stderr, "load-reports: %s\n", error.text);
    for (size_t i = 0; i < fleet.count; i++)
        free(fleet.devices[i].request);
    free(fleet.devices);
    return r < 0;
}
