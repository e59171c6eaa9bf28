// One rollout in detail. Figures come with every event of the stream; what is longer (pairs,
// sentences, history, failures) comes from the rollout's own address and may be a moment older.

import {$, attribute, el, fill, icon, moment, text} from './dom.js';
import {showCharts} from './charts.js';
import {showTosses} from './tosses.js';
import {big, cost, count, odds, percent, plural, seconds, STATES} from './words.js';

const DEVICES = [
    ['healthy', 'healthy with the release'],
    ['trial', 'trying the release'],
    ['placebo', 'in a placebo'],
    ['placebo done', 'placebo done, release to come'],
    ['failed', 'failed'],
    ['reverted', 'back on the release before'],
    ['not begun', 'not begun'],
];

export const stageInWords = (view) =>
    `stage ${view.stage_index + 1} of ${view.stage_count}, “${view.stage}”`;

export const devicesOf = (view) =>
    Object.values(view.devices).reduce((sum, devices) => sum + devices, 0);

// The state as one sentence, for the banner and for screen readers.
export function stateInWords(view) {
    switch (view.state) {
    case 'halted': {
        const after = view.seconds_to_halt >= 0 && view.seconds_to_halt !== null
            ? `, ${seconds(view.seconds_to_halt)} after the first failure` : '';
        return `Halted in ${stageInWords(view)}${after}`;
    }
    case 'done':
        return 'Done: every stage is through';
    default:
        return `${STATES[view.state]}: ${stageInWords(view)}`;
    }
}

function showBanner(view) {
    attribute($('banner'), 'data-state', view.state);
    attribute($('banner-icon').firstElementChild, 'href', `#s-${view.state}`);
    text($('title'), `${view.product} ${view.version}`);
    text($('state'), stateInWords(view));
    text($('why'), view.sentence ?? '');
    fill($('meta'), [`Rollout ${view.rollout}`, `channel ${view.channel}`, view.release,
                     view.by, view.started_at], (part, index) => {
        switch (index) {
        case 2:
            return el('span', {}, ' · release ', el('code', {title: part}, part.slice(0, 12) + '…'));
        case 3:
            return el('span', {}, part ? ` · started by ${part} ` : ' · started ');
        case 4:
            return part ? moment(part / 1000, {}) : '';
        default:
            return el('span', {}, (index ? ' · ' : '') + part);
        }
    });
}

const STAGES = {done: 'done', open: 'open now', 'to come': 'to come'};

function stagesFrom(view, detail) {
    if (detail.stages)
        return detail.stages;
    return Array.from({length: view.stage_count}, (unused, i) => (
        {name: i === view.stage_index ? view.stage : `stage ${i + 1}`}));
}

// The state is the stream's, so that a stage that opens shows at once.
function stageState(view, index) {
    if (index < view.stage_index || view.state === 'done')
        return 'done';
    return index === view.stage_index && view.stage_opened_at ? 'open' : 'to come';
}

function stageLimit(stage) {
    if (stage.devices)
        return `up to ${plural(stage.devices, 'device', 'devices')}`;
    if (stage.share !== undefined && stage.share < 1)
        return `${percent(stage.share, 1)} of the devices`;
    return stage.organisations ? 'all devices of it' : 'all devices';
}

function showStages(view, detail) {
    const rows = stagesFrom(view, detail).map((stage, index) => {
        const state = stageState(view, index);
        const stopped = state === 'open' && (view.state === 'halted' || view.state === 'paused');
        return [stage.name, stopped ? view.state : state,
                stopped ? `${view.state} here` : STAGES[state], stageLimit(stage)];
    });
    fill($('stages'), rows, ([name, state, words, limit], index) =>
        el('li', {'data-stage': state, 'aria-current': index === view.stage_index ? 'step' : null},
           el('b', {}, name), el('span', {}, `${words} · ${limit}`)));
}

