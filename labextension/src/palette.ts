/**
 * Which colour, hatching and number a device has: a port of exo_lab/front/palette.py, held to it by a test.
 *
 * Colours are those of Okabe and Ito (2008). They are data, not decoration: the same device has the same colour in a
 * static picture, in a terminal's legend and here, in every theme; a hatching and a number always stand beside it.
 */

export const COLOURS = [
  '#0072B2',
  '#E69F00',
  '#009E73',
  '#CC79A7',
  '#56B4E9',
  '#D55E00',
  '#F0E442',
  '#8C8C8C'
];
export const HATCHINGS = ['plain', 'rising', 'level', 'dots', 'falling', 'upright', 'cross'] as const;
export type Hatching = (typeof HATCHINGS)[number];

/** How one device is shown everywhere. `index` counts from 0. */
export interface Mark {
  readonly index: number;
  readonly number: string;
  readonly colour: string;
  readonly ink: string;
  readonly hatching: Hatching;
}

/** The mark with this index. */
export function mark(index: number): Mark {
  const colour = COLOURS[index % COLOURS.length];
  return {
    index,
    number: String(index + 1),
    colour,
    ink: luminance(colour) > 0.18 ? '#000000' : '#ffffff',
    hatching: HATCHINGS[index % HATCHINGS.length]
  };
}

/** An index for each [id, name], by natural order of the names: node-2 comes before node-10. */
export function assign(devices: ReadonlyArray<readonly [string, string]>): ReadonlyMap<string, Mark> {
  const ordered = [...devices].sort((a, b) => compareNatural(a[1], b[1]) || compareText(a[0], b[0]));
  const marks = new Map<string, Mark>();
  for (const [id] of ordered) {
    if (!marks.has(id)) {
      marks.set(id, mark(marks.size));
    }
  }
  return marks;
}

type Part = readonly [number, number, string];

function natural(name: string): Part[] {
  const parts = name.match(/[0-9]{1,18}|[^0-9]+/g) ?? [];
  return parts.map(part => (/^[0-9]+$/.test(part) ? [0, Number(part), ''] : [1, 0, part.toLowerCase()]));
}

/** As sorting by natural order wants it. */
export function compareNatural(a: string, b: string): number {
  const left = natural(a);
  const right = natural(b);
  for (let i = 0; i < Math.min(left.length, right.length); i += 1) {
    const order =
      left[i][0] - right[i][0] || left[i][1] - right[i][1] || compareText(left[i][2], right[i][2]);
    if (order !== 0) {
      return order;
    }
  }
  return left.length - right.length;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** SVG path data of a hatching inside the rectangle; empty for "plain". */
export function hatch(kind: Hatching, x: number, y: number, w: number, h: number, step = 6): string {
  switch (kind) {
    case 'rising':
      return slanted(x, y, w, h, step, true);
    case 'falling':
      return slanted(x, y, w, h, step, false);
    case 'cross':
      return slanted(x, y, w, h, step * 1.4, true) + slanted(x, y, w, h, step * 1.4, false);
    case 'level':
      return between(y, h, step)
        .map(at => `M${n(x)} ${n(at)}h${n(w)}`)
        .join('');
    case 'upright':
      return between(x, w, step)
        .map(at => `M${n(at)} ${n(y)}v${n(h)}`)
        .join('');
    case 'dots':
      // A line of no length with round ends is a dot.
      return between(y, h, step)
        .flatMap(cy => between(x, w, step).map(cx => `M${n(cx)} ${n(cy)}h0`))
        .join('');
    default:
      return '';
  }
}

function between(start: number, length: number, step: number): number[] {
  const count = Math.max(1, Math.floor(length / step));
  return Array.from({ length: count }, (_, k) => start + (length * (k + 0.5)) / count);
}

/** Lines at 45 degrees, cut at the rectangle's edges. A rising line is where across + up = c. */
function slanted(x: number, y: number, w: number, h: number, step: number, rising: boolean): string {
  let path = '';
  const count = Math.max(1, Math.floor((w + h) / step));
  for (let k = 0; k < count; k += 1) {
    const c = ((w + h) * (k + 0.5)) / count;
    const x0 = Math.max(0, c - h);
    const x1 = Math.min(w, c);
    path += rising
      ? `M${n(x + x0)} ${n(y + c - x0)}L${n(x + x1)} ${n(y + c - x1)}`
      : `M${n(x + x0)} ${n(y + h - c + x0)}L${n(x + x1)} ${n(y + h - c + x1)}`;
  }
  return path;
}

/** A coordinate, one decimal. */
export function n(value: number): string {
  return value.toFixed(1).replace(/\.0$/, '');
}

/** Relative luminance of WCAG 2.2, in [0, 1]. */
function luminance(colour: string): number {
  const [red, green, blue] = [1, 3, 5].map(i => {
    const c = parseInt(colour.slice(i, i + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
