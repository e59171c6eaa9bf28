#include "rollout/policy.h"

#include "base/buf.h"
#include "base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct policy *ret, struct error *error)
{
    _cleanup_json_ json_t *value = NULL;
    if (json_parse(text, strlen(text), &value, error) < 0)
        fail_msg("%s: %s", text, error->text);
    return policy_parse(value, ret, error);
}

static void only_class_and_budget_are_needed_and_the_rest_has_the_documented_values(void **state)
{
    struct policy policy;
    struct error error = ERROR_INIT;
    assert_int_equal(parse("{\"class\":\"routine\",\"harm_budget\":25}", &policy, &error), 0);
    assert_int_equal(policy.class, POLICY_ROUTINE);
    assert_true(policy.harm_budget == 25 && policy.alpha == 1e-4 && policy.confidence == 0.99);
    assert_true(policy.tolerance_ratio == 1.5 && policy.tolerance_floor == 1e-4 &&
                policy.tolerance_cap == 1e-2);
    assert_true(policy.placebo_pairs && policy.on_halt_revert);
    assert_true(policy.soak == 600 && policy.deadline == 900 && policy.start_by == 60);
    assert_true(policy.interrupted_for == 86400 && policy.interruptions == 2);
    assert_int_equal(policy.stage_count, 1);
    assert_true(policy.stages[0].share == 1 && !policy.stages[0].organisations);
    assert_int_equal(policy.approvals_start, 1);
    assert_int_equal(policy.approvals_emergency, 3);
    assert_string_equal(policy.strata[0], "os");
    assert_string_equal(policy.strata[3], "engine");
    assert_null(policy.strata[4]);
    assert_true(policy.organisation_share == 0.01);
    policy_free(&policy);
}

static const char whole[] =
    "{\"class\":\"emergency\",\"harm_budget\":4,\"alpha\":0.001,\"confidence\":\"95%\","
    "\"tolerance\":{\"ratio\":2,\"floor\":\"0.1%\",\"cap\":0.05},\"placebo\":\"none\","
    "\"soak\":\"5s\",\"deadline\":20,\"on_halt\":\"keep\",\"start_by\":\"15m\","
    "\"interrupted_for\":\"12h\",\"interruptions\":1,\"organisation_share\":\"2%\","
    "\"strata\":[\"locale\"],\"approvals\":{\"start\":2,\"emergency\":4},\"stages\":["
    "{\"name\":\"internal\",\"organisations\":[\"acme\"],\"min_settled\":20,\"min_time\":\"30m\"},"
    "{\"name\":\"canary\",\"share\":\"0.1%\",\"min_settled\":200,\"min_time\":3600},"
    "{\"name\":\"some\",\"share\":0.5,\"devices\":1000,\"approval\":true},"
    "{\"name\":\"broad\",\"share\":\"100%\"}]}";

static void every_key_of_the_design_is_read(void **state)
{
    struct policy policy;
    struct error error = ERROR_INIT;
    if (parse(whole, &policy, &error) < 0)
        fail_msg("%s", error.text);
    assert_int_equal(policy.class, POLICY_EMERGENCY);
    assert_true(policy.confidence == 0.95 && policy.tolerance_floor == 0.001);
    assert_true(!policy.placebo_pairs && !policy.on_halt_revert);
    assert_true(policy.soak == 5 && policy.deadline == 20 && policy.start_by == 900);
    assert_int_equal(policy.stage_count, 4);
    assert_string_equal(policy.stages[0].organisations[0], "acme");
    assert_true(policy.stages[0].min_time == 1800 && policy.stages[1].share == 0.001);
    assert_true(policy.stages[2].approval && policy.stages[2].devices == 1000);
    assert_int_equal(policy.stages[2].min_settled, 1000);
    policy_free(&policy);
}

static void a_policy_reads_back_from_its_own_json(void **state)
{
    struct policy policy, again, copy;
    struct error error = ERROR_INIT;
    assert_int_equal(parse(whole, &policy, &error), 0);
    _cleanup_json_ json_t *first = policy_json(&policy);
    assert_int_equal(policy_parse(first, &again, &error), 0);
    policy_copy(&again, &copy);
    policy_free(&again);
    _cleanup_json_ json_t *second = policy_json(&copy);
    assert_true(json_equal(first, second));
    policy_free(&copy);
    policy_free(&policy);
}

static void refused(const char *members, const char *expected)
{
    struct policy policy;
    struct error error = ERROR_INIT;
    _cleanup_free_ char *text =
        xasprintf("{\"class\":\"routine\",\"harm_budget\":25%s%s}", *members ? "," : "", members);
    assert_int_equal(parse(text, &policy, &error), -EINVAL);
    if (!strstr(error.text, expected))
        fail_msg("%s: the error \"%s\" does not say \"%s\"", members, error.text, expected);
}

