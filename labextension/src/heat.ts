/**
 * Where each token's time went: a port of exo_lab/front/widgets/heat.py, held to it by a test. Knows no DOM.
 *
 * A token's time is the interval between two arrivals; the first one's is the prompt's and left out. Stages say what they
 * computed and how long they held the step; what is missing is the wire and waiting for it.
 */

import { TokenEvent } from './types';

/** One token, in seconds; `compute` and `queue` are per stage, in the order of `Heat.devices`. */
export interface Split {
  readonly index: number;
  readonly text: string;
  readonly total: number;
  readonly compute: ReadonlyArray<number>;
  readonly queue: ReadonlyArray<number>;
  readonly wire: number;
}

/** `devices`: ids in stage order, then those of an earlier plan of the same answer. */
export interface Heat {
  readonly devices: ReadonlyArray<string>;
  readonly splits: ReadonlyArray<Split>;
}

/** Mean seconds of a token. */
export interface Means {
  readonly compute: ReadonlyArray<number>;
  readonly queue: ReadonlyArray<number>;
  readonly wire: number;
}

/** Seconds at which each kind's colour is strongest: the 95th percentile, so that few slow tokens pale no others. */
export interface Scale {
  readonly layer: number;
  readonly queue: number;
  readonly wire: number;
}

export function heatOf(tokens: ReadonlyArray<TokenEvent>, planned: ReadonlyArray<string>): Heat {
  const devices = [...new Set([...planned, ...tokens.flatMap(token => token.timings.map(([node]) => node))])];
  const splits: Split[] = [];
  tokens.forEach((token, i) => {
    if (i === 0 || token.timings.length === 0) {
      return;
    }
    const compute = devices.map(() => 0);
    const queue = devices.map(() => 0);
    for (const [node, computed, held] of token.timings) {
      const k = devices.indexOf(node);
      compute[k] += computed;
      queue[k] += Math.max(0, held - computed);
    }
    const total = Math.max(0, token.at_s - tokens[i - 1].at_s);
    const wire = Math.max(0, total - sum(compute) - sum(queue));
    splits.push({ index: token.index, text: token.text, total, compute, queue, wire });
  });
  return { devices, splits };
}

/** Of at least one split. */
export function meansOf({ devices, splits }: Heat): Means {
  const mean = (of: (split: Split) => number): number => sum(splits.map(of)) / splits.length;
  return {
    compute: devices.map((_, k) => mean(split => split.compute[k])),
    queue: devices.map((_, k) => mean(split => split.queue[k])),
    wire: mean(split => split.wire)
  };
}

/** `layers`: how many each device holds. */
export function scaleOf(splits: ReadonlyArray<Split>, layers: ReadonlyArray<number>): Scale {
  return {
    layer: high(splits.flatMap(split => split.compute.map((spent, k) => spent / layers[k]))),
    queue: high(splits.flatMap(split => split.queue)),
    wire: high(splits.map(split => split.wire))
  };
}

/** One line a token, times in seconds, as Python's `HeatView.csv` writes it. */
export function heatCsv({ splits }: Heat, names: ReadonlyArray<string>): string {
  const stages = names.flatMap((name, k) => [`stage ${k} ${name} compute_s`, `stage ${k} ${name} queue_s`]);
  const lines = [['index', 'total_s', ...stages, 'wire_s'].map(cell).join(',')];
  for (const one of splits) {
    const spent = one.compute.flatMap((computed, k) => [computed, one.queue[k]]);
    lines.push([one.index, ...[one.total, ...spent, one.wire].map(value => value.toFixed(9))].join(','));
  }
  return `${lines.join('\n')}\n`;
}

function cell(text: string): string {
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function high(values: ReadonlyArray<number>): number {
  const ordered = [...values].sort((a, b) => a - b);
  const at = ordered[Math.min(ordered.length - 1, Math.floor(0.95 * ordered.length))];
  return at || (ordered.at(-1) ?? 0) || 1e-9;
}

function sum(values: ReadonlyArray<number>): number {
  return values.reduce((total, value) => total + value, 0);
}
