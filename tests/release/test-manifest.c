#include "release/manifest.h"

#include "../scratch.h"
#include "base/encode.h"
#include "sample.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void every_key_of_the_contract_is_read(void **state)
{
    struct manifest m;
    struct error error = ERROR_INIT;
    char digest[65];

    if (manifest_parse(SAMPLE_BUILT, strlen(SAMPLE_BUILT), MANIFEST_BUILT, &m, &error) < 0)
        fail_msg("%s", error.text);
    sha256_hex(SAMPLE_BUILT, strlen(SAMPLE_BUILT), digest);
    assert_string_equal(m.release, digest);
    assert_string_equal(m.product, "waf-rules");
    assert_string_equal(m.channel, "stable");
    assert_string_equal(m.version, "3.3.4-1+deb12u3");
    assert_int_equal(m.sequence, 3);
    assert_string_equal(m.description, "OWASP Core Rule Set");
    assert_int_equal(m.requires_count, 2);
    assert_string_equal(m.requires[1].name, "crs-format");
    assert_string_equal(m.requires[1].value, "3");
    assert_string_equal(m.provides[0].value, "3.3.4");
    assert_string_equal(m.critical[0], "adapter");
    assert_string_equal(m.permissions[1], "reload");
    assert_null(m.permissions[2]);
    assert_false(m.repairs);
    assert_string_equal(m.state_paths[0], "${state}/db");
    assert_int_equal(m.on_revert, STATE_SNAPSHOT);
    assert_string_equal(m.activate[1], "reload");
    assert_string_equal(m.deactivate[0], "/usr/bin/ctl");
    assert_int_equal(m.mode, ADAPTER_RELOAD);
    assert_true(m.adapter_timeout == 10 && m.disturbs);
    assert_int_equal(m.active.kind, CHECK_HTTP);
    assert_true(m.active.timeout == 3 && m.active.within == 4);
    assert_int_equal(m.probe_count, 4);
    assert_string_equal(m.probes[0].method, "POST");
    assert_string_equal(m.probes[0].headers[0].value, "site.example");
    assert_string_equal(m.probes[0].expect_header.name, "Server");
    assert_string_equal(m.probes[0].expect_body, "Forbidden");
    assert_int_equal(m.probes[0].expect_status, 403);
    assert_int_equal(m.probes[0].failures, 5);
    assert_true(m.probes[0].interval == 1 && m.probes[0].timeout == 2 && m.probes[0].grace == 1);
    assert_string_equal(m.probes[1].command[1], "${digest}");
    assert_int_equal(m.probes[1].expect_exit, 3);
    assert_string_equal(m.probes[2].port, "8080");
    assert_string_equal(m.probes[3].exit_file, "/run/waf.exit");
    assert_string_equal(m.validate.command[0], "./bin/validate");
    assert_true(m.validate.timeout == 30 && m.validate.memory == 1024UL * 1024 * 1024);
    assert_true(m.load.timeout == 50 && m.load.memory == 2048UL * 1024 * 1024 &&
                m.load.output == 32 * 1024 && m.load.file_size == 1024 * 1024);
    assert_int_equal(m.exclude_count, 2);
    assert_string_equal(m.exclude[1].name, "arch");
    assert_true(m.has_policy && m.policy.harm_budget == 4);
    assert_true(m.has_payload && m.payload_size == 183020 && m.payload_unpacked == 1003211 &&
                m.payload_files == 41);
    assert_string_equal(m.payload_sha256, SAMPLE_DIGEST);
    manifest_free(&m);
}

static const char least[] = "maeslant: 1\n"
                            "product: p\n"
                            "channel: c\n"
                            "version: 7\n"
                            "sequence: 1\n"
                            "adapter: {kind: command, activate: [/bin/true], mode: restart}\n"
                            "active: {kind: exec, command: [cat, x]}\n"
                            "probes: [{name: a, kind: http, url: 'https://localhost'}]\n";

