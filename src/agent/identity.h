/* Who the device is (rule 15): its key, the machine that the key is bound to, the certificate and
 * the bundle of its organisation, and the counter in every signed body. Must never reuse a number
 * of the counter, nor let the key out. */
#pragma once

#include "agent/paths.h"
#include "base/error.h"
#include "base/json.h"
#include "trust/key.h"

#include <stdint.h>

struct identity {
    struct secret_key key;
    char device[65];
    char machine[65];
    char organisation[129], ring[129];
    struct public_key server_key, enrolment_key;
    struct public_key *release_keys;
    size_t release_key_count;
};

/* SHA-256 over machine-id and, where it can be read, the DMI UUID, each with a newline. */
int machine_digest(const struct paths *paths, char ret[static 65], struct error *error);

/* -ENOENT: not enrolled. -EXDEV: enrolled, but on another machine. */
int identity_load(const struct paths *paths, struct identity *ret, struct error *error);
void identity_free(struct identity *identity);
/* The device's key, made when there is none yet. */
int identity_key(const struct paths *paths, struct secret_key *ret, struct error *error);
/* Checks certificate and bundle (envelopes' texts) for this key and machine, and makes them
 * durable. `pinned`: the enrolment key known beforehand, or NULL. */
int identity_save(const struct paths *paths, const struct secret_key *key, const char *machine,
                  const char *certificate, const char *bundle, const struct public_key *pinned,
                  struct error *error);
/* Enrolment key out of a bundle's text, whose own signature is checked. */
int bundle_enrolment_key(const char *bundle, size_t len, struct public_key *ret,
                         struct error *error);
/* Puts the old machine's identity, queued reports and counter aside. */
int identity_retire(const struct paths *paths, struct error *error);

struct counter {
    char *path;
    uint64_t next, reserved; /* numbers below `reserved` are durable */
};
int counter_open(const struct paths *paths, struct counter *ret, struct error *error);
int counter_next(struct counter *counter, uint64_t *ret, struct error *error);
void counter_close(struct counter *counter);
