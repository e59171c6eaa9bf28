#include "server/engine-internal.h"

#include "base/encode.h"
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void answer_refuse(struct engine_request *request, unsigned status, const char *code,
                   const char *title, const char *remedy, const char *format, ...)
{
    char text[sizeof request->detail.text];
    va_list values;

    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    error_set(&request->detail, -1, "%s", text);
    free(request->text);
    request->text = NULL;
    request->status = status;
    request->code = code;
    request->title = title;
    request->remedy = remedy;
}

void answer_storage(struct engine_request *request, const struct error *error)
{
    answer_refuse(request, 503, "storage", "Nothing can be stored now",
                  "Nothing was taken: send the same again after Retry-After. The server goes on by "
                  "itself once its storage is well.",
                  "%s", error->text);
    request->retry_after = 2;
}

void answer_json(struct engine_request *request, json_t *value)
{
    request->status = 200;
    request->text = json_text(value);
    json_decref(value);
}

void answer_sealed(struct engine *engine, struct engine_request *request, const char *context,
                   json_t *value)
{
    if (engine->options.no_gate)
        json_object_set_new(value, "gate", json_string("off"));
    request->status = 200;
    request->text = envelope_seal(&engine->options.server_key, context, value);
    json_decref(value);
}

struct http_blob *sealed_blob(struct engine *engine, const char *context, json_t *value,
                              const char *cache_control)
{
    _cleanup_free_ char *text = envelope_seal(&engine->options.server_key, context, value);
    char etag[SHA256_HEX_SIZE];

    json_decref(value);
    sha256_hex(text, strlen(text), etag);
    etag[32] = '\0';
    return http_blob_new(text, strlen(text), "application/json", etag, cache_control);
}

void engine_log(struct engine *engine, const char *code, const char *by, const char *rollout,
                const char *device, const char *format, ...)
{
    struct error error, text;
    char raw[sizeof text.text];
    va_list values;

    va_start(values, format);
    vsnprintf(raw, sizeof raw, format, values);
    va_end(values);
    error_set(&text, -1, "%s", raw);
    if (engine->failure < 0)
        return;
    engine_keep(engine,
                engine->store->does->log_add(engine->store,
                                             &(struct store_log){.at_ms = engine_wall_ms(engine),
                                                                 .code = code,
                                                                 .by = by,
                                                                 .rollout = rollout,
                                                                 .device = device,
                                                                 .text = text.text},
                                             &error),
                &error);
    log_event(device ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, code, "%s%s%s", rollout ? rollout : "",
              rollout ? ": " : "", text.text);
}
