#include "agent/stage.h"

#include "agent/client.h"
#include "agent/conditions.h"
#include "agent/slot.h"
#include "base/buf.h"
#include "base/encode.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RESERVE (1024 * 1024) /* manifest, links, journal */

static int fetch_manifest(struct product *product, const struct plan_release *offer,
                          struct reply *ret, struct error *error)
{
    _cleanup_free_ char *path = xasprintf("/v1/artifacts/%s", offer->release);
    char sum[SHA256_HEX_SIZE];
    int r = client_get(product->agent, product->http, path, NULL, NULL, MANIFEST_MAX, 30,
                       product->agent->stop_fd, ret, error);

    if (r < 0)
        return r;
    if (ret->status != 200)
        return error_set(error, -EIO, "manifest %.12s…: %s", offer->release,
                         ret->problem ? ret->problem : "an empty answer");
    sha256_hex(ret->text, ret->len, sum);
    if (strcmp(sum, offer->release) != 0)
        return error_set(error, -EBADMSG, "the server sent a manifest with SHA-256 %s: expected %s",
                         sum, offer->release);
    return 0;
}

static int check_offer(const struct product *product, const struct plan_release *offer,
                       const struct manifest *manifest, struct error *error)
{
    if (strcmp(manifest->product, product->config->name) != 0 ||
        strcmp(manifest->channel, product->config->channel) != 0)
        return error_set(error, -EBADMSG, "the manifest is for %s/%s: expected %s/%s",
                         manifest->product, manifest->channel, product->config->name,
                         product->config->channel);
    if (manifest->sequence != offer->sequence)
        return error_set(error, -EBADMSG,
                         "the manifest has sequence %llu, the plan says %llu: expected the same",
                         (unsigned long long)manifest->sequence,
                         (unsigned long long)offer->sequence);
    if (strcmp(manifest->payload_sha256, offer->payload_sha256) != 0 ||
        manifest->payload_size != offer->payload_size)
        return error_set(error, -EBADMSG, "the plan's payload %.12s… is not the manifest's %.12s…",
                         offer->payload_sha256, manifest->payload_sha256);
    return 0;
}

static int check_space(struct product *product, const struct manifest *manifest,
                       struct error *error)
{
    uint64_t free_bytes = 0, need;
    int r = space_free(AT_FDCWD, product->dir, &free_bytes, error);

    if (r < 0)
        return r;
    if (__builtin_add_overflow(manifest->payload_size, manifest->payload_unpacked, &need) ||
        __builtin_add_overflow(need, product->agent->config.min_free + RESERVE, &need) ||
        free_bytes < need)
        return error_set(error, -ENOSPC,
                         "%llu bytes are free for it: expected %llu with min_free; make room or "
                         "lower min_free in agent.yaml",
                         (unsigned long long)free_bytes, (unsigned long long)need);
    return 0;
}

static int fetch_payload(struct product *product, const struct manifest *manifest, const char *path,
                         struct error *error)
{
    _cleanup_free_ char *url = xasprintf("/v1/artifacts/%s", manifest->payload_sha256);

    return http_download(product->http, url, path, manifest->payload_size, manifest->payload_sha256,
                         0, product->agent->stop_fd, error);
}

static int stage_payload(struct product *product, const struct plan_release *offer,
                         const struct manifest *manifest, const struct reply *text,
                         const char **ret_reason, struct error *error)
{
    _cleanup_free_ char *archive =
        xasprintf("%s/download-%.16s", product->dir, manifest->payload_sha256);
    int r;

    *ret_reason = "disk";
    r = check_space(product, manifest, error);
    if (r < 0)
        return r;
    r = fetch_payload(product, manifest, archive, error);
    if (r < 0) {
        *ret_reason = r == -ENOSPC ? "disk" : r == -EBADMSG ? "payload" : "download";
        return r;
    }
    r = slot_stage(product->dir, manifest, text->text, text->len, offer->signature, archive, error);
    if (r < 0)
        *ret_reason = r == -ENOSPC || r == -EDQUOT || r == -EIO || r == -EROFS ? "disk" : "payload";
    (void)unlink(archive);
    return r;
}

int stage_release(struct product *product, const struct plan_release *offer,
                  const char **ret_reason, struct error *error)
{
    const struct agent *agent = product->agent;
    _cleanup_reply_ struct reply text = {0};
    struct manifest manifest = {0};
    int r;

    *ret_reason = "download";
    r = fetch_manifest(product, offer, &text, error);
    if (r < 0) {
        if (r == -EBADMSG)
            *ret_reason = "manifest";
        return r;
    }
    *ret_reason = "signature";
    r = manifest_verify(agent->identity.release_keys, agent->identity.release_key_count, text.text,
                        text.len, offer->signature, strlen(offer->signature), error);
    if (r < 0)
        return r;
    r = manifest_parse(text.text, text.len, MANIFEST_DEVICE, &manifest, error);
    *ret_reason = r == -EPROTONOSUPPORT ? "agent-too-old" : "manifest";
    if (r == 0)
        r = check_offer(product, offer, &manifest, error);
    if (r == 0) {
        *ret_reason = condition_fit(product, &manifest, error);
        if (**ret_reason)
            r = -EPERM;
    }
    if (r == 0)
        r = stage_payload(product, offer, &manifest, &text, ret_reason, error);
    manifest_free(&manifest);
    if (r == 0)
        log_info("staged", "%s: release %.12s… (%s)", product->config->name, offer->release,
                 offer->version);
    return r;
}
