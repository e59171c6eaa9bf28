/* The small X.509 authority that `maeslant init` makes, so that TLS 1.3 works on the first day.
 * ECDSA P-256 through OpenSSL 3. Must never write a private key readable by others. */
#pragma once

#include "base/error.h"

/* Makes ca.pem + ca.key and tls.pem + tls.key in `dir`. `names`: NULL-terminated DNS names and IP
 * addresses of the server. CA for 10 years, server certificate for 397 days. */
int ca_make(const char *dir, const char *const *names, struct error *error);
/* A new tls.pem + tls.key by the same CA. */
int ca_renew(const char *dir, const char *const *names, struct error *error);
