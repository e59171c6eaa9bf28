/* Where the agent's files lie, all below one root. Links inside the root are followed as if the
 * root were "/", so nothing is ever written outside of it. */
#pragma once

#include "base/error.h"

struct paths {
    char *root;  /* real path; "" for "/" */
    char *etc;   /* <root>/etc/maeslant */
    char *state; /* <root>/var/lib/maeslant, 0700 */
    char *run;   /* <root>/run/maeslant, 0755 */
};

/* Makes the folders that are missing. */
int paths_open(const char *root, struct paths *ret, struct error *error);
/* The same for one who only looks: makes nothing, and a folder that is missing or closed to him has
 * the name that it would have. */
int paths_find(const char *root, struct paths *ret, struct error *error);
void paths_free(struct paths *paths);
/* A file that the configuration names, below the root; owned by the caller. */
char *paths_below(const struct paths *paths, const char *path);
/* Where `path` really lies: links in its folders are followed as if the root were "/", its last
 * name is not. -ENOENT when its folder is not there. */
int paths_resolve(const struct paths *paths, const char *path, char **ret, struct error *error);
/* The same name as one inside the root sees it; NULL when it is not below the root. */
const char *paths_inside(const struct paths *paths, const char *path);
