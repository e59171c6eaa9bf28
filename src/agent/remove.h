/* `maeslant-agent remove PRODUCT`: the product is no longer ours, and what it reads is again what a
 * package or a person put there. A trial ends first (rule 9). Every step can be cut and goes on:
 * the request is a file in the product's folder, which goes last. Must never take away what the
 * running product reads without having put something in its place. */
#pragma once

#include "agent/product.h"

enum remove_how {
    REMOVE_NOT,  /* nobody asked for it */
    REMOVE_WAIT, /* after the trial */
    REMOVE_NOW,  /* the trial reverts first */
};

/* Durable; `force`: also a product that has neither `deactivate` nor `link`. */
int remove_request(const char *dir, enum remove_how how, bool force, struct error *error);
enum remove_how remove_requested(const struct product *product);
/* A request that cannot be met, taken back with the sentence of why; NULL: there is none. */
char *remove_refusal(const char *dir);

/* In no trial: puts back, deactivates, and removes the product's folder. -EPERM: refused, and the
 * request is gone. */
int remove_product(struct product *product, struct error *error);
/* What a cut left of folders that were on their way out. */
void remove_leftovers(const char *state);
