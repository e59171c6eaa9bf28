# shellcheck shell=bash
# shellcheck disable=SC2034 # the caller reads what http_get fills
# One HTTP request to a port of this machine, with nothing but bash. Sourced by waf-ctl and waf-lab.

# http_get PORT PATH: fills http_status, http_headers and http_body, or returns 1 when nobody
# answers a whole reply within two seconds. The caller ignores SIGPIPE.
declare -A http_headers
http_get() {
    local line name
    http_status='' http_body='' http_headers=()
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    if printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\nUser-Agent: waf-check\r\nAccept: */*\r\n\r\n' \
        "$2" "$1" 2>/dev/null >&3; then
        IFS=' ' read -r -t 2 -u 3 _ http_status _
        while IFS= read -r -t 2 -u 3 line && line=${line%$'\r'} && [[ -n $line ]]; do
            name=${line%%:*}
            http_headers[${name,,}]=${line#*: }
        done
        IFS= read -r -t 2 -u 3 http_body
    fi
    exec 3>&-
    [[ $http_status =~ ^[0-9]{3}$ ]]
}