static void an_impossible_policy_is_refused_with_the_member_the_value_and_the_way_out(void **state)
{
    refused("\"harm\":1", "policy: \"harm\" is not known here");
    refused("\"alpha\":0", "policy.alpha is 0: expected a number from");
    refused("\"alpha\":0.6", "policy.alpha is 0.6");
    refused("\"confidence\":1", "policy.confidence is 1: expected");
    refused("\"confidence\":0.4", "policy.confidence is 0.4");
    refused("\"placebo\":\"some\"", "policy.placebo is \"some\": expected one of none, pairs");
    refused("\"on_halt\":1", "policy.on_halt is 1");
    refused("\"soak\":\"ten\"", "policy.soak: \"ten\" is not a duration");
    refused("\"soak\":0", "policy.soak is 0: expected a duration");
    refused("\"soak\":[]", "policy.soak is []: expected a duration");
    refused("\"soak\":\"20m\"", "policy.deadline is 15m (the default): expected more than "
                                "policy.soak, which is 20m");
    refused("\"soak\":5,\"deadline\":5", "policy.deadline is 5s: expected more than policy.soak");
    refused("\"tolerance\":{\"cap\":0.6}", "policy.tolerance.cap is 0.6");
    refused("\"tolerance\":{\"floor\":0.02}", "policy.tolerance.floor is 0.02: expected at most");
    refused("\"tolerance\":{\"ratio\":0.9}", "policy.tolerance.ratio is 0.9");
    refused("\"tolerance\":{\"max\":1}", "policy.tolerance: \"max\" is not known here");
    refused("\"approvals\":{\"start\":-1}", "policy.approvals.start is -1");
    refused("\"strata\":[\"os\",\"os\"]", "policy.strata[1] is \"os\": expected each name once");
    refused("\"strata\":[\"a b\"]", "policy.strata[0] is \"a b\": expected a name");
    refused("\"stages\":[]", "policy.stages has 0 stages");
    refused("\"stages\":[7]", "policy.stages[0] is 7: expected an object");
    refused("\"stages\":[{\"name\":\"a\"},{\"name\":\"b\",\"share\":\"120%\"}]",
            "policy.stages[1].share");
    refused("\"stages\":[{\"name\":\"a\",\"share\":0.5},{\"name\":\"b\",\"share\":0.4}]",
            "policy.stages[1].share is 0.4: expected at least the 0.5 of policy.stages[0]");
    refused("\"stages\":[{\"name\":\"a\"},{\"name\":\"a\"}]", "policy.stages[1].name is \"a\"");
    refused("\"stages\":[{\"name\":\"start\"}]", "policy.stages[0].name is \"start\"");
    refused("\"stages\":[{\"share\":1}]", "policy.stages[0]: \"name\" is missing");
    refused("\"stages\":[{\"name\":\"a\",\"devices\":4,\"min_settled\":5}]",
            "policy.stages[0].min_settled is 5: expected at most the stage's 4 devices");
    refused("\"stages\":[{\"name\":\"a\",\"devices\":4},{\"name\":\"b\",\"devices\":3}]",
            "policy.stages[1].devices is 3");
    refused("\"stages\":[{\"name\":\"a\",\"organisations\":[]}]",
            "policy.stages[0].organisations has 0 names");
}

static void class_and_budget_are_asked_for_by_name(void **state)
{
    struct policy policy;
    struct error error = ERROR_INIT;
    assert_int_equal(policy_parse(NULL, &policy, &error), -EINVAL);
    assert_non_null(strstr(error.text, "\"class\" is missing"));
    assert_int_equal(parse("{\"class\":\"routine\"}", &policy, &error), -EINVAL);
    assert_non_null(strstr(error.text, "\"harm_budget\" is missing"));
    assert_int_equal(parse("{\"class\":\"routine\",\"harm_budget\":0.5}", &policy, &error),
                     -EINVAL);
    assert_non_null(strstr(error.text, "policy.harm_budget is 0.5"));
    assert_int_equal(parse("{\"class\":\"hasty\",\"harm_budget\":1}", &policy, &error), -EINVAL);
    assert_non_null(strstr(error.text, "expected one of routine, urgent, emergency"));
    assert_int_equal(parse("[]", &policy, &error), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_class_and_budget_are_needed_and_the_rest_has_the_documented_values),
        cmocka_unit_test(every_key_of_the_design_is_read),
        cmocka_unit_test(a_policy_reads_back_from_its_own_json),
        cmocka_unit_test(an_impossible_policy_is_refused_with_the_member_the_value_and_the_way_out),
        cmocka_unit_test(class_and_budget_are_asked_for_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
