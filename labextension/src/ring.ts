/** Where devices stand in the topology picture. Pure geometry; pixels. */

import { livingNodes, State } from './model';
import { Link, NodeStatus, Plan } from './types';

export interface Place {
  readonly node: NodeStatus;
  readonly x: number;
  readonly y: number;
  readonly radius: number;
  /** Its stage in the plan, from 0; null if it holds nothing. */
  readonly stage: number | null;
  /** Are its name and figures above it? Else below. */
  readonly above: boolean;
}

export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly places: ReadonlyArray<Place>;
  /** Little room to the sides, as in a side panel: short lines. */
  readonly narrow: boolean;
}

const SMALLEST = 20;
const LARGEST = 32;
const MARGIN_X = 72; // room for a name beside the outermost devices
const MARGIN_NARROW = 42;
const LINE = 14; // height of a line of text
const NARROW = 380; // pixels: a side panel
const HALO = 14; // what is drawn round a device

/** Devices on an ellipse: those of the plan in stage order, then the others by name. Lost ones stay in the picture. */
export function picture(state: State, plan: Plan | null, width: number): Picture {
  const nodes = ordered(state, plan);
  const count = nodes.length;
  const narrow = width < NARROW;
  const largest = narrow ? 26 : LARGEST;
  const text = (narrow ? 4 : 3) * LINE + 12; // above or below a device
  const rx = Math.max(
    0,
    Math.min(width / 2 - (narrow ? MARGIN_NARROW : MARGIN_X), 70 + 36 * Math.max(2, count))
  );
  // Where there is no room to the sides, the ring stands upright.
  const ry = count < 3 ? 0 : Math.min(240, narrow ? 40 + 34 * count : 46 + 20 * count);
  // Above: the text of the topmost, if it has company below; below: that of the lowest.
  const top = (count < 3 ? 26 : text) + largest + HALO;
  // The first stage is at the top; two devices stand side by side.
  const angles = nodes.map((_, i) =>
    count === 2 ? Math.PI * (1 + i) : -Math.PI / 2 + (2 * Math.PI * i) / Math.max(1, count)
  );
  const lowest = ry * Math.max(0, ...angles.map(Math.sin));
  const height = top + ry + lowest + largest + HALO + text;
  const most = Math.max(1, ...nodes.map(node => node.device.memory_bytes));
  const places = nodes.map((node, i) => {
    const angle = angles[i];
    const share = Math.sqrt(node.device.memory_bytes / most);
    const stage = plan === null ? -1 : plan.devices.indexOf(node.device.id);
    return {
      node,
      x: width / 2 + (count < 2 ? 0 : rx * Math.cos(angle)),
      y: top + ry + ry * Math.sin(angle),
      radius: SMALLEST + (largest - SMALLEST) * share,
      stage: stage < 0 ? null : stage,
      above: count > 2 && Math.sin(angle) < -0.3
    };
  });
  return { width, height, places, narrow };
}

function ordered(state: State, plan: Plan | null): ReadonlyArray<NodeStatus> {
  const all = [...(state.status?.nodes ?? [])];
  const place = (node: NodeStatus): number => {
    const stage = plan?.devices.indexOf(node.device.id) ?? -1;
    return stage < 0 ? Number.MAX_SAFE_INTEGER : stage;
  };
  return all
    .map((node, i) => ({ node, i }))
    .sort((a, b) => place(a.node) - place(b.node) || a.i - b.i)
    .map(({ node }) => node);
}

export interface Hop {
  readonly from: Place;
  readonly to: Place;
  /** What was measured on the way, if anything was. */
  readonly link: Link | null;
  /** The token's way back to the first stage. */
  readonly back: boolean;
}