function meter(node, value, most, words, over) {
    if (!node.firstElementChild)
        node.append(el('i'));
    const part = most > 0 ? Math.max(0, Math.min(1, value / most)) : 0;
    node.firstElementChild.style.width = `${100 * part}%`;
    attribute(node, 'aria-valuemin', 0);
    attribute(node, 'aria-valuemax', most);
    attribute(node, 'aria-valuenow', Math.max(0, Math.min(value, most)));
    attribute(node, 'aria-valuetext', words);
    node.toggleAttribute('data-over', over);
}

function showTiles(view) {
    const limit = Math.floor(view.harm_budget);
    const score = odds(view.log_split);
    text($('n-healthy'), count(view.healthy));
    text($('n-healthy-more'), `of ${plural(devicesOf(view), 'device', 'devices')}, ` +
                              `${count(view.permits)} got the release`);
    text($('n-flight'), count(view.in_flight));
    text($('n-flight-more'), `and ${plural(view.placebo_in_flight, 'placebo', 'placebos')}`);
    text($('n-failed'), count(view.failed));
    text($('n-failed-more'), (view.silent ? `${count(view.silent)} of them silent; ` : '') +
         `placebos: ${count(view.placebo_failed)} of ${count(view.placebo_settled)}`);
    text($('n-window'), `${cost(view.window_used)} of ${cost(view.window)}`);
    text($('n-window-more'), `the next permit costs ${view.cost < 0.1 ? '< 0.1' : cost(view.cost)}`);
    meter($('m-window'), view.window_used, view.window,
          `${cost(view.window_used)} of ${cost(view.window)} devices`, false);
    text($('n-proven'), plural(view.proven_harm, 'device', 'devices'));
    text($('n-proven-more'), view.proven_harm > limit ? `more than ${count(limit)}: halted`
                                                      : `halts above ${count(limit)}`);
    meter($('m-proven'), view.proven_harm, limit + 1,
          `${count(view.proven_harm)}, halts above ${count(limit)}`, view.proven_harm > limit);
    text($('n-evidence'), score);
    text($('n-evidence-more'), score === 'none' ? `proof is 1 in ${big(view.log_threshold)}`
        : `by chance at most; proof is 1 in ${big(view.log_threshold)}`);
    $('n-evidence').title = `ln e₀ = ${view.log_split.toFixed(3)}, ` +
        `ln E = ${view.log_e.toFixed(3)}, ln(2/α) = ${view.log_threshold.toFixed(3)}`;
    meter($('m-evidence'), view.log_split, view.log_threshold,
          `${score}, proof is 1 in ${big(view.log_threshold)}`,
          view.log_split >= view.log_threshold);
}

function chartsInWords(view) {
    const proof = big(view.log_threshold);
    const limit = count(Math.floor(view.harm_budget));
    const tosses = odds(view.log_split), rate = odds(view.log_e);
    const said = (word) => word === 'none' ? 'no evidence' : word;
    text($('t-evidence'), `How rarely chance looks like this, at most. Coin tosses, were the ` +
         `release harmless: ${said(tosses)}. Failure rate, were it tolerable: ${said(rate)}. ` +
         `Proof: 1 in ${proof}.`);
    text($('t-proven'), `Devices that the coin tosses prove harmed: ${count(view.proven_harm)}. ` +
         `Failed with the release: ${count(view.failed)}. It halts above ${limit}.`);
    text($('t-window'), `Devices that the trials in flight could harm, at most: ` +
         `${cost(view.window_used)} of ${cost(view.window)}.`);
}

function showDevices(view) {
    const all = devicesOf(view);
    const rows = DEVICES.map(([key, words]) => [key, words, view.devices[key] ?? 0]);
    const kind = (key) => key.replace(' ', '-');
    if (!$('devices-bar').firstElementChild)
        $('devices-bar').append(...rows.map(([key]) => el('i', {'data-kind': kind(key)})));
    rows.forEach(([, , devices], index) => {
        const part = $('devices-bar').children[index];
        part.style.flexGrow = devices;
        part.hidden = devices === 0;
    });
    fill($('devices'), rows, ([key, words, devices]) =>
        el('tr', {}, el('th', {scope: 'row'}, el('i', {class: 'swatch', 'data-kind': kind(key),
                                                       'aria-hidden': 'true'}), words),
           el('td', {class: 'num'}, count(devices)),
           el('td', {class: 'num'}, percent(devices, all))));
}

