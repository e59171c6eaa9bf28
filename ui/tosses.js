// The strip of pairs: one glyph of two cells a pair, release left, placebo right, newest last.

import {$, attribute, el, icon, text} from './dom.js';
import {count, OUTCOMES, scoreInWords} from './words.js';

const glyphs = new Map(); // by number of pair
let shownRollout = null;

function cell(outcome) {
    return el('span', {class: `cell ${outcome}`}, icon(`c-${outcome}`));
}

function show(item, pair) {
    const key = `${pair.release_outcome} ${pair.placebo_outcome}`;
    if (item.dataset.pair === key)
        return;
    const words = `Pair ${count(pair.pair)}: release ${OUTCOMES[pair.release_outcome]}, ` +
                  `placebo ${OUTCOMES[pair.placebo_outcome]}`;
    item.dataset.pair = key;
    item.title = words;
    item.replaceChildren(el('span', {class: 'unseen'}, words), cell(pair.release_outcome),
                         cell(pair.placebo_outcome));
}

function showStrip(pairs, rollout) {
    const strip = $('tosses');
    const atEnd = strip.scrollTop + strip.clientHeight >= strip.scrollHeight - 8;
    if (rollout !== shownRollout) {
        shownRollout = rollout;
        glyphs.clear();
        strip.replaceChildren();
    }
    const wanted = new Set(pairs.map((pair) => pair.pair));
    for (const [number, item] of glyphs) {
        if (!wanted.has(number)) {
            item.remove();
            glyphs.delete(number);
        }
    }
    for (const pair of pairs) {
        let item = glyphs.get(pair.pair);
        if (!item) {
            item = el('li');
            glyphs.set(pair.pair, item);
            strip.append(item);
        }
        show(item, pair);
    }
    if (atEnd)
        strip.scrollTop = strip.scrollHeight;
}

export function showTosses(view, pairs, tossed) {
    const older = view.pairs - pairs.length;
    const score = el('span', {}, el('b', {class: 'arm-r'}, count(view.k_release)), ' : ',
                     el('b', {class: 'arm-p'}, count(view.k_placebo)));
    const rest = `${count(view.pairs)} pairs, ${count(view.pairs_open)} open` +
                 (older > 0 ? `, the last ${count(pairs.length)} shown` : '');
    const key = `${view.k_release}:${view.k_placebo} ${rest}`;
    if ($('score').dataset.shown !== key) {
        $('score').dataset.shown = key;
        $('score').replaceChildren('release ', score, ' placebo ',
                                   el('span', {class: 'quiet'}, `(failures; ${rest})`));
    }
    text($('score-words'), scoreInWords(view, tossed));
    attribute($('tosses'), 'aria-describedby', 'score-words');
    showStrip(pairs, view.rollout);
}
