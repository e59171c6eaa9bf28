#include "release/manifest.h"

#include "base/buf.h"
#include "base/encode.h"
#include "base/parse.h"
#include "base/yaml.h"
#include "release/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FORMAT_VERSION 1
#define DESCRIPTION_MAX 1024
#define CONSTRAINT_MAX 512
#define PROBES_MAX 64
#define EXCLUDE_MAX 64
#define HOUR 3600.0
#define KIB UINT64_C(1024)
#define SIZE_MAX_PAYLOAD (INT64_C(1) << 46) /* 64 TiB: no sum of two overflows */

static const char *const permission_names[] = {"files",  "reload", "restart",
                                               "kernel", "state",  NULL};
static const char *const mode_names[] = {"reload", "restart", NULL};

static void read_format(const struct object *root)
{
    int64_t version = 0;

    read_integer(root, "maeslant", NEED, INT64_MIN, INT64_MAX, &version);
    if (reader_ok(root) && version != FORMAT_VERSION)
        reader_fail(root, "maeslant",
                    root->reader->mode == MANIFEST_DEVICE ? -EPROTONOSUPPORT : -EINVAL,
                    "%" PRId64 " is a version of the format that this program does not know; it "
                    "knows %d",
                    version, FORMAT_VERSION);
}

static void read_contracts(const struct object *root, struct manifest *ret)
{
    read_pairs(root, "requires", &ret->requires, &ret->requires_count);
    read_pairs(root, "provides", &ret->provides, &ret->provides_count);
    for (size_t i = 0; i < ret->requires_count; i++) {
        const struct pair_text *pair = &ret->requires[i];
        _cleanup_free_ char *place = xasprintf("requires.%s", pair->name);

        if (!is_name(pair->name))
            reader_fail(root, place, -EINVAL, "\"%.80s\" is no name of a contract", pair->name);
        else if (strlen(pair->value) > CONSTRAINT_MAX || constraint_check(pair->value) < 0)
            reader_fail(root, place, -EINVAL,
                        "\"%.80s\" is no constraint; expected =v, >=v, <=v, >v or <v, several "
                        "joined with commas",
                        pair->value);
    }
    for (size_t i = 0; i < ret->provides_count; i++) {
        const struct pair_text *pair = &ret->provides[i];
        _cleanup_free_ char *place = xasprintf("provides.%s", pair->name);

        /* A value is what a constraint without a sign and without commas could name. */
        if (!is_name(pair->name))
            reader_fail(root, place, -EINVAL, "\"%.80s\" is no name of a contract", pair->name);
        else if (constraint_check(pair->value) < 0 || strpbrk(pair->value, "=<>, "))
            reader_fail(root, place, -EINVAL,
                        "\"%.80s\" is no version; expected 1 to 128 bytes of letters, digits and "
                        "._+-~:",
                        pair->value);
    }
}

static bool list_has(char *const *list, const char *text)
{
    for (; *list; list++)
        if (strcmp(*list, text) == 0)
            return true;
    return false;
}

static void check_permissions(const struct object *root, const struct manifest *manifest)
{
    for (size_t i = 0; manifest->permissions[i]; i++) {
        const char *name = manifest->permissions[i];
        _cleanup_free_ char *place = xasprintf("permissions[%zu]", i);
        bool known = false;

        for (size_t j = 0; permission_names[j]; j++)
            known = known || strcmp(permission_names[j], name) == 0;
        if (!known) /* a device that passed over it could not refuse it */
            reader_fail(root, place,
                        root->reader->mode == MANIFEST_DEVICE ? -EPROTONOSUPPORT : -EINVAL,
                        "\"%.80s\" is no known permission; expected files, reload, restart, kernel "
                        "or state",
                        name);
        for (size_t j = 0; j < i; j++)
            if (strcmp(manifest->permissions[j], name) == 0)
                reader_fail(root, place, -EINVAL, "\"%.80s\" is there twice", name);
    }
}

/* Absent permissions are what the release cannot do without; those that are written have to hold
 * it. */
static void read_permissions(const struct object *root, struct manifest *ret)
{
    const char *needed[] = {"files", mode_names[ret->mode]};

    if (!reader_ok(root))
        return;
    if (!json_object_get(root->json, "permissions")) {
        text_list_free(ret->permissions);
        ret->permissions = xcalloc(ARRAY_SIZE(needed) + 1, sizeof(char *));
        for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
            ret->permissions[i] = xstrdup(needed[i]);
        return;
    }
    read_list(root, "permissions", MAY, &ret->permissions);
    if (!reader_ok(root))
        return;
    check_permissions(root, ret);
    if (!list_has(ret->permissions, "files"))
        reader_fail(root, "permissions", -EINVAL, "lacks files, which every payload needs");
    if (!list_has(ret->permissions, needed[1]))
        reader_fail(root, "permissions", -EINVAL, "lacks %s, which adapter.mode: %s needs",
                    needed[1], needed[1]);
}

