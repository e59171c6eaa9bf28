// Evidence, proven harm and window over time, each against its threshold, with the moments at which
// a stage opened and the rollout was paused, resumed and halted.

/* global uPlot */
import {$} from './dom.js';
import {big, cost, count, odds, tenTo} from './words.js';

const LEAST_SECONDS = 10; // of the time axis
const LEGEND = 48; // pixels below the canvas
const HEADROOM = 1.45; // above a threshold, for the labels
const FLOOR = -2; // of the evidence axis, as a power of ten

function theme() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    return {
        ink: colour('ink'),
        quiet: colour('quiet'),
        line: colour('line'),
        release: colour('release'),
        placebo: colour('placebo'),
        bad: colour('bad'),
        warn: colour('warn'),
        good: colour('good'),
        surface: colour('surface'),
        font: `12px ${style.fontFamily}`,
    };
}

const clock = (withSeconds) => {
    const format = new Intl.DateTimeFormat(undefined, {
        hour: '2-digit',
        minute: '2-digit',
        second: withSeconds ? '2-digit' : undefined,
        hourCycle: 'h23',
    });
    return (seconds) => (seconds === null ? '' : format.format(seconds * 1000));
};
const withSeconds = clock(true);
const withoutSeconds = clock(false);

function dashed(context, colour, pattern, from, to) {
    context.save();
    context.strokeStyle = colour;
    context.lineWidth = devicePixelRatio;
    context.setLineDash(pattern.map((length) => length * devicePixelRatio));
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
    context.restore();
}

function label(context, colours, colour, words, x, y, align) {
    context.save();
    context.font = colours.font.replace('12px', `${11 * devicePixelRatio}px`);
    context.textAlign = align;
    context.textBaseline = 'bottom';
    context.lineWidth = 4 * devicePixelRatio;
    context.lineJoin = 'round';
    context.strokeStyle = colours.surface;
    context.strokeText(words, x, y);
    context.fillStyle = colour;
    context.fillText(words, x, y);
    context.restore();
}

const ROWS = 3; // of labels at the top, for moments close to one another

// Thresholds: [{value, words}]; marks: [{t, kind, words}].
function drawLines(plot, colours, thresholds, marks) {
    const {left, top, width, height} = plot.bbox;
    const context = plot.ctx;
    const step = 13 * devicePixelRatio;
    let lastX = -Infinity, row = 0;
    for (const mark of marks) {
        const x = plot.valToPos(mark.t, 'x', true);
        if (x < left - 1 || x > left + width + 1)
            continue;
        const colour = mark.kind === 'halt' ? colours.bad
                       : mark.kind === 'pause' ? colours.warn : colours.quiet;
        dashed(context, colour, mark.kind === 'halt' ? [] : [2, 3], [x, top], [x, top + height]);
        row = x - lastX < 70 * devicePixelRatio ? row + 1 : 0;
        lastX = x;
        const right = x > left + width - 70 * devicePixelRatio;
        label(context, colours, colour, mark.words, x + (right ? -4 : 4) * devicePixelRatio,
              top + step * (row % ROWS + 1), right ? 'right' : 'left');
    }
    for (const threshold of thresholds) {
        const y = plot.valToPos(threshold.value, 'y', true);
        if (y < top - 1 || y > top + height + 1)
            continue;
        dashed(context, colours.bad, [6, 4], [left, y], [left + width, y]);
        label(context, colours, colours.bad, threshold.words, left + 4 * devicePixelRatio, y + step,
              'left');
    }
}

function spread(view, times) {
    const from = view.started_at / 1000;
    return [from, Math.max(times[times.length - 1] ?? from, from + LEAST_SECONDS)];
}

const power = (value) => (value === null ? '–' : odds(value * Math.LN10));

function powersOfTen(plot, axis, low, high) {
    const step = Math.max(1, Math.ceil((high - low) / 6));
    const splits = [];
    for (let at = Math.ceil(low / step) * step; at <= high; at += step)
        splits.push(at);
    return splits;
}

const line = (more) => ({width: 2, points: {show: false}, spanGaps: true, ...more});
const stepped = () => uPlot.paths.stepped({align: 1});

