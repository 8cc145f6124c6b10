/** Where the layers and boundaries of a draft lie in the strip. Pure geometry; pixels. */

import { Draft, moveBoundary, ranges, reach } from './draft';

export interface Segment {
  readonly device: string;
  readonly start: number;
  readonly end: number;
  readonly x: number;
  readonly width: number;
  /** Holds nothing: drawn as a stub that a boundary can be dragged over. */
  readonly empty: boolean;
  /** Where the embedding's or the head's cell is, if it is here. */
  readonly embeddingX: number | null;
  readonly headX: number | null;
}

export interface Strip {
  readonly segments: ReadonlyArray<Segment>;
  /** The middle of the gap after segment i. */
  readonly handles: ReadonlyArray<number>;
  readonly layerWidth: number;
}

export const TOP = 20; // room for the handles' knobs
export const HEIGHT = 64; // of the largest layer
export const HEAT = 8; // height of the band of measured times
export const END = 34; // width of the embedding's and the head's cell
export const STUB = 26; // width of a device without layers
const GAP = 10; // room for a handle
const EDGE = 2;

/** The strip of a draft in so many pixels. */
export function strip(draft: Draft, width: number): Strip {
  const spans = ranges(draft);
  const empty = draft.layers.filter(count => count === 0).length;
  const fixed = 2 * EDGE + 2 * (END + 2) + GAP * (draft.devices.length - 1) + STUB * empty;
  const total = spans.at(-1)?.[1] ?? 0;
  const layerWidth = Math.max(1, (width - fixed) / Math.max(1, total));
  const first = draft.layers.findIndex(count => count > 0);
  const last = draft.layers.length - 1 - [...draft.layers].reverse().findIndex(count => count > 0);
  let x = EDGE;
  const segments: Segment[] = [];
  const handles: number[] = [];
  spans.forEach(([start, end], i) => {
    const isEmpty = start === end;
    let embeddingX: number | null = null;
    let headX: number | null = null;
    if (i === first) {
      embeddingX = x;
      x += END + 2;
    }
    const at = x;
    const wide = isEmpty ? STUB : layerWidth * (end - start);
    x += wide;
    if (i === last) {
      headX = x + 2;
      x += END + 2;
    }
    segments.push({
      device: draft.devices[i],
      start,
      end,
      x: at,
      width: wide,
      empty: isEmpty,
      embeddingX,
      headX
    });
    if (i < spans.length - 1) {
      handles.push(x + GAP / 2);
      x += GAP;
    }
  });
  return { segments, handles, layerWidth };
}

/** The position of boundary `i` whose handle is nearest to `x`. */
export function nearest(draft: Draft, i: number, x: number, width: number): number {
  const [least, most] = reach(draft, i);
  let best = least;
  let distance = Infinity;
  for (let to = least; to <= most; to += 1) {
    const away = Math.abs(strip(moveBoundary(draft, i, to), width).handles[i] - x);
    if (away < distance) {
      best = to;
      distance = away;
    }
  }
  return best;
}
