rule script_fetches_and_runs
{
    meta:
        description = "A shell script that pipes a download into a shell"
    strings:
        $fetch = /(curl|wget)[^\n|]{0,200}\|[ \t]*(ba|da)?sh\b/
    condition:
        uint16(0) == 0x2123 and $fetch
}