static void what_is_left_out_has_the_documented_values(void **state)
{
    struct manifest m;
    struct error error = ERROR_INIT;

    if (manifest_parse(least, strlen(least), MANIFEST_SOURCE, &m, &error) < 0)
        fail_msg("%s", error.text);
    assert_string_equal(m.version, "7");
    assert_null(m.description);
    assert_int_equal(m.requires_count + m.provides_count + m.exclude_count, 0);
    assert_null(m.critical[0]);
    assert_string_equal(m.permissions[0], "files");
    assert_string_equal(m.permissions[1], "restart");
    assert_null(m.permissions[2]);
    assert_false(m.repairs || m.disturbs || m.has_policy || m.has_payload);
    assert_null(m.state_paths[0]);
    assert_int_equal(m.on_revert, STATE_COMPATIBLE);
    assert_null(m.deactivate);
    assert_true(m.adapter_timeout == 30);
    assert_true(m.active.timeout == 5 && m.active.within == 10);
    assert_true(m.probes[0].interval == 10 && m.probes[0].timeout == 5 && m.probes[0].grace == 0);
    assert_int_equal(m.probes[0].failures, 3);
    assert_string_equal(m.probes[0].method, "GET");
    assert_int_equal(m.probes[0].expect_status, 200);
    assert_null(m.validate.command);
    assert_true(m.load.timeout == 60 && m.load.output == 64 * 1024 &&
                m.load.file_size == 64 * 1024 * 1024);
    manifest_free(&m);
}

/* What lies between two marks of a page is a manifest with `probes` probes. */
static void expect_example(const char *page_path, const char *open, const char *close,
                           enum manifest_for mode, size_t probes)
{
    _cleanup_free_ char *page = scratch_read(page_path, NULL), *text = NULL, *whole = NULL;
    char *from = strstr(page, open), *to;
    struct manifest m;
    struct error error = ERROR_INIT;

    assert_non_null(from);
    from += strlen(open);
    to = strstr(from, close);
    assert_non_null(to);
    text = xstrndup(from, (size_t)(to - from));
    whole = mode == MANIFEST_BUILT ? sample_with(text, "4f2a…", SAMPLE_DIGEST) : xstrdup(text);
    if (manifest_parse(whole, strlen(whole), mode, &m, &error) < 0)
        fail_msg("%s: %s", page_path, error.text);
    assert_int_equal(m.probe_count, probes);
    manifest_free(&m);
}

static void the_documented_examples_are_manifests(void **state)
{
    expect_example(DOCS "/manifest.md", "```yaml\n", "```", MANIFEST_BUILT, 3);
    expect_example(DOCS "/man/maeslant-manifest.5", ".Bd -literal\n", ".Ed", MANIFEST_SOURCE, 3);
}

/* A place of the sample, what stands there instead, and what the sentence then has to say. The
 * place is looked for in the text as it is: `line` counts from 1, 0 where it is not the point. */
struct bad {
    const char *from, *to;
    unsigned line;
    const char *expected;
};

static void expect_refused(const char *text, const struct bad *bad, enum manifest_for mode)
{
    _cleanup_free_ char *spoiled = sample_with(text, bad->from, bad->to), *line = NULL;
    struct manifest m;
    struct error error = ERROR_INIT;

    if (manifest_parse(spoiled, strlen(spoiled), mode, &m, &error) == 0)
        fail_msg("accepted with \"%s\" instead of \"%s\"", bad->to, bad->from);
    if (!strstr(error.text, bad->expected))
        fail_msg("\"%s\" instead of \"%s\": \"%s\" does not say \"%s\"", bad->to, bad->from,
                 error.text, bad->expected);
    line = xasprintf("line %u, column ", bad->line);
    if (bad->line > 0 && !strstr(error.text, line))
        fail_msg("\"%s\" instead of \"%s\": \"%s\" does not say \"%s\"", bad->to, bad->from,
                 error.text, line);
    assert_null(m.product);
}

