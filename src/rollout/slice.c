#include "base/buf.h"
#include "rollout/internal.h"

#include <errno.h>
#include <string.h>

/* "organisation" names the device's organisation, unless it has an attribute of that name. */
static const char *value_of(const struct rollout_device *device, const char *name)
{
    for (size_t i = 0; i < device->attribute_count; i++)
        if (strcmp(device->attributes[i].name, name) == 0)
            return device->attributes[i].value;
    return strcmp(name, "organisation") == 0 ? device->organisation : NULL;
}

static bool slice_has(const struct slice *slice, const struct rollout_device *device)
{
    for (char *const *text = slice->texts; *text; text += 2) {
        const char *value = value_of(device, text[0]);
        if (!value || strcmp(value, text[1]) != 0)
            return false;
    }
    return true;
}

bool slices_exclude(const struct rollout *rollout, const struct rollout_device *device)
{
    for (size_t i = 0; i < rollout->excluded_count; i++)
        if (slice_has(&rollout->excluded[i], device))
            return true;
    return false;
}

int slices_init(struct rollout *rollout, const struct rollout_start *start, struct error *error)
{
    if (start->excluded_count == 0)
        return 0;
    rollout->excluded = xcalloc(start->excluded_count, sizeof *rollout->excluded);
    rollout->excluded_count = start->excluded_count;
    for (size_t i = 0; i < start->excluded_count; i++) {
        const struct rollout_slice *slice = &start->excluded[i];
        if (slice->attribute_count == 0)
            return error_set(error, -EINVAL,
                             "excluded[%zu] names no attribute: it would leave out every device",
                             i);
        char **texts = xcalloc(2 * slice->attribute_count + 1, sizeof *texts);
        for (size_t j = 0; j < slice->attribute_count; j++) {
            texts[2 * j] = xstrdup(slice->attributes[j].name);
            texts[2 * j + 1] = xstrdup(slice->attributes[j].value);
        }
        rollout->excluded[i].texts = texts;
    }
    return 0;
}

void slices_free(struct rollout *rollout)
{
    for (size_t i = 0; i < rollout->excluded_count; i++) {
        for (char **text = rollout->excluded[i].texts; text && *text; text++)
            free(*text);
        free(rollout->excluded[i].texts);
    }
    free(rollout->excluded);
}