/** The hops of a plan's ring; none for a single stage. A hop whose end is not known is left out. */
export function hops(
  places: ReadonlyArray<Place>,
  plan: Plan | null,
  links: ReadonlyArray<Link>
): ReadonlyArray<Hop> {
  if (plan === null || plan.devices.length < 2) {
    return [];
  }
  const at = new Map(places.map(place => [place.node.device.id, place]));
  const made: Hop[] = [];
  plan.devices.forEach((id, i) => {
    const from = at.get(id);
    const to = at.get(plan.devices[(i + 1) % plan.devices.length]);
    if (from !== undefined && to !== undefined) {
      made.push({
        from,
        to,
        link: between(links, from.node.device.id, to.node.device.id),
        back: i === plan.devices.length - 1
      });
    }
  });
  return made;
}

/** Links that no hop shows. */
export function spareLinks(
  places: ReadonlyArray<Place>,
  ring: ReadonlyArray<Hop>,
  links: ReadonlyArray<Link>
): ReadonlyArray<readonly [Place, Place, Link]> {
  const shown = new Set(ring.map(hop => pair(hop.from.node.device.id, hop.to.node.device.id)));
  const at = new Map(places.map(place => [place.node.device.id, place]));
  const made: (readonly [Place, Place, Link])[] = [];
  for (const link of links) {
    const a = at.get(link.a);
    const b = at.get(link.b);
    if (a !== undefined && b !== undefined && !shown.has(pair(link.a, link.b))) {
      made.push([a, b, link]);
    }
  }
  return made;
}

/** The best known link between two devices: the one that was measured, else any. */
export function between(links: ReadonlyArray<Link>, a: string, b: string): Link | null {
  const found = links.filter(link => pair(link.a, link.b) === pair(a, b));
  return found.find(link => link.latency_s !== null) ?? found[0] ?? null;
}

function pair(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

export interface Curve {
  readonly path: string;
  /** Where its label goes. */
  readonly labelX: number;
  readonly labelY: number;
  /** From edge to edge: a label needs some room. */
  readonly length: number;
}

/** A curve from device to device that ends at their edges, bent to the left of the way. */
export function curve(from: Place, to: Place, bend: number): Curve {
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const distance = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / distance, dy / distance];
  const [nx, ny] = [uy, -ux]; // to the left of the direction in screen coordinates
  const midX = (from.x + to.x) / 2 + nx * bend;
  const midY = (from.y + to.y) / 2 + ny * bend;
  const start = edge(from, midX, midY, 5);
  const end = edge(to, midX, midY, 9);
  return {
    path: `M${r(start[0])} ${r(start[1])}Q${r(midX)} ${r(midY)} ${r(end[0])} ${r(end[1])}`,
    labelX: (start[0] + 2 * midX + end[0]) / 4,
    labelY: (start[1] + 2 * midY + end[1]) / 4,
    length: Math.hypot(end[0] - start[0], end[1] - start[1])
  };
}

function edge(place: Place, towardsX: number, towardsY: number, gap: number): readonly [number, number] {
  const distance = Math.hypot(towardsX - place.x, towardsY - place.y) || 1;
  const reach = place.radius + gap;
  return [
    place.x + ((towardsX - place.x) / distance) * reach,
    place.y + ((towardsY - place.y) / distance) * reach
  ];
}

function r(value: number): string {
  return value.toFixed(1);
}

/** Each stage's share of a token's time as [from, to) of one turn; computing only, evenly where nothing was measured. */
export function turn(
  plan: Plan,
  stageSeconds: ReadonlyMap<string, number>
): ReadonlyArray<readonly [number, number]> {
  const times = plan.devices.map(id => stageSeconds.get(id) ?? 0);
  const total = times.reduce((sum, time) => sum + time, 0);
  const shares = times.map(time => (total > 0 ? time / total : 1 / times.length));
  let at = 0;
  return shares.map(share => {
    const start = at;
    at = Math.min(1, at + share);
    return [start, at] as const;
  });
}

/** How many there are that are not lost. */
export function livingCount(state: State): number {
  return livingNodes(state).length;
}