/* True for a path that stays where it says: absolute, or below a variable, without "..". */
static bool is_state_path(const char *path)
{
    if (path[0] != '/' && strncmp(path, "${", 2) != 0)
        return false;
    for (const char *part = path; (part = strstr(part, "..")); part += 2)
        if ((part == path || part[-1] == '/') && (part[2] == '/' || part[2] == '\0'))
            return false;
    return true;
}

static void read_state(const struct object *root, struct manifest *ret)
{
    static const char *const choices[] = {"compatible", "snapshot", "irreversible", NULL};
    struct object state;
    int on_revert = STATE_COMPATIBLE;

    read_object(root, "state", MAY, "state", &state);
    read_list(&state, "paths", MAY, &ret->state_paths);
    for (size_t i = 0; reader_ok(root) && ret->state_paths[i]; i++) {
        _cleanup_free_ char *place = xasprintf("paths[%zu]", i);

        if (!is_state_path(ret->state_paths[i]))
            reader_fail(&state, place, -EINVAL,
                        "\"%.120s\" is no place of state; expected an absolute path without ..",
                        ret->state_paths[i]);
    }
    read_choice(&state, "on_revert", MAY, choices, &on_revert);
    ret->on_revert = (enum on_revert)on_revert;
}

/* The program of an adapter is never looked for in a PATH. */
static void check_absolute(const struct object *adapter, const char *key, char *const *command)
{
    _cleanup_free_ char *place = xasprintf("%s[0]", key);

    if (reader_ok(adapter) && command && command[0][0] != '/' && strncmp(command[0], "${", 2) != 0)
        reader_fail(adapter, place, -EINVAL,
                    "\"%.120s\" is no absolute path; expected one that begins with / or with a "
                    "variable such as ${product_dir}",
                    command[0]);
}

static void read_adapter(const struct object *root, struct manifest *ret)
{
    static const char *const kinds[] = {"command", NULL};
    struct object adapter;
    int kind = 0, mode = ADAPTER_RELOAD;

    ret->adapter_timeout = 30;
    read_object(root, "adapter", NEED, "adapter", &adapter);
    read_choice(&adapter, "kind", NEED, kinds, &kind);
    read_command(&adapter, "activate", NEED, &ret->activate);
    check_absolute(&adapter, "activate", ret->activate);
    read_choice(&adapter, "mode", NEED, mode_names, &mode);
    ret->mode = (enum adapter_mode)mode;
    read_duration(&adapter, "timeout", 0.01, HOUR, &ret->adapter_timeout);
    read_command(&adapter, "deactivate", MAY, &ret->deactivate);
    check_absolute(&adapter, "deactivate", ret->deactivate);
    read_bool(&adapter, "disturbs", &ret->disturbs);
}

/* The list at `key`, at most `max` long; NULL when it is absent or refused. */
static const json_t *member_list(const struct object *root, const char *key, size_t max)
{
    const json_t *list = json_object_get(root->json, key);

    if (!reader_ok(root) || !list || json_is_null(list))
        return NULL;
    if (!json_is_array(list)) {
        reader_fail(root, key, -EINVAL, "is no list");
        return NULL;
    }
    if (json_array_size(list) > max) {
        reader_fail(root, key, -EINVAL, "has %zu items, at most %zu are allowed",
                    json_array_size(list), max);
        return NULL;
    }
    return list;
}

static void read_probes(const struct object *root, struct manifest *ret)
{
    const json_t *list = member_list(root, "probes", PROBES_MAX), *item;
    size_t i;

    if (reader_ok(root) && (!list || json_array_size(list) == 0))
        reader_fail(root, "probes", -EINVAL,
                    "names no probe; without one nobody can tell whether the release is healthy");
    if (!list || !reader_ok(root))
        return;
    ret->probes = xcalloc(json_array_size(list), sizeof(*ret->probes));
    json_array_foreach(list, i, item)
    {
        struct object probe = {.reader = root->reader, .json = item, .kind = "probes"};

        (void)snprintf(probe.path, sizeof(probe.path), "probes[%zu]", i);
        if (!json_is_object(item)) {
            reader_fail(&probe, NULL, -EINVAL, "is no map with name, kind, …");
            return;
        }
        reader_only(&probe);
        ret->probe_count++;
        read_check(&probe, &ret->probes[i]);
        for (size_t j = 0; reader_ok(root) && j < i; j++)
            if (strcmp(ret->probes[j].name, ret->probes[i].name) == 0)
                reader_fail(&probe, "name", -EINVAL,
                            "\"%s\" is the name of probes[%zu] already; names are unique",
                            ret->probes[i].name, j);
    }
}

