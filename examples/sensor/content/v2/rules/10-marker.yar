rule harmless_test_marker
{
    meta:
        description = "The marker by which probes see that rules are in force; it does nothing"
    strings:
        $marker = "MAESLANT-SENSOR-HARMLESS-TEST-MARKER"
    condition:
        $marker
}
