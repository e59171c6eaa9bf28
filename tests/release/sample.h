/* A manifest that is right, and a way to spoil one place of it. */
#pragma once

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

#define SAMPLE_DIGEST "4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a"

#define SAMPLE_SOURCE                                                                              \
    "maeslant: 1\n"                                                                                \
    "product: waf-rules\n"                                                                         \
    "channel: stable\n"                                                                            \
    "version: \"3.3.4-1+deb12u3\"\n"                                                               \
    "sequence: 3\n"                                                                                \
    "description: OWASP Core Rule Set\n"                                                           \
    "requires: {modsecurity: \">=3.0\", crs-format: 3}\n"                                          \
    "provides: {crs: \"3.3.4\"}\n"                                                                 \
    "critical: [adapter]\n"                                                                        \
    "permissions: [files, reload]\n"                                                               \
    "repairs: false\n"                                                                             \
    "state: {paths: [\"${state}/db\"], on_revert: snapshot}\n"                                     \
    "adapter:\n"                                                                                   \
    "  kind: command\n"                                                                            \
    "  activate: [\"${product_dir}/bin/ctl\", \"reload\", \"${slot}\"]\n"                          \
    "  mode: reload\n"                                                                             \
    "  timeout: 10s\n"                                                                             \
    "  deactivate: [\"/usr/bin/ctl\", \"stop\"]\n"                                                 \
    "  disturbs: true\n"                                                                           \
    "active:\n"                                                                                    \
    "  kind: http\n"                                                                               \
    "  url: \"http://127.0.0.1:${port}/release\"\n"                                                \
    "  timeout: 3s\n"                                                                              \
    "  within: 4s\n"                                                                               \
    "probes:\n"                                                                                    \
    "  - name: benign\n"                                                                           \
    "    kind: http\n"                                                                             \
    "    url: \"http://127.0.0.1:${port}/\"\n"                                                     \
    "    method: POST\n"                                                                           \
    "    headers: {Host: site.example}\n"                                                          \
    "    body: hello\n"                                                                            \
    "    expect_status: 403\n"                                                                     \
    "    expect_header: {Server: nginx}\n"                                                         \
    "    expect_body: Forbidden\n"                                                                 \
    "    interval: 1s\n"                                                                           \
    "    timeout: 2s\n"                                                                            \
    "    grace: 1s\n"                                                                              \
    "    failures: 5\n"                                                                            \
    "  - {name: run, kind: exec, command: [check, \"${digest}\"], expect_exit: 3}\n"               \
    "  - {name: port, kind: tcp, host: 127.0.0.1, port: 8080}\n"                                   \
    "  - {name: worker, kind: process, pid_file: /run/waf.pid, exit_file: /run/waf.exit}\n"        \
    "lab:\n"                                                                                       \
    "  validate: {command: [./bin/validate, \"${payload}\"], timeout: 30s}\n"                      \
    "  load:\n"                                                                                    \
    "    command: [./bin/load, \"${payload}\", \"${scratch}\"]\n"                                  \
    "    timeout: 50s\n"                                                                           \
    "    memory: 2GiB\n"                                                                           \
    "    output: 32KiB\n"                                                                          \
    "    file_size: 1MiB\n"                                                                        \
    "exclude: [{os: debian-11}, {arch: riscv64}]\n"                                                \
    "policy:\n"                                                                                    \
    "  class: routine\n"                                                                           \
    "  harm_budget: 4\n"

#define SAMPLE_PAYLOAD                                                                             \
    "payload:\n"                                                                                   \
    "  sha256: " SAMPLE_DIGEST "\n"                                                                \
    "  size: 183020\n"                                                                             \
    "  unpacked: 1003211\n"                                                                        \
    "  files: 41\n"

#define SAMPLE_BUILT SAMPLE_SOURCE SAMPLE_PAYLOAD

/* `text` with the one place of `from` replaced, owned by the caller. An empty `from` appends. */
static inline char *sample_with(const char *text, const char *from, const char *to)
{
    const char *place = from[0] == '\0' ? text + strlen(text) : strstr(text, from);

    if (!place)
        abort(); /* the test names a place that the sample does not have */
    return xasprintf("%.*s%s%s", (int)(place - text), text, to, place + strlen(from));
}
