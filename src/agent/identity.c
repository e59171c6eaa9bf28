#include "agent/identity.h"

#include "base/encode.h"
#include "base/file.h"
#include "base/log.h"
#include "trust/envelope.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define IDENTITY_MAX (64 * 1024)

static char *state_file(const struct paths *paths, const char *name)
{
    return path_join(paths->state, name);
}

static int add_line(struct buf *buf, const char *path, struct error *error)
{
    int r = file_read(AT_FDCWD, path, 256, buf, error);

    while (buf->len > 0 && (buf->data[buf->len - 1] == '\n' || buf->data[buf->len - 1] == ' '))
        buf->data[--buf->len] = '\0';
    if (r == 0)
        buf_add_str(buf, "\n");
    return r;
}

int machine_digest(const struct paths *paths, char ret[static 65], struct error *error)
{
    _cleanup_free_ char *id = paths_below(paths, "/etc/machine-id");
    _cleanup_free_ char *uuid = paths_below(paths, "/sys/class/dmi/id/product_uuid");
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = add_line(&text, id, error);

    if (r == 0 && text.len < 2)
        r = error_set(error, -EINVAL, "%s is empty: expected the machine's id", id);
    if (r < 0)
        return error_prefix(error, r,
                            "the device key is bound to the machine-id (systemd-machine-id-setup "
                            "makes one)");
    /* sysfs files have size 0 and are not readable by everybody: then machine-id stands alone. */
    (void)add_line(&text, uuid, NULL);
    sha256_hex(text.data, text.len, ret);
    return 0;
}

int identity_key(const struct paths *paths, struct secret_key *ret, struct error *error)
{
    _cleanup_free_ char *path = state_file(paths, "device.key");

    if (access(path, F_OK) == 0)
        return key_secret_load(path, ret, error);
    key_generate(ret);
    return key_save(ret, path, NULL, error);
}

static int read_keys(const json_t *list, const char *name, struct public_key **ret,
                     size_t *ret_count, struct error *error)
{
    const json_t *item;
    size_t i, len;

    *ret = xcalloc(json_array_size(list) + 1, sizeof(**ret));
    json_array_foreach((json_t *)(uintptr_t)list, i, item)
    {
        const char *text = json_string_value(item);

        if (!text ||
            base64_decode(text, strlen(text), (*ret)[i].bytes, KEY_PUBLIC_SIZE, &len) < 0 ||
            len != KEY_PUBLIC_SIZE)
            return error_set(error, -EINVAL,
                             "bundle: %s[%zu] is no public key: expected base64 of 32 bytes", name,
                             i);
        (*ret_count)++;
    }
    return 0;
}

static int read_key(const json_t *object, const char *name, struct public_key *ret,
                    struct error *error)
{
    const char *text;
    size_t len;
    int r = json_need_string(object, "bundle", name, 64, &text, error);

    if (r < 0)
        return r;
    if (base64_decode(text, strlen(text), ret->bytes, KEY_PUBLIC_SIZE, &len) < 0 ||
        len != KEY_PUBLIC_SIZE)
        return error_set(error, -EINVAL,
                         "bundle.%s is \"%s\": expected base64 of a 32-byte public key", name,
                         text);
    return 0;
}

int bundle_enrolment_key(const char *bundle, size_t len, struct public_key *ret,
                         struct error *error)
{
    _cleanup_json_ json_t *envelope = NULL;
    _cleanup_json_ json_t *inner = NULL;
    _cleanup_json_ json_t *checked = NULL;
    const char *text;
    int r = json_parse(bundle, len, &envelope, error);

    if (r == 0 && !json_is_object(envelope))
        r = error_set(error, -EINVAL, "the bundle is no envelope: expected a JSON object");
    if (r == 0)
        r = json_need_string(envelope, "bundle", "signed", IDENTITY_MAX, &text, error);
    if (r == 0)
        r = json_parse(text, strlen(text), &inner, error);
    if (r == 0)
        r = read_key(inner, "enrolment_key", ret, error);
    return r == 0 ? envelope_open(ret, CONTEXT_BUNDLE, bundle, len, &checked, error) : r;
}

static int read_bundle(const char *text, size_t len, struct identity *ret, struct error *error)
{
    _cleanup_json_ json_t *bundle = NULL;
    const json_t *keys = NULL;
    int r = bundle_enrolment_key(text, len, &ret->enrolment_key, error);

    if (r == 0)
        r = envelope_open(&ret->enrolment_key, CONTEXT_BUNDLE, text, len, &bundle, error);
    if (r == 0)
        r = read_key(bundle, "server_key", &ret->server_key, error);
    if (r == 0)
        r = json_need(bundle, "bundle", "release_keys", JSON_ARRAY, &keys, error);
    if (r == 0)
        r = read_keys(keys, "release_keys", &ret->release_keys, &ret->release_key_count, error);
    return r;
}

static int copy_member(const json_t *object, const char *name, char *ret, size_t size,
                       struct error *error)
{
    const char *text;
    int r = json_need_string(object, "certificate", name, size - 1, &text, error);

    if (r == 0)
        memcpy(ret, text, strlen(text) + 1);
    return r;
}