static const struct bad bad_top[] = {
    {"maeslant: 1\n", "", 1, "maeslant: is missing"},
    {"maeslant: 1", "maeslant: 2", 1, "maeslant: 2"},
    {"maeslant: 1", "maeslant: \"1\"", 1, "an integer was expected"},
    {"product: waf-rules\n", "", 1, "product: is missing"},
    {"product: waf-rules", "product: .waf", 2, "product: \".waf\""},
    {"product: waf-rules", "product: -waf", 2, "product: \"-waf\""},
    {"product: waf-rules", "product: waf rules", 2, "\"waf rules\""},
    {"product: waf-rules", "product: \"\"", 2, "product: \"\""},
    {"product: waf-rules", "product: wäf", 2, "is no name"},
    {"product: waf-rules", "product: ../waf", 2, "\"../waf\""},
    {"product: waf-rules", "product: [waf]", 2, "is a list"},
    {"product: waf-rules", "product: null", 2, "is missing"},
    {"channel: stable\n", "", 1, "channel: is missing"},
    {"channel: stable", "channel: -x", 3, "channel: \"-x\""},
    {"channel: stable", "channel: true", 3, "put it in quotes"},
    {"version: \"3.3.4-1+deb12u3\"\n", "", 1, "version: is missing"},
    {"version: \"3.3.4-1+deb12u3\"", "version: 3.10", 4, "put the value in quotes"},
    {"version: \"3.3.4-1+deb12u3\"", "version: \"a/b\"", 4, "\"a/b\""},
    {"sequence: 3\n", "", 1, "sequence: is missing"},
    {"sequence: 3", "sequence: 0", 5, "sequence: 0 is out of range"},
    {"sequence: 3", "sequence: -1", 5, "sequence: -1"},
    {"sequence: 3", "sequence: 1.5", 5, "an integer was expected"},
    {"sequence: 3", "sequence: \"3\"", 5, "an integer was expected"},
    {"description: OWASP Core Rule Set", "description: {a: b}", 6, "is a map"},
    {"description: OWASP Core Rule Set", "description: \"a\\x07b\"", 6, "control bytes"},
    {"{modsecurity: \">=3.0\", crs-format: 3}", "[a]", 7, "requires: is a list"},
    {"\">=3.0\"", "\"~3.0\\n\"", 7, "requires.modsecurity"},
    {"\">=3.0\"", "\">=\"", 7, "\">=\" is no constraint"},
    {"\">=3.0\"", "\"=>3.0\"", 7, "\"=>3.0\" is no constraint"},
    {"\">=3.0\"", "\">=3,\"", 7, "is no constraint"},
    {"\">=3.0\"", "3.0", 7, "put the value in quotes"},
    {"modsecurity: \">=3.0\"", "\"mod security\": \">=3.0\"", 7, "\"mod security\" is no name"},
    {"{crs: \"3.3.4\"}", "{crs: \">=3.3.4\"}", 8, "provides.crs: \">=3.3.4\" is no version"},
    {"{crs: \"3.3.4\"}", "{crs: \"3 4\"}", 8, "provides.crs"},
    {"{crs: \"3.3.4\"}", "{crs: [3]}", 8, "provides.crs: is a list"},
    {"critical: [adapter]", "critical: adapter", 9, "critical: is text, a list"},
    {"critical: [adapter]", "critical: [adaptor]", 9, "\"adaptor\" is no key of this manifest"},
    {"critical: [adapter]", "critical: [adapter, adapter.nothing]", 9, "critical[1]"},
    {"[files, reload]", "[files, reload, network]", 10, "permissions[2]: \"network\""},
    {"[files, reload]", "[reload]", 10, "lacks files"},
    {"[files, reload]", "[files, restart]", 10, "lacks reload"},
    {"[files, reload]", "[files, reload, files]", 10, "is there twice"},
    {"[files, reload]", "[]", 10, "lacks files"},
    {"repairs: false", "repairs: \"no\"", 11, "true or false was expected"},
    {"[\"${state}/db\"]", "[db]", 12, "state.paths[0]: \"db\""},
    {"[\"${state}/db\"]", "[\"/var/../etc\"]", 12, "without .."},
    {"[\"${state}/db\"]", "/db", 12, "a list was expected"},
    {"[\"${state}/db\"]", "[\"${state/db\"]", 12, "state.paths[0]: \"${state/db\""},
    {"on_revert: snapshot", "on_revert: maybe", 12,
     "\"maybe\" is not known; expected compatible, snapshot or irreversible"},
    {"state: {", "state: {path: x, ", 12, "state.path: is no key of the manifest"},
    {"exclude: [{os: debian-11}", "exclude: [os", 50, "exclude[0]"},
    {"exclude: [{os: debian-11}", "exclude: [{a: b, c: d}", 50, "exclude[0]"},
    {"exclude: [{os: debian-11}", "exclude: [{a: 1.5}", 50, "in quotes"},
    {"exclude: [{os: debian-11}, {arch: riscv64}]", "exclude: {os: debian-11}", 50, "is no list"},
    {"harm_budget: 4", "harm_budget: 0", 53, "policy.harm_budget"},
    {"harm_budget: 4", "harm_budgte: 4", 0, "harm_budget"},
    {"class: routine", "class: hasty", 52, "policy.class"},
    {"harm_budget: 4", "harm_budget: 4\n  stages: [{name: a, share: 200%}]", 54, "stages[0].share"},
    {"", "policies: {}\n", 54, "policies: is no key of the manifest"},
    {"", "product: twice\n", 54, "product"},
    {"", "payload: {}\n", 54, "is written by release build"},
    {"", "x: &a 1\n", 54, "line 54"},
    {"", "x: *a\n", 54, "line 54"},
    {"", "x: !!str a\n", 54, "line 54"},
    {"", "---\n", 0, "line 5"},
    {"", "\xff\xfe\n", 0, "manifest"},
};

