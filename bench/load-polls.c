/* Polls one address as fast as one thread can, and prints what came of it as JSON:
 * load-polls PORT PATH plain|tls kept|fresh CONNECTIONS SECONDS PID */
#include "load.h"

#include "base/buf.h"
#include "base/parse.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct polls {
    char *request;
    size_t request_len;
    size_t body_len; /* of the first answer; all must be alike */
    uint64_t odd;
};

static bool next(void *user, size_t *ret_index, const char **ret_bytes, size_t *ret_len)
{
    const struct polls *polls = user;

    *ret_index = 0;
    *ret_bytes = polls->request;
    *ret_len = polls->request_len;
    return true;
}

static void answered(void *user, size_t index, unsigned status, const char *body, size_t len)
{
    struct polls *polls = user;

    if (polls->body_len == 0)
        polls->body_len = len;
    if (status != 200 || len != polls->body_len)
        polls->odd++;
}

int main(int argc, char **argv)
{
    struct load_options options = {.address = "127.0.0.1", .next = next, .answered = answered};
    struct load_result result;
    struct polls polls = {0};
    struct error error;
    uint64_t port, connections, pid;

    if (argc != 8 || parse_u64(argv[1], 1, UINT16_MAX, &port, &error) < 0 ||
        parse_u64(argv[5], 1, 10000, &connections, &error) < 0 ||
        parse_double(argv[6], 0.1, 600, &options.seconds, &error) < 0 ||
        parse_u64(argv[7], 0, INT32_MAX, &pid, &error) < 0) {
        fprintf(stderr,
                "usage: load-polls PORT PATH plain|tls kept|fresh CONNECTIONS SECONDS PID\n");
        return 2;
    }
    options.port = (uint16_t)port;
    options.tls = strcmp(argv[3], "tls") == 0;
    options.fresh = strcmp(argv[4], "fresh") == 0;
    options.connections = (unsigned)connections;
    options.pid = (pid_t)pid;
    options.user = &polls;
    polls.request = xasprintf("GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", argv[2],
                              options.fresh ? "Connection: close\r\n" : "");
    polls.request_len = strlen(polls.request);
    if (load_run(&options, &result, &error) < 0) {
        fprintf(stderr, "load-polls: %s\n", error.text);
        return 1;
    }
    free(polls.request);
    if (result.answers == 0 || polls.odd > 0) {
        fprintf(stderr, "load-polls: %" PRIu64 " of %" PRIu64 " answers were no 200 of %zu bytes\n",
                polls.odd, result.answers, polls.body_len);
        return 1;
    }
    printf("{\"answers\":%" PRIu64 ",\"bytes\":%zu,\"seconds\":%.4f,\"cpu_seconds\":%.2f,"
           "\"per_second\":%.0f,\"per_cpu_second\":%.0f,\"busy\":%.3f}\n",
           result.answers, polls.body_len, result.seconds, result.cpu_seconds,
           (double)result.answers / result.seconds,
           result.cpu_seconds > 0 ? (double)result.answers / result.cpu_seconds : 0,
           result.cpu_seconds / result.seconds);
    return 0;
}
