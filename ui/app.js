// The page: signs in, listens, and shows the fleet, the list of rollouts and one of them.

import {$, fill, text} from './dom.js';
import {linkLine, rolloutLink, showRollout, stateInWords} from './detail.js';
import {addHistory, emptyHistory} from './history.js';
import {Stream} from './stream.js';
import {plural, seconds} from './words.js';

const LISTED = 30; // rollouts in the list
const DETAIL_EVERY = 400; // ms between two looks at the open rollout's detail

let state = null;
let chosen = null; // a rollout's name, or null: the newest
let detail = {};
let said = null;
let lost = null; // {since, retryAt}

// A token in the fragment never stays in the address bar or the history.
function takeFragment() {
    const fragment = new URLSearchParams(location.hash.slice(1));
    const token = fragment.get('token');
    chosen = fragment.get('rollout');
    if (token !== null)
        history.replaceState(null, '', location.pathname);
    return token;
}

async function openSession(token) {
    const reply = await fetch('/session', {
        method: 'POST',
        headers: {'Content-Type': 'text/plain'},
        body: token.trim(),
        credentials: 'same-origin',
    });
    if (reply.ok)
        return null;
    const problem = await reply.json().catch(() => ({}));
    return [problem.title, problem.remedy].filter(Boolean)
        .map((part) => part.replace(/\.?$/, '.')).join(' ') || `The server answered ${reply.status}.`;
}

function showSignIn(error) {
    state = null;
    $('page').hidden = true;
    $('not-live').hidden = true;
    $('gate-off').hidden = true;
    $('live').dataset.live = 'wait';
    text($('live-text'), 'Signed out');
    text($('fleet'), '');
    $('sign-in').hidden = false;
    text($('sign-in-error'), error ?? '');
    $('token').focus();
}

async function signIn(token) {
    let error;
    try {
        error = await openSession(token);
    } catch {
        error = 'The control plane does not answer. Check the address and that it runs.';
    }
    if (error) {
        showSignIn(error);
        return;
    }
    $('token').value = '';
    $('sign-in').hidden = true;
    stream.connect();
}

const openRollout = () =>
    state?.rollouts.find((view) => view.rollout === chosen) ?? state?.rollouts[0] ?? null;

function showList(open) {
    const views = state.rollouts.slice(0, LISTED);
    const rows = views.map((view) => [view.rollout, view.state, linkLine(view),
                                      view === open]);
    const focused = document.activeElement?.closest?.('#rollouts a')?.hash;
    fill($('rollouts'), rows, (row) => rolloutLink(
        views.find((view) => view.rollout === row[0]), row[3]));
    if (focused && document.activeElement === document.body)
        [...$('rollouts').querySelectorAll('a')].find((link) => link.hash === focused)?.focus();
}

// Spoken once a change, not with every figure.
function say(view) {
    const sentence = `${view.product} ${view.version}: ${stateInWords(view)}. `;
    const key = `${view.rollout} ${view.state} ${view.stage_index}`;
    if (said === key)
        return;
    said = key;
    text($('say'), sentence + (view.state === 'running' ? '' : view.sentence ?? ''));
    document.title = `${view.state === 'running' ? '' : view.state.toUpperCase() + ' – '}` +
                     `${view.product} ${view.version} – Maeslant`;
}

function show() {
    const open = openRollout();
    const {total, quarantined} = state.devices;
    $('sign-in').hidden = true;
    $('page').hidden = false;
    $('gate-off').hidden = state.gate !== 'off' && open?.gate !== 'off';
    text($('fleet'), plural(total, 'device', 'devices') +
                     (quarantined ? `, ${quarantined} quarantined` : ''));
    $('nothing').hidden = open !== null;
    $('rollout').hidden = open === null;
    showList(open);
    if (open === null)
        return;
    if (detail.rollout !== open.rollout)
        detail = {rollout: open.rollout, history: emptyHistory(), after: 0};
    addHistory(detail.history, open);
    showRollout(open, detail);
    say(open);
    const figures = JSON.stringify({...open, at: 0});
    if (detail.after === 0 || detail.figures !== figures) {
        detail.figures = figures;
        wantDetail();
    }
}

// At most one request at a time and a few a second; what was missed is asked for after.
let asking = false, wanted = false;

async function wantDetail() {
    if (asking) {
        wanted = true;
        return;
    }
    asking = true;
    wanted = false;
    const {rollout, after} = detail;
    try {
        const reply = await fetch(
            `/v1/admin/rollouts/${encodeURIComponent(rollout)}/history?after=${after}`,
            {cache: 'no-store', credentials: 'same-origin'});
        if (reply.ok && rollout === detail.rollout)
            takeDetail(await reply.json());
    } catch {
        // The stream notices a lost server and says so.
    }
    setTimeout(() => {
        asking = false;
        if (wanted && state)
            wantDetail();
    }, DETAIL_EVERY);
}

function takeDetail(answer) {
    const {history: points, ...rest} = answer;
    if (detail.after === 0)
        detail.history = emptyHistory();
    for (const point of points)
        addHistory(detail.history, point);
    detail = {...detail, ...rest, after: points.at(-1)?.at ?? detail.after};
    const open = openRollout();
    if (open?.rollout === detail.rollout) {
        addHistory(detail.history, open);
        showRollout(open, detail);
    }
}

function showLost() {
    const old = lost !== null;
    document.body.classList.toggle('stale', old);
    $('not-live').hidden = !old || !$('sign-in').hidden;
    if (!old)
        return;
    const wait = Math.max(0, Math.ceil((lost.retryAt - Date.now()) / 1000));
    const what = state === null ? 'The control plane does not answer.'
        : `What you see is from ${new Date(lost.since).toLocaleTimeString()}, ` +
          `${seconds(Math.round((Date.now() - lost.since) / 1000))} ago.`;
    text($('not-live-text'), `${what} ${wait > 0 ? `Trying again in ${wait} s.` : 'Trying again…'}`);
}

const stream = new Stream({
    state(next) {
        state = next;
        show();
    },
    live() {
        if (lost !== null)
            said = null;
        lost = null;
        $('live').dataset.live = 'yes';
        text($('live-text'), 'Live');
        showLost();
    },
    lost({retryAt}) {
        if (lost === null) // the countdown beside it would be read out every second
            text($('say'), 'Not live: the control plane does not answer.');
        lost = {since: stream.heard, retryAt};
        detail.after = 0;
        $('live').dataset.live = 'no';
        text($('live-text'), 'Not live');
        showLost();
    },
    signedOut() {
        lost = null;
        stream.close();
        showLost();
        showSignIn();
    },
});

$('sign-in-form').addEventListener('submit', (event) => {
    event.preventDefault();
    signIn($('token').value);
});
$('retry').addEventListener('click', () => stream.connect());
addEventListener('hashchange', () => {
    const token = takeFragment();
    if (token !== null)
        signIn(token);
    else if (state)
        show();
});
setInterval(showLost, 1000);

const token = takeFragment();
if (token !== null)
    signIn(token);
else
    stream.connect();