static void read_step(const struct object *lab, const char *key, const char *kind,
                      struct lab_step *ret)
{
    struct object step;

    *ret = (struct lab_step){
        .timeout = 60, .memory = KIB * KIB * KIB, .output = 64 * KIB, .file_size = 64 * KIB * KIB};
    read_object(lab, key, MAY, kind, &step);
    if (!step.json)
        return;
    read_command(&step, "command", NEED, &ret->command);
    read_duration(&step, "timeout", 0.01, HOUR, &ret->timeout);
    read_size(&step, "memory", KIB * KIB, 1024 * KIB * KIB * KIB, &ret->memory);
    read_size(&step, "output", 0, 64 * KIB * KIB, &ret->output);
    read_size(&step, "file_size", 0, 1024 * KIB * KIB * KIB, &ret->file_size);
}

static void read_lab(const struct object *root, struct manifest *ret)
{
    struct object lab;

    read_object(root, "lab", MAY, "lab", &lab);
    read_step(&lab, "validate", "lab.validate", &ret->validate);
    read_step(&lab, "load", "lab.load", &ret->load);
}

static void read_exclude(const struct object *root, struct manifest *ret)
{
    const json_t *list = member_list(root, "exclude", EXCLUDE_MAX), *item;
    size_t i;

    if (!list)
        return;
    ret->exclude = xcalloc(json_array_size(list) + 1, sizeof(*ret->exclude));
    json_array_foreach(list, i, item)
    {
        _cleanup_free_ char *place = xasprintf("exclude[%zu]", i);
        const char *name;
        json_t *value;

        if (json_object_size(item) != 1) {
            reader_fail(root, place, -EINVAL,
                        "is no attribute with its value; expected one such as {os: debian-11}");
            return;
        }
        json_object_foreach((json_t *)item, name, value)
        {
            struct pair_text *pair = &ret->exclude[i];

            if (!is_name(name))
                reader_fail(root, place, -EINVAL, "\"%.80s\" is no name of an attribute", name);
            pair->value = reader_scalar(root, place, value, 128);
            if (!pair->value)
                return;
            pair->name = xstrdup(name);
            ret->exclude_count = i + 1;
        }
    }
}

/* Only the control plane obeys the policy: a device that knew fewer keys could not refuse the
 * release for one of them. */
static void read_policy(const struct object *root, struct manifest *ret)
{
    const json_t *value = json_object_get(root->json, "policy");
    struct error error = ERROR_INIT;
    _cleanup_free_ char *place = NULL;
    const char *text;

    if (!reader_ok(root) || !value || root->reader->mode == MANIFEST_DEVICE)
        return;
    if (policy_parse(value, &ret->policy, &error) == 0) {
        ret->has_policy = true;
        return;
    }
    /* Its sentences begin with the member: "policy.soak is …", "policy.stages[1]: …". */
    text = error.text;
    if (strncmp(text, "policy", 6) == 0) {
        size_t len = strcspn(text, " :");

        place = xstrndup(text, len);
        text += len;
        text += strspn(text, " :");
    } else {
        place = xstrdup("policy");
    }
    reader_fail(root, place, -EINVAL, "%s", text);
}

static void read_payload(const struct object *root, struct manifest *ret)
{
    struct object payload;
    _cleanup_free_ char *digest = NULL;
    int64_t size = 0, unpacked = 0, files = 0;

    if (root->reader->mode == MANIFEST_SOURCE) {
        if (reader_ok(root) && json_object_get(root->json, "payload"))
            reader_fail(root, "payload", -EINVAL,
                        "is written by release build; leave it out of the source");
        return;
    }
    read_object(root, "payload", NEED, "payload", &payload);
    read_text(&payload, "sha256", NEED, 4096, &digest);
    if (reader_ok(root) && !is_digest(digest))
        reader_fail(&payload, "sha256", -EINVAL,
                    "\"%.80s\" is no SHA-256; expected 64 lower-case hex digits", digest);
    read_integer(&payload, "size", NEED, 1, SIZE_MAX_PAYLOAD, &size);
    read_integer(&payload, "unpacked", NEED, 0, SIZE_MAX_PAYLOAD, &unpacked);
    read_integer(&payload, "files", NEED, 1, 10 * 1000 * 1000, &files);
    if (!reader_ok(root))
        return;
    memcpy(ret->payload_sha256, digest, sizeof(ret->payload_sha256));
    ret->payload_size = (uint64_t)size;
    ret->payload_unpacked = (uint64_t)unpacked;
    ret->payload_files = (uint64_t)files;
    ret->has_payload = true;
}