static void each_top_key_refuses_a_bad_value_where_it_stands(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad_top); i++)
        expect_refused(SAMPLE_SOURCE, &bad_top[i], MANIFEST_SOURCE);
}

static const struct bad bad_adapter[] = {
    {"  kind: command\n", "", 14, "adapter.kind: is missing"},
    {"kind: command", "kind: systemd", 14, "\"systemd\" is not known; expected command"},
    {"  activate: [\"${product_dir}/bin/ctl\", \"reload\", \"${slot}\"]\n", "", 14,
     "adapter.activate: is missing"},
    {"[\"${product_dir}/bin/ctl\", \"reload\", \"${slot}\"]", "[]", 15, "names no program"},
    {"[\"${product_dir}/bin/ctl\", \"reload\", \"${slot}\"]", "[\"\"]", 15, "names no program"},
    {"[\"${product_dir}/bin/ctl\", \"reload\", \"${slot}\"]", "ctl reload", 15, "a list"},
    {"\"${product_dir}/bin/ctl\"", "ctl", 15, "\"ctl\" is no absolute path"},
    {"\"reload\", \"${slot}\"", "reload, \"${slot\"", 15, "adapter.activate[2]: \"${slot\""},
    {"\"reload\", \"${slot}\"", "reload, \"${}\"", 15, "names nothing"},
    {"\"reload\", \"${slot}\"", "reload, \"${a b}\"", 15, "expected ${name}"},
    {"\"reload\", \"${slot}\"", "reload, 1.5", 15, "put the value in quotes"},
    {"\"reload\", \"${slot}\"", "reload, [a]", 15, "adapter.activate[2]: is a list"},
    {"  mode: reload\n", "", 14, "adapter.mode: is missing"},
    {"mode: reload", "mode: hot", 16, "\"hot\" is not known; expected reload or restart"},
    {"timeout: 10s", "timeout: 10", 17, "adapter.timeout"},
    {"timeout: 10s", "timeout: 0s", 17, "out of range"},
    {"timeout: 10s", "timeout: 2h", 17, "\"2h\" is out of range"},
    {"timeout: 10s", "timeout: soon", 17, "soon"},
    {"timeout: 10s", "timeout: 1.5", 17, "1.5"},
    {"[\"/usr/bin/ctl\", \"stop\"]", "[ctl, stop]", 18, "adapter.deactivate[0]: \"ctl\""},
    {"[\"/usr/bin/ctl\", \"stop\"]", "[]", 18, "adapter.deactivate: names no program"},
    {"disturbs: true", "disturbs: 1", 19, "true or false was expected"},
    {"disturbs: true", "disturb: true", 19, "adapter.disturb: is no key"},
    {"  kind: http\n  url: \"http://127.0.0.1:${port}/release\"\n", "", 21,
     "active.kind: is missing"},
    {"  kind: http\n  url", "  kind: tcp\n  url", 21,
     "\"tcp\" is not known; expected exec or http"},
    {"  kind: http\n  url", "  kind: exec\n  url", 22, "belongs to probes of kind http"},
    {"  url: \"http://127.0.0.1:${port}/release\"\n", "", 21, "active.url: is missing"},
    {"url: \"http://127.0.0.1:${port}/release\"", "url: ftp://x/", 22, "\"ftp://x/\""},
    {"timeout: 3s", "timeout: 61s", 23, "active.timeout"},
    {"within: 4s", "within: 2d", 24, "active.within"},
    {"within: 4s", "interval: 4s", 24, "active.interval: is no key"},
};

