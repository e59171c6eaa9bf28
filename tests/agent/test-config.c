#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/config.h"
#include "base/buf.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static const char whole[] =
    "server: https://updates.example.org:8443\n"
    "ca: /etc/maeslant/ca.pem\n"
    "proxy: http://proxy.example.org:3128\n"
    "release_keys: [/etc/maeslant/release.pub]\n"
    "poll: 5m\n"
    "attributes: {os: debian-12, kernel: \"6.1\", engine: \"1\"}\n"
    "group: web-pair-7\n"
    "refuse_permissions: [kernel]\n"
    "settle_after_boot: 0s\n"
    "min_free: 64MiB\n"
    "products:\n"
    "  waf-rules:\n"
    "    channel: stable\n"
    "    provides: {modsecurity: \"3.0.9\"}\n"
    "    vars: {port: \"8081\", product_dir: /srv/waf}\n"
    "    adopt: {content: /srv/waf/initial, manifest: /srv/waf/initial.yaml}\n"
    "    windows: [\"mon-fri 22:00-04:00\"]\n"
    "    paths_owned_by_packages: divert\n";

static void every_key_of_the_example_is_read(void **state)
{
    struct config config;
    struct error error = ERROR_INIT;

    assert_int_equal(config_parse("agent.yaml", whole, strlen(whole), &config, &error), 0);
    assert_string_equal(config.server, "https://updates.example.org:8443");
    assert_true(config.poll > 299.9 && config.poll < 300.1);
    assert_true(config.settle_after_boot < 0.1);
    assert_int_equal(config.min_free, 64 << 20);
    assert_int_equal(config.product_count, 1);
    assert_string_equal(config.products[0].vars[1].value, "/srv/waf");
    assert_string_equal(config.products[0].adopt_content, "/srv/waf/initial");
    assert_string_equal(config.products[0].windows[0], "mon-fri 22:00-04:00");
    config_free(&config);
}

static void a_link_needs_no_content_and_is_one_plain_path(void **state)
{
    static const char head[] = "server: http://127.0.0.1:1\nproducts:\n  p:\n    channel: stable\n";
    static const char *const wrong[] = {"srv/waf",   "/",      "/srv/../etc",   "/srv//waf",
                                        "/srv/waf/", "/srv/.", "\"/srv/a\\nb\""};
    _cleanup_free_ char *good =
        xasprintf("%s    link: /srv/..waf/.x\n    adopt: {manifest: /m.yaml}\n", head);
    _cleanup_free_ char *bare = xasprintf("%s    adopt: {manifest: /m.yaml}\n", head);
    struct config config;
    struct error error = ERROR_INIT;

    assert_int_equal(config_parse("agent.yaml", good, strlen(good), &config, &error), 0);
    assert_string_equal(config.products[0].link, "/srv/..waf/.x");
    assert_null(config.products[0].adopt_content);
    config_free(&config);
    assert_int_equal(config_parse("agent.yaml", bare, strlen(bare), &config, &error), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        _cleanup_free_ char *text = xasprintf("%s    link: %s\n", head, wrong[i]);

        assert_int_equal(config_parse("agent.yaml", text, strlen(text), &config, &error), -EINVAL);
        assert_non_null(strstr(error.text, "agent.yaml:5:"));
    }
}

static void two_products_share_no_link(void **state)
{
    static const char text[] = "server: http://127.0.0.1:1\nproducts:\n"
                               "  a: {channel: stable, link: /srv/x}\n"
                               "  b: {channel: stable, link: /srv/%s}\n";
    static const struct {
        const char *name;
        int expected;
    } cases[] = {{"x", -EINVAL}, {"x/y", -EINVAL}, {"xy", 0}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *whole_text =
            xasprintf("%.*s%s}\n", (int)(strstr(text, "%s") - text), text, cases[i].name);
        struct config config;
        struct error error = ERROR_INIT;

        assert_int_equal(
            config_parse("agent.yaml", whole_text, strlen(whole_text), &config, &error),
            cases[i].expected);
        config_free(&config);
    }
}

