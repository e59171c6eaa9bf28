/* What check.c, check-http.c, check-tcp.c and adapter.c share. Not for others. */
#pragma once

#include "agent/check.h"

static inline int check_fill(const char *text, const struct check_vars *vars, char **ret,
                             struct error *error)
{
    return substitute(text, vars->pairs, vars->count, ret, error);
}
/* Runs a command of the manifest and waits. `what` begins the sentence about it. 0 when it exited
 * with `expected`. Fills `ret` but for `passed`. */
int check_command(const char *what, char *const *command, const struct check_vars *vars,
                  double timeout, int expected, int cancel_fd, struct check_result *ret,
                  struct error *error);

int check_http(const struct check *check, const struct check_vars *vars, int cancel_fd,
               struct error *error);
/* Body of a GET of `check->url` with status 200, at most `limit` bytes. */
int check_http_body(const struct check *check, const struct check_vars *vars, size_t limit,
                    int cancel_fd, struct buf *ret, struct error *error);
int check_tcp(const struct check *check, const struct check_vars *vars, int cancel_fd,
              struct error *error);

/* 0, or -EPERM: neither loopback nor among `hosts`. `host` without brackets. */
int check_host(const char *host, char *const *hosts, struct error *error);