static void adapter_and_active_refuse_bad_values(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad_adapter); i++)
        expect_refused(SAMPLE_SOURCE, &bad_adapter[i], MANIFEST_SOURCE);
}

static const struct bad bad_probes[] = {
    {"name: benign", "name: \"a b\"", 26, "probes[0].name: \"a b\""},
    {"name: run", "name: benign", 39, "\"benign\" is the name of probes[0] already"},
    {"name: run, ", "", 39, "probes[1].name: is missing"},
    {"kind: exec, ", "", 39, "probes[1].kind: is missing"},
    {"kind: exec", "kind: grpc", 39, "\"grpc\" is not known; expected exec, http, tcp or process"},
    {"interval: 1s", "interval: 0", 35, "probes[0].interval"},
    {"interval: 1s", "interval: 5", 35, "5"},
    {"interval: 1s", "interval: -1s", 35, "-1s"},
    {"timeout: 2s", "timeout: 61s", 36, "\"61s\" is out of range"},
    {"timeout: 2s", "timeout: 0s", 36, "probes[0].timeout"},
    {"grace: 1s", "grace: never", 37, "never"},
    {"grace: 1s", "grace: 2d", 37, "probes[0].grace"},
    {"failures: 5", "failures: 0", 38, "probes[0].failures: 0"},
    {"failures: 5", "failures: many", 38, "an integer was expected"},
    {"failures: 5", "failure: 5", 38, "probes[0].failure: is no key"},
    {"command: [check, \"${digest}\"], ", "", 39, "probes[1].command: is missing"},
    {"command: [check, \"${digest}\"]", "command: check", 39, "a list was expected"},
    {"command: [check, \"${digest}\"]", "command: []", 39, "names no program"},
    {"expect_exit: 3", "expect_exit: 256", 39, "256 is out of range; expected 0 to 255"},
    {"expect_exit: 3", "expect_exit: -1", 39, "-1"},
    {"expect_exit: 3", "expect_status: 200", 39, "belongs to probes of kind http"},
    {"    url: \"http://127.0.0.1:${port}/\"\n", "", 26, "probes[0].url: is missing"},
    {"url: \"http://127.0.0.1:${port}/\"", "url: //x", 28, "\"//x\" is no URL"},
    {"url: \"http://127.0.0.1:${port}/\"", "url: \"http://\"", 28, "is no URL"},
    {"url: \"http://127.0.0.1:${port}/\"", "url: \"http:///x\"", 28, "is no URL"},
    {"url: \"http://127.0.0.1:${port}/\"", "url: \"http://a/ b\"", 28, "write them as %XX"},
    {"url: \"http://127.0.0.1:${port}/\"", "url: \"http://a/é\"", 28, "outside ASCII"},
    {"url: \"http://127.0.0.1:${port}/\"", "url: file:///etc/passwd", 28, "file:///etc/passwd"},
    {"method: POST", "method: \"PO ST\"", 29, "\"PO ST\" is no HTTP method"},
    {"headers: {Host: site.example}", "headers: [Host]", 30, "a map was expected"},
    {"headers: {Host: site.example}", "headers: {\"Ho st\": a}", 30, "\"Ho st\" is no name"},
    {"headers: {Host: site.example}", "headers: {Host: \"a\\nb\"}", 30, "longer than one line"},
    {"body: hello", "body: [hello]", 31, "text was expected"},
    {"expect_status: 403", "expect_status: 99", 32, "99 is out of range; expected 100 to 599"},
    {"expect_status: 403", "expect_status: 600", 32, "600"},
    {"expect_header: {Server: nginx}", "expect_header: nginx", 33, "a map was expected"},
    {"expect_header: {Server: nginx}", "expect_header: {A: b, C: d}", 33, "names 2 headers"},
    {"expect_header: {Server: nginx}", "expect_header: {\":\": d}", 33, "is no name of a header"},
    {"expect_body: Forbidden", "expect_body: {a: b}", 34, "text was expected"},
    {"host: 127.0.0.1, ", "", 40, "probes[2].host: is missing"},
    {"host: 127.0.0.1", "host: \"\"", 40, "probes[2].host: \"\" is no host"},
    {"host: 127.0.0.1", "host: \"a b\"", 40, "\"a b\" is no host"},
    {"port: 8080", "port: 0", 40, "\"0\" is no port"},
    {"port: 8080", "port: 65536", 40, "\"65536\" is no port"},
    {"port: 8080", "port: http", 40, "\"http\" is no port"},
    {", port: 8080", "", 40, "probes[2].port: is missing"},
    {"pid_file: /run/waf.pid, ", "", 41, "probes[3].pid_file: is missing"},
    {"pid_file: /run/waf.pid", "pid_file: waf.pid", 41, "\"waf.pid\" is no absolute path"},
    {"exit_file: /run/waf.exit", "exit_file: x", 41, "probes[3].exit_file: \"x\""},
    {"exit_file: /run/waf.exit", "exit_fiel: /x", 41, "probes[3].exit_fiel: is no key"},
    {"  - {name: port, kind: tcp, host: 127.0.0.1, port: 8080}", "  - probe", 40, "probes[2]"},
};