/* Every string below `value`, whatever its key: nobody forgets one that is added later. */
static void check_variables(const struct object *root, const char *path, const json_t *value,
                            const char *const *known)
{
    struct error error = ERROR_INIT;

    if (!reader_ok(root))
        return;
    if (json_is_string(value)) {
        if (substitute_check(json_string_value(value), known, &error) < 0)
            reader_fail(root, path, -EINVAL, "%s", error.text);
    } else if (json_is_array(value)) {
        const json_t *item;
        size_t i;

        json_array_foreach(value, i, item)
        {
            _cleanup_free_ char *below = xasprintf("%s[%zu]", path, i);

            check_variables(root, below, item, known);
        }
    } else if (json_is_object(value)) {
        const char *key;
        json_t *item;

        json_object_foreach((json_t *)value, key, item)
        {
            _cleanup_free_ char *below = xasprintf("%s.%s", path, key);

            check_variables(root, below, item, known);
        }
    }
}

static void check_substitution(const struct object *root)
{
    static const char *const of_device[] = {"state", "adapter", "active", "probes"};
    static const char *const of_lab[] = {"payload", "scratch", "digest", "release", NULL};

    for (size_t i = 0; i < ARRAY_SIZE(of_device); i++)
        check_variables(root, of_device[i], json_object_get(root->json, of_device[i]), NULL);
    if (root->reader->mode != MANIFEST_DEVICE)
        check_variables(root, "lab", json_object_get(root->json, "lab"), of_lab);
}

static void read_all(struct reader *reader, struct manifest *ret)
{
    struct object root = {.reader = reader, .json = reader->root, .kind = ""};
    int64_t sequence = 0;

    read_format(&root);
    read_list(&root, "critical", MAY, &ret->critical);
    reader->critical = ret->critical;
    reader_critical(&root);
    reader_only(&root);

    read_name(&root, "product", NEED, &ret->product);
    read_name(&root, "channel", NEED, &ret->channel);
    read_name(&root, "version", NEED, &ret->version);
    read_integer(&root, "sequence", NEED, 1, INT64_MAX, &sequence);
    ret->sequence = (uint64_t)sequence;
    read_text(&root, "description", MAY, DESCRIPTION_MAX, &ret->description);
    read_contracts(&root, ret);
    read_bool(&root, "repairs", &ret->repairs);
    read_state(&root, ret);
    read_adapter(&root, ret);
    read_permissions(&root, ret);

    struct object active;
    read_object(&root, "active", NEED, "active", &active);
    read_active(&active, &ret->active);
    read_probes(&root, ret);
    if (reader->mode != MANIFEST_DEVICE)
        read_lab(&root, ret);
    read_exclude(&root, ret);
    read_policy(&root, ret);
    read_payload(&root, ret);
    check_substitution(&root);
}

int manifest_parse(const char *text, size_t len, enum manifest_for mode, struct manifest *ret,
                   struct error *error)
{
    _cleanup_json_ json_t *root = NULL;
    struct error own = ERROR_INIT;
    struct reader reader = {.text = text, .len = len, .mode = mode, .error = error ? error : &own};
    int r;

    *ret = (struct manifest){0};
    if (len > MANIFEST_MAX)
        return error_set(error, -EFBIG, "the manifest has %zu bytes, at most %d are allowed", len,
                         MANIFEST_MAX);
    r = yaml_parse(text, len, &root, error);
    if (r < 0)
        return error_prefix(error, r, "manifest");
    if (!json_is_object(root))
        return error_set(error, -EINVAL,
                         "manifest line 1, column 1: the file is no map; expected maeslant: 1, "
                         "product: …");
    reader.root = root;
    ret->critical = xcalloc(1, sizeof(char *));
    ret->permissions = xcalloc(1, sizeof(char *));
    ret->state_paths = xcalloc(1, sizeof(char *));
    read_all(&reader, ret);
    if (reader.result < 0) {
        manifest_free(ret);
        return reader.result;
    }
    sha256_hex(text, len, ret->release);
    return 0;
}

static void free_pairs(struct pair_text *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(pairs[i].name);
        free(pairs[i].value);
    }
    free(pairs);
}

void manifest_free(struct manifest *manifest)
{
    free(manifest->product);
    free(manifest->channel);
    free(manifest->version);
    free(manifest->description);
    free_pairs(manifest->requires, manifest->requires_count);
    free_pairs(manifest->provides, manifest->provides_count);
    free_pairs(manifest->exclude, manifest->exclude_count);
    text_list_free(manifest->critical);
    text_list_free(manifest->permissions);
    text_list_free(manifest->state_paths);
    text_list_free(manifest->activate);
    text_list_free(manifest->deactivate);
    check_clear(&manifest->active);
    for (size_t i = 0; i < manifest->probe_count; i++)
        check_clear(&manifest->probes[i]);
    free(manifest->probes);
    text_list_free(manifest->validate.command);
    text_list_free(manifest->load.command);
    if (manifest->has_policy)
        policy_free(&manifest->policy);
    *manifest = (struct manifest){0};
}
