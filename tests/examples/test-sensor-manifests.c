#include "base/buf.h"
#include "base/file.h"
#include "release/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *folder; /* examples/sensor */

static void read_manifest(const char *name, struct manifest *ret)
{
    _cleanup_free_ char *path = path_join(folder, name);
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct error error = ERROR_INIT;
    int r = file_read(AT_FDCWD, path, 65536, &text, &error);

    if (r == 0)
        r = manifest_parse(text.data, text.len, MANIFEST_SOURCE, ret, &error);
    if (r < 0)
        print_error("%s: %s\n", name, error.text);
    assert_int_equal(r, 0);
}

static int fits_an_engine_of_20_fields(const char *name)
{
    static char fields[] = "sensor-fields", twenty[] = "20";
    const struct pair_text provided[] = {{fields, twenty}};
    struct manifest manifest = {0};
    struct error error = ERROR_INIT;
    int r;

    read_manifest(name, &manifest);
    r = contract_check(&manifest, provided, ARRAY_SIZE(provided), &error);
    manifest_free(&manifest);
    return r;
}

static void only_the_honest_manifest_of_21_fields_does_not_fit_the_engine(void **state)
{
    static const char *const fitting[] = {"manifest-v1.yaml", "manifest-v2.yaml",
                                          "manifest-v3-lying.yaml", "manifest-dark.yaml",
                                          "manifest-v4.yaml"};

    for (size_t i = 0; i < ARRAY_SIZE(fitting); i++)
        assert_int_equal(fits_an_engine_of_20_fields(fitting[i]), 0);
    assert_true(fits_an_engine_of_20_fields("manifest-v3-honest.yaml") < 0);
}

static void sequences_grow_in_the_order_in_which_they_are_published(void **state)
{
    static const char *const order[] = {"manifest-v1.yaml",        "manifest-v2.yaml",
                                        "manifest-v3-lying.yaml",  "manifest-dark.yaml",
                                        "manifest-v3-honest.yaml", "manifest-v4.yaml"};

    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        struct manifest manifest = {0};

        read_manifest(order[i], &manifest);
        assert_int_equal(manifest.sequence, i + 1);
        manifest_free(&manifest);
    }
}

static void each_probe_runs_three_times_within_a_soak_of_5_s(void **state)
{
    struct manifest manifest = {0};

    read_manifest("manifest-v2.yaml", &manifest);
    assert_int_equal(manifest.probe_count, 3);
    for (size_t i = 0; i < manifest.probe_count; i++)
        assert_true(manifest.probes[i].interval * 3 < 5);
    manifest_free(&manifest);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_honest_manifest_of_21_fields_does_not_fit_the_engine),
        cmocka_unit_test(sequences_grow_in_the_order_in_which_they_are_published),
        cmocka_unit_test(each_probe_runs_three_times_within_a_soak_of_5_s),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: test-sensor-manifests FOLDER\n");
        return 2;
    }
    folder = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