static void probes_refuse_bad_values(void **state)
{
    static const struct bad none = {"probes: [{name: a, kind: http, url: 'https://localhost'}]",
                                    "probes: []", 8, "probes: names no probe"};
    static const struct bad missing = {"probes: [{name: a, kind: http, url: 'https://localhost'}]",
                                       "", 0, "probes: names no probe"};
    static const struct bad map = {"[{name: a, kind: http, url: 'https://localhost'}]", "{a: b}", 8,
                                   "probes: is no list"};

    for (size_t i = 0; i < ARRAY_SIZE(bad_probes); i++)
        expect_refused(SAMPLE_SOURCE, &bad_probes[i], MANIFEST_SOURCE);
    expect_refused(least, &none, MANIFEST_SOURCE);
    expect_refused(least, &missing, MANIFEST_SOURCE);
    expect_refused(least, &map, MANIFEST_SOURCE);
}

static const struct bad bad_lab[] = {
    {"command: [./bin/validate, \"${payload}\"], ", "", 43, "lab.validate.command: is missing"},
    {"[./bin/validate, \"${payload}\"]", "[./bin/validate, \"${slot}\"]", 43,
     "lab.validate.command[1]: \"${slot}\" uses the variable slot"},
    {"timeout: 30s", "timeout: 30", 43, "lab.validate.timeout"},
    {"memory: 2GiB", "memory: 2GB", 47, "2GB"},
    {"memory: 2GiB", "memory: 1KiB", 47, "lab.load.memory: \"1KiB\" is out of range"},
    {"output: 32KiB", "output: -1", 48, "lab.load.output"},
    {"file_size: 1MiB", "file_size: big", 49, "big"},
    {"file_size: 1MiB", "filesize: 1MiB", 49, "lab.load.filesize: is no key"},
    {"  load:\n", "  laod:\n", 45, "lab.laod: is no key"},
};

