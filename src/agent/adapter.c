#include "agent/check-internal.h"

#include "base/text.h"

#include <errno.h>
#include <string.h>

static int run(char *const *command, const char *what, const struct check_vars *vars,
               double timeout, int cancel_fd, struct check_result *ret, struct error *error)
{
    struct error local = ERROR_INIT;
    int r;

    *ret = (struct check_result){.exit_status = -1};
    r = check_command(what, command, vars, timeout, 0, cancel_fd, ret, &local);
    ret->passed = r == 0;
    (void)text_escape(ret->text, sizeof(ret->text), local.text, strlen(local.text));
    if (r < 0 && r != -ECANCELED)
        r = -EIO;
    return r < 0 ? error_set(error, r, "%s", local.text) : 0;
}

int adapter_activate(const struct manifest *manifest, const struct check_vars *vars, int cancel_fd,
                     struct check_result *ret, struct error *error)
{
    return run(manifest->activate, "activate: ", vars, manifest->adapter_timeout, cancel_fd, ret,
               error);
}

int adapter_deactivate(const struct manifest *manifest, const struct check_vars *vars,
                       struct error *error)
{
    struct check_result result;

    if (!manifest->deactivate)
        return error_set(error, -ENOTSUP,
                         "release %.16s… has no adapter.deactivate: it can be replaced, not taken "
                         "away",
                         manifest->release);
    return run(manifest->deactivate, "deactivate: ", vars, manifest->adapter_timeout, -1, &result,
               error);
}
