// The figures of one rollout over time, as the columns that the charts draw.

const MOST = 2000; // points; beyond it every second one goes

const COLUMNS = ['log_split', 'log_e', 'proven_harm', 'failed', 'window_used'];

export const emptyHistory = () => ({
    t: [],
    ...Object.fromEntries(COLUMNS.map((name) => [name, []])),
});

// Adds a point (`at` in Unix milliseconds); a point that is not newer than the last changes nothing.
export function addHistory(history, point) {
    const t = point.at / 1000;
    if (history.t.length > 0 && t <= history.t[history.t.length - 1])
        return;
    history.t.push(t);
    for (const name of COLUMNS)
        history[name].push(point[name] ?? null);
    if (history.t.length > MOST)
        thin(history);
}

function thin(history) {
    const last = history.t.length - 1;
    for (const name of ['t', ...COLUMNS])
        history[name] = history[name].filter((unused, index) => index % 2 === 0 || index === last);
}