static void lab_refuses_bad_values(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad_lab); i++)
        expect_refused(SAMPLE_SOURCE, &bad_lab[i], MANIFEST_SOURCE);
}

static const struct bad bad_payload[] = {
    {SAMPLE_PAYLOAD, "", 1, "payload: is missing"},
    {"  sha256: " SAMPLE_DIGEST "\n", "", 55, "payload.sha256: is missing"},
    {"sha256: 4f2a", "sha256: 4F2A", 55, "is no SHA-256"},
    {"sha256: 4f2a", "sha256: f2a", 55, "64 lower-case hex digits"},
    {"size: 183020", "size: 0", 56, "payload.size: 0"},
    {"size: 183020", "size: 9223372036854775807", 56, "payload.size"},
    {"unpacked: 1003211", "unpacked: -1", 57, "payload.unpacked: -1"},
    {"unpacked: 1003211", "unpacked: 1MiB", 57, "an integer was expected"},
    {"files: 41", "files: 0", 58, "payload.files: 0"},
    {"files: 41", "file: 41", 58, "payload.file"},
};

static void payload_refuses_bad_values(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad_payload); i++)
        expect_refused(SAMPLE_BUILT, &bad_payload[i], MANIFEST_BUILT);
}

static void a_text_that_is_no_map_or_too_large_is_refused(void **state)
{
    static const char *const bad[] = {"", "- a\n", "just text\n", "a: b: c\n", "{"};
    _cleanup_free_ char *large = xmalloc(MANIFEST_MAX + 1), *description = xmalloc(1026);
    struct manifest m;
    struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(manifest_parse(bad[i], strlen(bad[i]), MANIFEST_SOURCE, &m, &error),
                         -EINVAL);
        assert_non_null(strstr(error.text, "manifest"));
    }
    memset(large, ' ', MANIFEST_MAX + 1);
    assert_int_equal(manifest_parse(large, MANIFEST_MAX + 1, MANIFEST_SOURCE, &m, &error), -EFBIG);
    memset(description, 'x', 1025);
    description[1025] = '\0';
    struct bad too_long = {"OWASP Core Rule Set", description, 6, "at most 1024 are allowed"};
    expect_refused(SAMPLE_SOURCE, &too_long, MANIFEST_SOURCE);
}

static int parse_on_device(const char *from, const char *to, struct manifest *ret)
{
    _cleanup_free_ char *text = sample_with(SAMPLE_BUILT, from, to);
    struct error error = ERROR_INIT;
    int r = manifest_parse(text, strlen(text), MANIFEST_DEVICE, ret, &error);

    if (r < 0)
        assert_true(error.text[0] != '\0');
    return r;
}

