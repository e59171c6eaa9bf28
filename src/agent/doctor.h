/* What `doctor` looks at, one file a subject. Must never change anything, and a check that cannot
 * be made says so instead of passing. */
#pragma once

#include "agent/config.h"
#include "agent/paths.h"
#include "base/json.h"

enum doctor_result { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

struct doctor {
    struct paths paths;
    struct config config;
    bool json, offline;
    json_t *lines;
    unsigned failed, warned;
};

/* One line. `way_out` is shown unless all is well; NULL: the text says it. */
void doctor_say(struct doctor *doctor, enum doctor_result result, const char *what,
                const char *way_out, const char *format, ...) __attribute__((format(printf, 5, 6)));

void doctor_files(struct doctor *doctor);  /* keys, permissions, space, queued reports */
void doctor_agent(struct doctor *doctor);  /* does it run, is it snoozed */
void doctor_server(struct doctor *doctor); /* reached with its certificate, clock, halts' list */
void doctor_product(struct doctor *doctor, const struct config_product *product);
/* Does `link` lead into the current slot, and can no package write through it? */
void doctor_link(struct doctor *doctor, const struct config_product *product, const char *dir);
/* A slot that is not as it was staged: are there folders of packages in it? Says so, then. */
bool doctor_folders(struct doctor *doctor, const struct config_product *product, const char *dir,
                    const char *release);
