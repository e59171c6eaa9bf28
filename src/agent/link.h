/* `link: PATH` of a product: where it reads its content becomes a symbolic link into the current
 * slot, and what stood there is kept until the product is removed. Files of packages below PATH are
 * diverted, so that no upgrade writes into a slot. Every step can be cut and goes on at the next
 * start. Must never let go of what stood at PATH before it is whole elsewhere. */
#pragma once

#include "agent/owned.h"

struct config_product;

enum link_stands {
    LINK_NOTHING, /* there is nothing at PATH */
    LINK_CONTENT, /* a folder: what a package or a person put there */
    LINK_OURS,    /* leads to the current slot's payload */
    LINK_FOREIGN, /* a file, or a link to elsewhere */
};

struct link {
    const struct paths *paths;
    const char *path; /* as configured */
    char *real;       /* the same, below the real root */
    char *target;     /* what the link holds, relative to its folder */
    char *aside;      /* beside `real`: on the same file system, for the exchange */
    char *kept;       /* <state>/<product>/diverted */
    char *original;   /* below it: what stood at PATH */
    char *package;    /* below it: where packages' files go meanwhile */
    char *done;       /* below it: the link was made */
    char *inside;     /* `package` as dpkg names it */
    enum link_stands stands;
    bool made, has_original;
};

/* `dir` is the product's folder. 0 without `link` too: then `ret->path` is NULL. */
int link_look(const struct paths *paths, const struct config_product *config, const char *dir,
              struct link *ret, struct error *error);
void link_free(struct link *link);
/* Files of packages below PATH, also once it is a link. */
int link_owned(const struct link *link, struct owned *ret, struct error *error);
/* Folders of packages that are there in a slot's payload; an upgrade makes them anew, also through
 * the link, and a folder cannot be diverted. */
int link_folders(const struct link *link, const char *payload, struct owned *ret,
                 struct error *error);
/* Removes them from a slot that is whole without them. */
void link_tidy(const struct link *link, const char *dir, const char *release);
/* Makes the link, or goes on making it. */
int link_make(struct link *link, struct error *error);
/* Puts back what stood at PATH, with what packages wrote meanwhile, and takes the diversions away.
 * Nothing to do is no error. */
int link_restore(struct link *link, struct error *error);
