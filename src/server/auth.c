#include "server/front-internal.h"

#include "base/encode.h"
#include "http/problem.h"

#include <sodium.h>
#include <string.h>

#define COOKIE "maeslant_session="
#define SESSION_CONTEXT "maeslant session v1\n"

static void session_of(const char *token, char ret[static 65])
{
    _cleanup_free_ char *text = xasprintf(SESSION_CONTEXT "%s", token);
    sha256_hex(text, strlen(text), ret);
    sodium_memzero(text, strlen(text));
}

void auth_init(struct front *front, const char *admin_token, const char *viewer_token)
{
    sha256(admin_token, strlen(admin_token), front->admin_hash);
    sha256(viewer_token, strlen(viewer_token), front->viewer_hash);
    session_of(admin_token, front->admin_session);
    session_of(viewer_token, front->viewer_session);
}

static enum role role_of_token(const struct front *front, const char *token, size_t len)
{
    uint8_t hash[32];
    sha256(token, len, hash);
    if (sodium_memcmp(hash, front->admin_hash, sizeof hash) == 0)
        return ROLE_ADMIN;
    return sodium_memcmp(hash, front->viewer_hash, sizeof hash) == 0 ? ROLE_VIEWER : ROLE_NONE;
}

enum role auth_role(const struct front *front, const struct http_exchange *exchange)
{
    const char *header = http_header(exchange, "Authorization");
    if (header)
        return strncmp(header, "Bearer ", 7) == 0
                   ? role_of_token(front, header + 7, strlen(header + 7))
                   : ROLE_NONE;
    const char *cookie = http_header(exchange, "Cookie");
    const char *session = cookie ? strstr(cookie, COOKIE) : NULL;
    if (!session || strlen(session + strlen(COOKIE)) < 64)
        return ROLE_NONE;
    session += strlen(COOKIE);
    return sodium_memcmp(session, front->viewer_session, 64) == 0 ||
                   sodium_memcmp(session, front->admin_session, 64) == 0
               ? ROLE_VIEWER
               : ROLE_NONE;
}

void auth_session(struct front *front, struct http_exchange *exchange)
{
    if (strcmp(http_method(exchange), "POST") != 0) {
        problem_method(exchange, "POST");
        return;
    }
    size_t len;
    const char *token = http_body(exchange, &len);
    enum role role = role_of_token(front, token ? token : "", len);
    if (role == ROLE_NONE) {
        http_problem(exchange, 403, "token", "That token opens nothing here",
                     "Take the text of viewer.token from the control plane's folder.",
                     "a token of %zu bytes", len);
        return;
    }
    _cleanup_free_ char *cookie =
        xasprintf(COOKIE "%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200%s",
                  role == ROLE_ADMIN ? front->admin_session : front->viewer_session,
                  front->tls ? "; Secure" : "");
    http_reply_header(exchange, "Set-Cookie", cookie);
    http_reply(exchange, 200, "application/json", "{}", 2);
}
