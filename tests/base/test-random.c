#include "support.h"

#include "base/random.h"

static void two_draws_differ(void **state)
{
    uint8_t a[32], b[32];

    random_bytes(a, sizeof(a));
    random_bytes(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    random_bytes(a, 0);
}

static void a_unit_lies_in_its_half_open_range_around_one_half(void **state)
{
    double sum = 0;

    for (int i = 0; i < 10000; i++) {
        double value = random_unit();

        assert_true(value >= 0 && value < 1);
        sum += value;
    }
    assert_true(sum > 4700 && sum < 5300); /* ten standard deviations */
}

static void hex_fills_exactly_its_bytes(void **state)
{
    char text[34];

    for (size_t len = 0; len <= 16; len++) {
        memset(text, '#', sizeof(text));
        random_hex(text, len);
        assert_int_equal(strlen(text), 2 * len);
        assert_int_equal(strspn(text, "0123456789abcdef"), 2 * len);
        assert_int_equal(text[2 * len + 1], '#');
    }
}

static void hex_digits_come_from_all_the_bytes(void **state)
{
    unsigned counts[16] = {0};

    for (int i = 0; i < 1000; i++) {
        char text[33];

        random_hex(text, 16);
        for (size_t j = 0; j < 32; j++)
            counts[text[j] <= '9' ? text[j] - '0' : text[j] - 'a' + 10]++;
    }
    for (size_t i = 0; i < 16; i++)
        assert_in_range(counts[i], 1600, 2400); /* 2000 ± 9 standard deviations */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_draws_differ),
        cmocka_unit_test(a_unit_lies_in_its_half_open_range_around_one_half),
        cmocka_unit_test(hex_fills_exactly_its_bytes),
        cmocka_unit_test(hex_digits_come_from_all_the_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
