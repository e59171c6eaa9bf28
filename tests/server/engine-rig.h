/* An engine in a folder of its own, with keys, a release and devices, driven call by call. */
#pragma once

#include "server/engine.h"
#include "trust/envelope.h"

#define RIG_DEVICES 64

struct rig {
    char directory[64];
    struct secret_key server, enrolment, vendor;
    struct engine *engine;
    bool no_gate;
    uint64_t min_free;
    struct error error; /* of the last rig_open */
};
struct rig_device {
    struct secret_key key;
    char id[65], machine[65];
    uint64_t seq;
    char *body; /* the last one's bytes */
    enum engine_call call;
};
struct reply {
    unsigned status;
    char code[40];
    char detail[800];
    double retry_after;
    json_t *value; /* of an envelope: what was signed, checked */
    char *text;
};

/* A clock that a test sets; without it the clocks are real. */
extern _Atomic double rig_wall_offset, rig_mono_offset;
extern _Atomic double rig_frozen; /* both clocks stand still there; 0: they run */
double rig_clock(clockid_t clock);

void rig_new(struct rig *rig); /* folder and keys; not open yet */
int rig_open(struct rig *rig);
void rig_close(struct rig *rig);
void rig_free(struct rig *rig); /* and removes the folder */

struct reply rig_admin(struct rig *rig, enum engine_call call, json_t *value /* stolen */);
/* Adds the common members, signs, sends. */
struct reply rig_send(struct rig *rig, struct rig_device *device, enum engine_call call,
                      json_t *body /* stolen */);
struct reply rig_send_again(struct rig *rig, struct rig_device *device); /* the same bytes */
struct reply rig_send_with_seq(struct rig *rig, struct rig_device *device, enum engine_call call,
                               uint64_t seq, json_t *body);
void reply_free(struct reply *reply);
/* Member of the answer, "" when absent. */
const char *reply_text(const struct reply *reply, const char *name);

void rig_device_new(struct rig_device *device);
void rig_device_free(struct rig_device *device);
struct reply rig_enroll(struct rig *rig, struct rig_device *device, const char *token);
/* `count` devices of `organisation`, all enrolled. */
void rig_fleet(struct rig *rig, struct rig_device *devices, size_t count, const char *organisation);
/* Publishes sequence `sequence` of the product `rules`; `payload` makes the payload's bytes. */
void rig_release(struct rig *rig, unsigned sequence, const char *payload, char ret_id[static 65]);
struct reply rig_publish(struct rig *rig, unsigned sequence, const char *payload,
                         const char *extra_manifest, json_t *members /* stolen, may be NULL */);
/* Starts it; `policy` is JSON text. Returns the name in `ret_name`. */
void rig_start(struct rig *rig, const char *release, const char *policy, char ret_name[static 129]);

json_t *begin_body(const char *release, const char *nonce /* NULL: random */);
json_t *report_body(const char *release, const char *permit, const char *outcome,
                    const char *reason);
/* Begins until the device holds a permit of any arm; its id. Asserts. */
void rig_begin(struct rig *rig, struct rig_device *device, const char *release,
               char ret_permit[static 33], char ret_arm[static 16]);
json_t *rig_show(struct rig *rig, const char *rollout);
int64_t count_of(const json_t *view, const char *name);
