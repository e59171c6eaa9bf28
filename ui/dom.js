// Small helpers over the DOM. Text only ever enters as text: nothing here parses HTML.

export const $ = (id) => document.getElementById(id);

// el('td', {class: 'num', title: …}, 'text', node, …)
export function el(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (value !== undefined && value !== null && value !== false)
            node.setAttribute(key, value === true ? '' : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
}

const SVG = 'http://www.w3.org/2000/svg';

export function icon(symbol) {
    const svg = document.createElementNS(SVG, 'svg');
    const use = document.createElementNS(SVG, 'use');
    svg.setAttribute('aria-hidden', 'true');
    use.setAttribute('href', '#' + symbol);
    svg.append(use);
    return svg;
}

// Writes only what differs, so that selections and screen readers are not disturbed.
export function text(node, value) {
    if (node.textContent !== value)
        node.textContent = value;
}

export function attribute(node, name, value) {
    if (node.getAttribute(name) !== String(value))
        node.setAttribute(name, value);
}

// Rebuilds a list's children only when what they show has changed.
export function fill(node, rows, build) {
    const key = JSON.stringify(rows);
    if (node.dataset.shown === key)
        return;
    node.dataset.shown = key;
    node.replaceChildren(...rows.map(build));
}

// A moment in the viewer's time zone, with the exact UTC on hover.
export function moment(seconds, options) {
    const date = new Date(seconds * 1000);
    return el('time', {datetime: date.toISOString(), title: date.toISOString()},
              date.toLocaleTimeString(undefined, options));
}
