/* How many signed bodies libsodium verifies, each by another key, and how many it signs (every
 * answer of the server is signed), as JSON: limit-ed25519 BYTES THREADS SECONDS */
#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"
#include "base/random.h"

#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>

#define BODIES 1024
#define THREADS_MAX 64

struct body {
    uint8_t key[crypto_sign_PUBLICKEYBYTES], signature[crypto_sign_BYTES];
    uint8_t *text;
};

struct worker {
    pthread_t thread;
    const struct body *bodies;
    size_t bytes;
    double end;
    uint64_t verified, refused;
};

static void *verify(void *argument)
{
    struct worker *worker = argument;

    for (size_t i = 0; clock_now(CLOCK_MONOTONIC) < worker->end; i = (i + 1) % BODIES) {
        const struct body *body = &worker->bodies[i];

        if (crypto_sign_verify_detached(body->signature, body->text, worker->bytes, body->key) == 0)
            worker->verified++;
        else
            worker->refused++;
    }
    return NULL;
}

static struct body *make_bodies(size_t bytes)
{
    struct body *bodies = xcalloc(BODIES, sizeof *bodies);

    for (size_t i = 0; i < BODIES; i++) {
        uint8_t secret[crypto_sign_SECRETKEYBYTES];

        bodies[i].text = xmalloc(bytes);
        random_bytes(bodies[i].text, bytes);
        crypto_sign_keypair(bodies[i].key, secret);
        crypto_sign_detached(bodies[i].signature, NULL, bodies[i].text, bytes, secret);
    }
    return bodies;
}

/* Signatures a CPU second, of one thread. */
static double sign_rate(const struct body *bodies, size_t bytes, double seconds)
{
    uint8_t key[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
    uint8_t signature[crypto_sign_BYTES];
    double start = clock_now(CLOCK_PROCESS_CPUTIME_ID), now = start;
    uint64_t count = 0;

    crypto_sign_keypair(key, secret);
    for (; now - start < seconds; now = clock_now(CLOCK_PROCESS_CPUTIME_ID))
        crypto_sign_detached(signature, NULL, bodies[count++ % BODIES].text, bytes, secret);
    return (double)count / (now - start);
}

int main(int argc, char **argv)
{
    struct worker workers[THREADS_MAX];
    uint64_t bytes, threads, verified = 0, refused = 0;
    struct body *bodies;
    struct error error;
    double seconds, start, cpu, signs;

    if (argc != 4 || parse_u64(argv[1], 1, 1 << 20, &bytes, &error) < 0 ||
        parse_u64(argv[2], 1, THREADS_MAX, &threads, &error) < 0 ||
        parse_double(argv[3], 0.1, 60, &seconds, &error) < 0) {
        fprintf(stderr, "usage: limit-ed25519 BYTES THREADS SECONDS\n");
        return 2;
    }
    if (sodium_init() < 0)
        return 1;
    bodies = make_bodies((size_t)bytes);
    cpu = clock_now(CLOCK_PROCESS_CPUTIME_ID);
    start = clock_now(CLOCK_MONOTONIC);
    for (size_t i = 0; i < threads; i++) {
        workers[i] =
            (struct worker){.bodies = bodies, .bytes = (size_t)bytes, .end = start + seconds};
        if (pthread_create(&workers[i].thread, NULL, verify, &workers[i]) != 0)
            return 1;
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        verified += workers[i].verified;
        refused += workers[i].refused;
    }
    seconds = clock_now(CLOCK_MONOTONIC) - start;
    cpu = clock_now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    signs = sign_rate(bodies, (size_t)bytes, 0.2);
    for (size_t i = 0; i < BODIES; i++)
        free(bodies[i].text);
    free(bodies);
    if (refused > 0) {
        fprintf(stderr, "limit-ed25519: %" PRIu64 " good signatures were refused\n", refused);
        return 1;
    }
    printf("{\"verifications\":%" PRIu64 ",\"seconds\":%.4f,\"cpu_seconds\":%.4f,"
           "\"per_second\":%.0f,\"per_cpu_second\":%.0f,\"signs_per_cpu_second\":%.0f}\n",
           verified, seconds, cpu, (double)verified / seconds, (double)verified / cpu, signs);
    return 0;
}
