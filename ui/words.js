// Numbers in words that a release engineer and a manager read alike.

const whole = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, {maximumSignificantDigits: 2});
const oneDigit = new Intl.NumberFormat(undefined, {maximumFractionDigits: 1});
const SUPERSCRIPT = '⁰¹²³⁴⁵⁶⁷⁸⁹';

export const count = (n) => whole.format(n);
export const cost = (n) => oneDigit.format(n);
export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

export function percent(part, all) {
    if (!all)
        return '–';
    const share = 100 * part / all;
    return share > 0 && share < 0.1 ? '< 0.1 %' : `${oneDigit.format(share)} %`;
}

// "1 in 20,000" out of ln e; chance can't be told apart from e ≤ 1.
export function odds(logE) {
    const e = Math.exp(Math.min(logE, 700));
    if (!(e >= 2))
        return 'none';
    return `1 in ${big(logE)}`;
}

export function big(logE) {
    const tens = logE / Math.LN10;
    if (tens < 6) {
        const e = Math.exp(logE);
        return count(e < 100 ? Math.floor(e + 1e-9) : Number(Math.floor(e).toPrecision(3)));
    }
    if (tens < 9)
        return `${short.format(10 ** (tens - 6))} million`;
    return tenTo(Math.floor(tens));
}

export function tenTo(power) {
    if (power < 6)
        return count(10 ** power);
    return '10' + String(power).replace(/\d/g, (digit) => SUPERSCRIPT[digit]);
}

export function seconds(s) {
    if (!(s >= 0))
        return '–';
    if (s < 1)
        return `${Math.round(s * 1000)} ms`;
    if (s < 60)
        return `${oneDigit.format(s)} s`;
    if (s < 3600)
        return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
    if (s < 48 * 3600)
        return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
    return `${Math.floor(s / 86400)} days`;
}

export const STATES = {
    running: 'Running',
    paused: 'Paused',
    halted: 'Halted',
    done: 'Done',
};

export const OUTCOMES = {
    open: 'in flight',
    healthy: 'healthy',
    failed: 'failed',
    silent: 'silent, which counts as failed',
    reverted: 'went back at the halt',
    declined: 'declined',
    none: 'not come yet',
};

// What the score K₁ : K₀ means. By Ville's inequality a harmless release shows e_0 ≥ e at any
// moment with a probability of at most 1/e. `tossed`: the policy has placebos.
export function scoreInWords(view, tossed) {
    if (!tossed)
        return 'This policy has no placebos: the verdict rests on the tolerated rate of failures ' +
               'alone.';
    if (view.pairs === 0)
        return 'No pair has been tossed yet.';
    if (view.k_release + view.k_placebo === 0)
        return 'No device of any pair has failed so far.';
    const score = `The release ${failed(view.k_release)} where its placebo had not failed before, ` +
                  `the placebo ${failed(view.k_placebo)}. `;
    if (Math.exp(view.log_split) < 2)
        return score + 'That is what chance gives a harmless release, too.';
    return score + 'Were the release harmless, a score at least so lopsided would come up at ' +
           `most once in ${big(view.log_split)} rollouts.`;
}

function failed(n) {
    if (n === 0)
        return 'never failed';
    return `failed ${n === 1 ? 'once' : n === 2 ? 'twice' : `${count(n)} times`}`;
}