static int read_certificate(const char *text, size_t len, struct identity *ret, struct error *error)
{
    _cleanup_json_ json_t *certificate = NULL;
    int r = envelope_open(&ret->enrolment_key, CONTEXT_CERTIFICATE, text, len, &certificate, error);

    if (r == 0)
        r = copy_member(certificate, "device", ret->device, sizeof(ret->device), error);
    if (r == 0)
        r = copy_member(certificate, "machine", ret->machine, sizeof(ret->machine), error);
    if (r == 0)
        r = copy_member(certificate, "organisation", ret->organisation, sizeof(ret->organisation),
                        error);
    if (r == 0)
        r = copy_member(certificate, "ring", ret->ring, sizeof(ret->ring), error);
    return r;
}

static int check_device(const struct secret_key *key, const struct identity *identity,
                        struct error *error)
{
    char device[65];

    key_device_id(&key->public, device);
    if (strcmp(device, identity->device) != 0)
        return error_set(error, -EBADMSG,
                         "the certificate is for device %.16s…, this device's key makes %.16s…: "
                         "enrol again",
                         identity->device, device);
    return 0;
}

int identity_save(const struct paths *paths, const struct secret_key *key, const char *machine,
                  const char *certificate, const char *bundle, const struct public_key *pinned,
                  struct error *error)
{
    _cleanup_free_ char *certificate_path = state_file(paths, "certificate.json");
    _cleanup_free_ char *bundle_path = state_file(paths, "bundle.json");
    struct identity identity = {0};
    int r = read_bundle(bundle, strlen(bundle), &identity, error);

    if (r == 0 && pinned &&
        memcmp(pinned->bytes, identity.enrolment_key.bytes, KEY_PUBLIC_SIZE) != 0)
        r = error_set(error, -EBADMSG,
                      "the server's bundle is signed by another organisation than the one given: "
                      "check the server in agent.yaml");
    if (r == 0)
        r = read_certificate(certificate, strlen(certificate), &identity, error);
    if (r == 0)
        r = check_device(key, &identity, error);
    if (r == 0 && strcmp(identity.machine, machine) != 0)
        r = error_set(error, -EBADMSG, "the certificate names another machine: expected %.16s…",
                      machine);
    if (r == 0)
        r = file_write(AT_FDCWD, bundle_path, bundle, strlen(bundle), 0600, error);
    if (r == 0) /* last: with it the device is enrolled */
        r = file_write(AT_FDCWD, certificate_path, certificate, strlen(certificate), 0600, error);
    free(identity.release_keys);
    return r;
}

int identity_load(const struct paths *paths, struct identity *ret, struct error *error)
{
    _cleanup_free_ char *certificate_path = state_file(paths, "certificate.json");
    _cleanup_free_ char *bundle_path = state_file(paths, "bundle.json");
    _cleanup_free_ char *key_path = state_file(paths, "device.key");
    _cleanup_buf_ struct buf certificate = BUF_INIT;
    _cleanup_buf_ struct buf bundle = BUF_INIT;
    char machine[65];
    int r;

    *ret = (struct identity){0};
    r = file_read(AT_FDCWD, certificate_path, IDENTITY_MAX, &certificate, error);
    if (r == -ENOENT)
        return error_set(error, r,
                         "this device is not enrolled: run maeslant-agent enroll --token-file FILE "
                         "with a token from maeslant device enroll");
    if (r == 0)
        r = file_read(AT_FDCWD, bundle_path, IDENTITY_MAX, &bundle, error);
    if (r == 0)
        r = key_secret_load(key_path, &ret->key, error);
    if (r == 0)
        r = machine_digest(paths, machine, error);
    if (r == 0)
        r = read_bundle(bundle.data ? bundle.data : "", bundle.len, ret, error);
    if (r == 0)
        r = read_certificate(certificate.data, certificate.len, ret, error);
    if (r == 0)
        r = check_device(&ret->key, ret, error);
    if (r == 0 && strcmp(machine, ret->machine) != 0)
        r = error_set(error, -EXDEV,
                      "the device key is bound to another machine (%.16s…, this one is %.16s…): an "
                      "image or a clone has to enrol as a new device; give it a token with "
                      "maeslant-agent enroll --token-file FILE",
                      ret->machine, machine);
    if (r < 0) {
        if (r == -ENOENT)
            r = -EBADMSG; /* half an identity is not "not enrolled" */
        identity_free(ret);
    }
    return r;
}

void identity_free(struct identity *identity)
{
    key_wipe(&identity->key);
    free(identity->release_keys);
    *identity = (struct identity){0};
}

int identity_retire(const struct paths *paths, struct error *error)
{
    static const char *const names[] = {"certificate.json", "bundle.json", "counter", "device.key"};
    _cleanup_free_ char *old = state_file(paths, "identity.old");
    _cleanup_free_ char *outbox = state_file(paths, "outbox");
    int r = tree_remove(AT_FDCWD, old, error);

    if (r == 0)
        r = dir_make(AT_FDCWD, old, 0700, error);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
        _cleanup_free_ char *from = state_file(paths, names[i]);
        _cleanup_free_ char *to = path_join(old, names[i]);

        if (access(from, F_OK) == 0)
            r = file_rename(AT_FDCWD, from, to, error);
    }
    if (r == 0)
        r = tree_remove(AT_FDCWD, outbox, error);
    if (r == 0)
        log_notice("identity-retired", "the old machine's identity lies in %s", old);
    return r;
}