// What each chart shows. `columns` picks out of the history.
const CHARTS = {
    evidence: {
        columns: (history) => [history.log_split, history.log_e].map(
            (logs) => logs.map((value) => Math.max(FLOOR, value / Math.LN10))),
        series: (colours) => [
            line({label: 'coin tosses', stroke: colours.release, paths: stepped(),
                  value: (plot, value) => power(value)}),
            line({label: 'failure rate', stroke: colours.placebo, dash: [5, 3], paths: stepped(),
                  value: (plot, value) => power(value)}),
        ],
        thresholds: (view) => [{value: view.log_threshold / Math.LN10,
                                words: `proof: 1 in ${big(view.log_threshold)}`}],
        range: (view, low, high) => [Math.min(low, -0.5),
                                     Math.max(1.1 * high, HEADROOM * view.log_threshold / Math.LN10)],
        axis: {splits: powersOfTen, size: 50,
               values: (plot, splits) => splits.map((at) => at < 0 ? '' : tenTo(at))},
    },
    proven: {
        columns: (history) => [history.proven_harm, history.failed],
        series: (colours) => [
            line({label: 'proven harmed', stroke: colours.bad, fill: colours.bad + '22',
                  paths: stepped(), value: (plot, value) => value === null ? '–' : count(value)}),
            line({label: 'failed', stroke: colours.quiet, dash: [5, 3], paths: stepped(),
                  value: (plot, value) => value === null ? '–' : count(value)}),
        ],
        thresholds: (view) => [{value: Math.floor(view.window),
                                words: `halts above ${count(Math.floor(view.window))}`}],
        range: (view, low, high) => [
            0, Math.max(1.1 * high, HEADROOM * Math.floor(view.window))],
        axis: {size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 1e4, 1e5, 1e6]},
    },
    window: {
        columns: (history) => [history.window_used],
        series: (colours) => [
            line({label: 'harm budget in use', stroke: colours.release,
                  fill: colours.release + '22', paths: stepped(),
                  value: (plot, value) => value === null ? '–' : cost(value)}),
        ],
        thresholds: (view) => [{value: view.window, words: `budget H = ${cost(view.window)}`}],
        range: (view, low, high) => [0, Math.max(1.1 * high, HEADROOM * view.window)],
        axis: {size: 44},
    },
};

function axes(colours, more) {
    const common = {stroke: colours.quiet, font: colours.font, ticks: {show: false},
                    grid: {stroke: colours.line, width: 1}};
    return [
        {...common, grid: {show: false}, space: 56, size: 28,
         values: (plot, splits, axis, space, incr) =>
             splits.map(incr < 60 ? withSeconds : withoutSeconds)},
        {...common, space: 28, ...more},
    ];
}

class Chart {
    constructor(name) {
        this.what = CHARTS[name];
        this.box = $(`c-${name}`);
        this.plot = null;
        new ResizeObserver(() => this.#fit()).observe(this.box);
    }

    show(view, history, marks) {
        this.view = view;
        this.marks = marks;
        this.data = [history.t, ...this.what.columns(history)];
        if (this.plot) {
            this.plot.setData(this.data);
            this.#legend();
        } else {
            this.#make();
        }
    }

    // Without a pointer on it the legend tells the newest values.
    #legend() {
        setTimeout(() => {
            if (this.plot && this.plot.cursor.left < 0)
                this.plot.setLegend({idx: this.data[0].length - 1});
        });
    }

    remake() {
        this.plot?.destroy();
        this.plot = null;
        if (this.data)
            this.#make();
    }

    // The legend lies below the canvas, within the box.
    #size() {
        return {width: this.box.clientWidth, height: Math.max(120, this.box.clientHeight - LEGEND)};
    }

    #fit() {
        if (this.plot && this.box.clientWidth > 0)
            this.plot.setSize(this.#size());
        this.#legend();
    }

    #make() {
        const colours = theme();
        if (this.box.clientWidth === 0)
            return;
        this.plot = new uPlot({
            ...this.#size(),
            cursor: {sync: {key: 'maeslant'}, drag: {x: false, y: false}, y: false},
            padding: [6, 10, 0, 0],
            scales: {
                x: {time: true, range: () => spread(this.view, this.data[0])},
                y: {range: (plot, low, high) => this.what.range(this.view, low ?? 0, high ?? 0)},
            },
            axes: axes(colours, this.what.axis),
            series: [{label: 'at', value: (plot, value) => withSeconds(value)},
                     ...this.what.series(colours)],
            hooks: {draw: [(plot) => drawLines(plot, colours, this.what.thresholds(this.view),
                                               this.marks)]},
        }, this.data, this.box);
        this.plot.over.addEventListener('mouseleave', () => this.#legend());
        this.#legend();
    }
}

let charts = null;

// `history`: columns of equal length, t in seconds.
export function showCharts(view, history, marks) {
    charts ??= Object.keys(CHARTS).map((name) => new Chart(name));
    for (const chart of charts)
        chart.show(view, history, marks);
}

matchMedia('(prefers-color-scheme: dark)')
    .addEventListener('change', () => charts?.forEach((chart) => chart.remake()));
