/* detections.log of a run folder: one line a detection, "TIME WHAT PATH". At DETECTIONS_MAX_LOG
 * bytes it becomes detections.log.1, so that both never take more than twice that. */
#pragma once

#include "base/error.h"

#define DETECTIONS_MAX_LOG (256 * 1024)

/* `path` is shown with control bytes and bytes that are not UTF-8 as \xNN. */
int detections_add(int run_fd, const char *what, const char *path, struct error *error);
