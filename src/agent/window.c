#include "agent/config.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static const char day_names[7][4] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

/* One day name from *p on, 0 (Sunday) to 6; -1 when there is none. */
static int read_day(const char **p)
{
    for (int day = 0; day < 7; day++) {
        if (strncmp(*p, day_names[day], 3) == 0) {
            *p += 3;
            return day;
        }
    }
    return -1;
}

/* "mon-fri", "sat,sun", "daily" as bits; 0 when it is none. */
static unsigned read_days(const char **p)
{
    unsigned days = 0;

    if (strncmp(*p, "daily", 5) == 0) {
        *p += 5;
        return 0x7f;
    }
    for (;;) {
        int first = read_day(p);
        int last = first;

        if (first < 0)
            return 0;
        if (**p == '-') {
            (*p)++;
            last = read_day(p);
            if (last < 0)
                return 0;
        }
        for (int day = first;; day = (day + 1) % 7) {
            days |= 1U << day;
            if (day == last)
                break;
        }
        if (**p != ',')
            return days;
        (*p)++;
    }
}

/* "HH:MM" as minutes, 0 to 1440; -1 when it is none. */
static int read_minute(const char **p)
{
    const char *t = *p;
    int hour, minute;

    for (int i = 0; i < 5; i++)
        if (i == 2 ? t[i] != ':' : (t[i] < '0' || t[i] > '9'))
            return -1;
    hour = (t[0] - '0') * 10 + t[1] - '0';
    minute = (t[3] - '0') * 10 + t[4] - '0';
    *p += 5;
    return minute > 59 || hour * 60 + minute > 1440 ? -1 : hour * 60 + minute;
}

int window_contains(const char *window, const struct tm *local, bool *ret, struct error *error)
{
    const char *p = window;
    unsigned days = read_days(&p);
    int now = local->tm_hour * 60 + local->tm_min;
    int yesterday = (local->tm_wday + 6) % 7;
    int from = -1, to = -1;

    if (days && *p == ' ') {
        p++;
        from = read_minute(&p);
        if (from >= 0 && *p == '-') {
            p++;
            to = read_minute(&p);
        }
    }
    if (from < 0 || to < 0 || *p != '\0' || from == to)
        return error_set(error, -EINVAL,
                         "window \"%.64s\": expected days and local times, such as "
                         "\"mon-fri 22:00-04:00\" or \"daily 02:00-05:00\"",
                         window);
    if (from < to)
        *ret = (days >> local->tm_wday & 1) && now >= from && now < to;
    else
        *ret =
            ((days >> local->tm_wday & 1) && now >= from) || ((days >> yesterday & 1) && now < to);
    return 0;
}
