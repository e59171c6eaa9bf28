rule program_hidden_in_text
{
    meta:
        description = "A text file that starts with an ELF program in base64"
    strings:
        $elf = "f0VMRg"
    condition:
        $elf at 0
}
