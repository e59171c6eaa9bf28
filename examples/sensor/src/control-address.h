/* The address of <run>/sensor.sock for both ends. */
#pragma once

#include "base/error.h"

#include <sys/un.h>

/* `run_fd` is the folder, open. Through /proc, because a socket's address holds 107 bytes and a
 * run folder's path may be longer. */
void control_address(int run_fd, struct sockaddr_un *ret);