const MOMENTS = {
    open: (moment) => `Stage “${moment.stage}” opened`,
    pause: (moment) => `Paused${because(moment)}`,
    resume: (moment) => `Went on${because(moment) || ': the reason for the pause is gone'}`,
    halt: (moment) => `Halted${because(moment)}`,
    done: () => 'Done: every device has settled',
};
const ALARMS = {
    'proven-harm': 'the coin tosses prove more harm than the budget allows',
    absolute: 'it fails more often than the policy tolerates, and the placebos do not',
    organisation: 'one organisation’s devices alone speak against it',
    environment: 'failures are frequent, and the placebos may be failing in the same way',
    person: 'a person said so',
};

function because({because, decision}) {
    if (!because || (decision === 'resume' && because.alarm !== 'person'))
        return '';
    if (because.alarm === 'person' && because.reason)
        return `${because.by ? ` by ${because.by}` : ''}: ${because.reason}`;
    return ALARMS[because.alarm] ? `: ${ALARMS[because.alarm]}` : '';
}

function showMoments(view, detail) {
    const rows = [[view.started_at, 'Started']];
    for (const item of detail.moments ?? [])
        rows.push([item.at, MOMENTS[item.decision](item)]);
    if (view.first_failure_at)
        rows.push([view.first_failure_at, 'A device failed with the release for the first time']);
    if (view.last_reverted_at)
        rows.push([view.last_reverted_at, 'The last device so far is back on the release before' +
            (view.seconds_to_reverted > 0 ? `, ${seconds(view.seconds_to_reverted)} after the halt`
                                          : '')]);
    rows.sort((a, b) => a[0] - b[0]);
    fill($('moments'), rows, ([at, words]) =>
        el('li', {}, moment(at / 1000), el('span', {}, words)));
}

function showFailures(failures) {
    $('failures-none').hidden = failures.length > 0;
    $('failures-box').hidden = failures.length === 0;
    fill($('failures'), failures, (failure) =>
        el('tr', {}, el('td', {}, moment(failure.at / 1000)),
           el('td', {}, el('code', {title: failure.device}, failure.device.slice(0, 12))),
           el('td', {}, failure.organisation), el('td', {}, failure.arm),
           el('td', {}, failure.why ?? '–')));
}

const MARKS = {open: (item) => item.stage, pause: () => 'paused', resume: () => 'goes on',
               halt: () => 'halted', done: () => 'done'};

function showHistory(view, detail) {
    if (!detail.history?.t.length)
        return;
    showCharts(view, detail.history, (detail.moments ?? []).map((item) => (
        {t: item.at / 1000, kind: item.decision, words: MARKS[item.decision](item)})));
}

export function showRollout(view, detail) {
    showBanner(view);
    showStages(view, detail);
    showTiles(view);
    showTosses(view, detail.pair_list ?? [], detail.tossed !== false);
    chartsInWords(view);
    showHistory(view, detail);
    fill($('explain'), detail.explain ?? [], (sentence) => el('li', {}, sentence));
    showDevices(view);
    showMoments(view, detail);
    showFailures(detail.failures ?? []);
}

export function rolloutLink(view, current) {
    const link = el('a', {href: `#rollout=${encodeURIComponent(view.rollout)}`,
                          'data-state': view.state, title: `Rollout ${view.rollout}`,
                          'aria-current': current ? 'true' : null}, icon(`s-${view.state}`),
                    el('b', {}, `${view.product} ${view.version}`),
                    el('span', {}, linkLine(view)));
    return el('li', {}, link);
}

export function linkLine(view) {
    const state = view.state === 'running'
        ? `Running, stage ${view.stage_index + 1} of ${view.stage_count}` : STATES[view.state];
    return `${state} · ${count(view.healthy)} of ${count(devicesOf(view))}` +
           (view.gate === 'off' ? ' · gate off' : '');
}