static void a_device_passes_over_keys_that_it_does_not_know(void **state)
{
    static const struct bad unknown[] = {
        {"", "frobnicate: {a: [1]}\n", 0, ""},
        {"disturbs: true", "gently: true", 0, ""},
        {"failures: 5", "patience: 5", 0, ""},
        {"harm_budget: 4", "harm_budget: 4\n  lunar_phase: full", 0, ""},
        {"  load:\n", "  boot:\n", 0, ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
        struct manifest m;

        assert_int_equal(parse_on_device(unknown[i].from, unknown[i].to, &m), 0);
        manifest_free(&m);
    }
}

static void a_device_declines_what_is_critical_and_unknown(void **state)
{
    static const struct bad unknown[] = {
        {"critical: [adapter]", "critical: [adapter, frobnicate]\nfrobnicate: 1", 0, ""},
        {"critical: [adapter]", "critical: [adapter.gently]", 0, ""},
        {"critical: [adapter]", "critical: [probes.patience]", 0, ""},
        {"critical: [adapter]", "critical: [nowhere.patience]", 0, ""},
        {"maeslant: 1", "maeslant: 2", 0, ""},
        {"kind: tcp", "kind: grpc", 0, ""},
        {"kind: command", "kind: dkms", 0, ""},
        {"[files, reload]", "[files, reload, firmware]", 0, ""},
        {"on_revert: snapshot", "on_revert: migrate", 0, ""},
    };
    struct manifest m;

    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
        assert_int_equal(parse_on_device(unknown[i].from, unknown[i].to, &m), -EPROTONOSUPPORT);
    assert_int_equal(
        parse_on_device("[adapter]", "[policy.soak, probes.kind, requires.modsecurity]", &m), 0);
    manifest_free(&m);
}

static void release_build_takes_unknown_keys_only_when_they_are_critical(void **state)
{
    static const char *const accepted[][2] = {
        {"critical: [adapter]", "critical: [frobnicate]\nfrobnicate: 1"},
        {"critical: [adapter]", "critical: [probes.patience]"},
    };
    _cleanup_free_ char *patient = sample_with(SAMPLE_BUILT, "failures: 5", "patience: 5");
    struct bad uncritical = {"", "", 38, "probes[0].patience: is no key"};

    expect_refused(patient, &uncritical, MANIFEST_BUILT);
    for (size_t i = 0; i < ARRAY_SIZE(accepted); i++) {
        _cleanup_free_ char *text = sample_with(patient, accepted[i][0], accepted[i][1]);
        struct manifest m;
        struct error error = ERROR_INIT;
        int r = manifest_parse(text, strlen(text), MANIFEST_BUILT, &m, &error);

        if (i == 0) {
            assert_int_equal(r, -EINVAL);
        } else {
            assert_int_equal(r, 0);
            manifest_free(&m);
        }
    }
    _cleanup_free_ char *text = sample_with(SAMPLE_BUILT, accepted[0][0], accepted[0][1]);
    struct manifest m;
    struct error error = ERROR_INIT;

    assert_int_equal(manifest_parse(text, strlen(text), MANIFEST_BUILT, &m, &error), 0);
    manifest_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_the_contract_is_read),
        cmocka_unit_test(what_is_left_out_has_the_documented_values),
        cmocka_unit_test(the_documented_examples_are_manifests),
        cmocka_unit_test(each_top_key_refuses_a_bad_value_where_it_stands),
        cmocka_unit_test(adapter_and_active_refuse_bad_values),
        cmocka_unit_test(probes_refuse_bad_values),
        cmocka_unit_test(lab_refuses_bad_values),
        cmocka_unit_test(payload_refuses_bad_values),
        cmocka_unit_test(a_text_that_is_no_map_or_too_large_is_refused),
        cmocka_unit_test(a_device_passes_over_keys_that_it_does_not_know),
        cmocka_unit_test(a_device_declines_what_is_critical_and_unknown),
        cmocka_unit_test(release_build_takes_unknown_keys_only_when_they_are_critical),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