static void an_error_says_where_it_is_and_what_was_expected(void **state)
{
    static const char *const cases[][3] = {
        {"poll: 5m", "poll: 5x", "agent.yaml:5:7"},
        {"poll: 5m", "poll: 10ms", "agent.yaml:5:7"},
        {"poll: 5m", "polls: 5m", "polls"},
        {"kernel: \"6.1\"", "kernel: 6.1", "agent.yaml:6:"},
        {"group: web-pair-7", "group: \"web pair\"", "agent.yaml:7:"},
        {"min_free: 64MiB", "min_free: lots", "agent.yaml:10:"},
        {"windows: [\"mon-fri 22:00-04:00\"]", "windows: [\"nights\"]", "agent.yaml:17:"},
        {"divert", "ignore", "divert or refuse"},
        {"channel: stable", "channels: stable", "channel"},
        {"server: https", "server: ftp", "https://host:port"},
        {"ca: /etc/maeslant/ca.pem\n", "", "\"ca\" is missing"},
        {"port: \"8081\"", "port: 8081", "quotes"},
        {"  waf-rules:", "  ../waf:", "../waf"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf text = BUF_INIT;
        const char *at = strstr(whole, cases[i][0]);
        struct config config;
        struct error error = ERROR_INIT;

        assert_non_null(at);
        buf_add(&text, whole, (size_t)(at - whole));
        buf_add_str(&text, cases[i][1]);
        buf_add_str(&text, at + strlen(cases[i][0]));
        assert_true(config_parse("agent.yaml", text.data, text.len, &config, &error) < 0);
        if (!strstr(error.text, cases[i][2]))
            fail_msg("%s: %s is not in \"%s\"", cases[i][1], cases[i][2], error.text);
    }
}

/* Minutes of a week, Sunday 00:00 on. */
static bool inside(const char *window, int day, int hour, int minute)
{
    struct tm local = {.tm_wday = day, .tm_hour = hour, .tm_min = minute};
    bool in = false;

    assert_int_equal(window_contains(window, &local, &in, NULL), 0);
    return in;
}

static void a_window_over_midnight_belongs_to_the_day_on_which_it_starts(void **state)
{
    assert_false(inside("mon-fri 22:00-04:00", 1, 21, 59));
    assert_true(inside("mon-fri 22:00-04:00", 1, 22, 0));
    assert_true(inside("mon-fri 22:00-04:00", 6, 3, 59)); /* Friday's */
    assert_false(inside("mon-fri 22:00-04:00", 6, 4, 0));
    assert_false(inside("mon-fri 22:00-04:00", 1, 3, 0)); /* would be Sunday's */
    assert_false(inside("mon-fri 22:00-04:00", 0, 23, 0));
    assert_true(inside("fri-mon 01:00-02:00", 0, 1, 30));
    assert_false(inside("fri-mon 01:00-02:00", 3, 1, 30));
    assert_true(inside("sat,sun 00:00-24:00", 0, 23, 59));
    assert_true(inside("daily 02:00-05:00", 4, 2, 0));
}

static void what_is_no_window_is_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        "mon",
                                        "mon 22:00",
                                        "mon 22:00-22:00",
                                        "mon 24:01-25:00",
                                        "mon 2:00-3:00",
                                        "xyz 02:00-03:00",
                                        "mon 02:00-03:00 ",
                                        "mon- 02:00-03:00",
                                        "daily  02:00-03:00"};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct error error = ERROR_INIT;
        struct tm local = {0};
        bool in;

        assert_int_equal(window_contains(wrong[i], &local, &in, &error), -EINVAL);
        assert_non_null(strstr(error.text, "expected days"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_the_example_is_read),
        cmocka_unit_test(a_link_needs_no_content_and_is_one_plain_path),
        cmocka_unit_test(two_products_share_no_link),
        cmocka_unit_test(an_error_says_where_it_is_and_what_was_expected),
        cmocka_unit_test(a_window_over_midnight_belongs_to_the_day_on_which_it_starts),
        cmocka_unit_test(what_is_no_window_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
