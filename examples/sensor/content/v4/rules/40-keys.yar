rule private_key_in_the_open
{
    meta:
        description = "A private key in PEM form"
    strings:
        $begin = /-----BEGIN ([A-Z]+ )?PRIVATE KEY-----/
    condition:
        $begin
}
