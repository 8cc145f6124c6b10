/**
 * What the front end knows of one kernel's cluster: a frozen state, a pure reducer, and a holder that signals.
 * It knows no kernel, no comm and no DOM.
 */

import { ISignal, Signal } from '@lumino/signaling';

import { assign, Mark } from './palette';
import { cleanName } from './text';
import {
  ClusterStatus,
  GenerationStats,
  Link,
  LoadedModel,
  NodeStatus,
  PanelEvent,
  PANEL_PROTOCOL,
  Plan,
  Prediction,
  StatusEvent,
  TokenEvent
} from './types';

/**
 * How we stand with the kernel.
 *
 * - `no-kernel`: no notebook or console is active, or it has no kernel
 * - `other-language`: its kernel is not Python
 * - `not-loaded`: Python, but exo_lab is not loaded in it (as far as we can see)
 * - `connecting`: the comm is being opened
 * - `not-a-node`: exo_lab is loaded, the kernel is in no cluster
 * - `connected`: we see its cluster
 * - `restarting`: the kernel restarts; we come back by ourselves
 * - `dead`: the kernel died
 */
export type Phase =
  | 'no-kernel'
  | 'other-language'
  | 'not-loaded'
  | 'connecting'
  | 'not-a-node'
  | 'connected'
  | 'restarting'
  | 'dead';

export interface Generation {
  readonly request: string;
  readonly model: string;
  readonly epoch: number;
  readonly devices: ReadonlyArray<string>;
  readonly promptTokens: number;
  readonly tokens: ReadonlyArray<TokenEvent>;
  /** Measured figures, once it is over. */
  readonly stats: GenerationStats | null;
}

export interface Loading {
  readonly done: number;
  readonly total: number;
  readonly what: string;
}

/** One plan that was applied from here: what was predicted for it, and what it replaced. */
export interface Change {
  readonly model: string;
  readonly epoch: number;
  readonly predicted: Prediction | null;
  /** What was predicted for the plan that it replaced, at that time. */
  readonly predictedBefore: Prediction | null;
  readonly before: Plan;
  readonly after: Plan;
}

export interface Notice {
  readonly key: number;
  readonly kind: 'joined' | 'lost' | 'remark';
  readonly device: string | null;
  readonly text: string;
}

export interface State {
  readonly phase: Phase;
  /** The notebook's or console's name, and its kernel's. */
  readonly subject: string;
  readonly language: string;
  readonly software: string;
  readonly status: ClusterStatus | null;
  readonly links: ReadonlyArray<Link>;
  readonly strategies: ReadonlyArray<string>;
  readonly defaultStrategy: string;
  readonly predicts: boolean;
  readonly marks: ReadonlyMap<string, Mark>;
  readonly generation: Generation | null;
  readonly loading: Readonly<Record<string, Loading>>;
  /** Newest last. */
  readonly changes: ReadonlyArray<Change>;
  /** The last figures that were measured on a plan, by "model epoch". */
  readonly measured: Readonly<Record<string, GenerationStats>>;
  readonly notices: ReadonlyArray<Notice>;
  /** The kernel speaks another version of the protocol; what it says is not shown. */
  readonly mismatch: number | null;
}

/** What happens on this side, beside what the kernel says. */
export type LocalEvent =
  | { readonly type: 'attached'; readonly subject: string; readonly language: string; readonly phase: Phase }
  | { readonly type: 'phase'; readonly phase: Phase }
  | {
      readonly type: 'plan-applied';
      readonly before: Plan;
      readonly after: Plan;
      readonly predicted: Prediction | null;
      readonly predictedBefore: Prediction | null;
    };

export type Message = PanelEvent | LocalEvent;

export const EMPTY: State = {
  phase: 'no-kernel',
  subject: '',
  language: '',
  software: '',
  status: null,
  links: [],
  strategies: [],
  defaultStrategy: '',
  predicts: false,
  marks: new Map(),
  generation: null,
  loading: {},
  changes: [],
  measured: {},
  notices: [],
  mismatch: null
};

const KEPT_NOTICES = 5;
const KEPT_CHANGES = 20;
/** A tab that is open for days shows the end of a very long answer, and does not grow for ever. */
const KEPT_TOKENS = 4096;

/** The next state. Never changes the given one; an event that makes no sense in it changes nothing. */
export function reduce(state: State, message: Message): State {
  switch (message.type) {
    case 'attached':
      return { ...EMPTY, phase: message.phase, subject: message.subject, language: message.language };
    case 'phase':
      return phaseChanged(state, message.phase);
    case 'status':
      return told(state, message);
    case 'generation-start':
      return {
        ...state,
        generation: {
          request: message.request,
          model: message.model,
          epoch: message.epoch,
          devices: message.devices,
          promptTokens: message.prompt_tokens,
          tokens: [],
          stats: null
        }
      };
    case 'tokens':
      return state.generation?.request === message.request
        ? { ...state, generation: withTokens(state.generation, message.tokens) }
        : state;
    case 'generation-end':
      return ended(state, message.stats);
    case 'load-progress': {
      const { node, done, total, what } = message;
      return { ...state, loading: { ...state.loading, [node]: { done, total, what } } };
    }
    case 'plan-applied':
      return applied(state, message);
    default:
      return state; // of a newer kernel: a type that this version does not know
  }
}

function phaseChanged(state: State, phase: Phase): State {
  if (phase === 'connected' || phase === 'not-a-node' || phase === state.phase) {
    return { ...state, phase };
  }
  // What a kernel said before it restarted is not true any more.
  const { subject, language } = state;
  return { ...EMPTY, phase, subject, language };
}

function told(state: State, event: StatusEvent): State {
  if (event.protocol !== PANEL_PROTOCOL) {
    return { ...state, phase: 'connected', software: event.software, mismatch: event.protocol, status: null };
  }
  const status = event.status;
  const known = status?.nodes ?? [];
  return {
    ...state,
    phase: status === null ? 'not-a-node' : 'connected',
    software: event.software,
    mismatch: null,
    status,
    links: event.links,
    strategies: event.strategies,
    defaultStrategy: event.default_strategy,
    predicts: event.predicts,
    marks: marksOf(status),
    notices: [...state.notices, ...comings(state, known)].slice(-KEPT_NOTICES)
  };
}

/** Marks for the known nodes and for those that only a plan knows any more. */
function marksOf(status: ClusterStatus | null): ReadonlyMap<string, Mark> {
  if (status === null) {
    return new Map();
  }
  const names: [string, string][] = status.nodes.map(node => [node.device.id, cleanName(node.device.name)]);
  const known = new Set(names.map(([id]) => id));
  for (const { plan } of status.models) {
    names.push(
      ...plan.devices.filter(id => !known.has(id)).map((id): [string, string] => [id, id.slice(0, 8)])
    );
  }
  return assign(names);
}

/** Who joined and who was lost since the last status; nothing on the first one. */
function comings(state: State, nodes: ReadonlyArray<NodeStatus>): Notice[] {
  if (state.status === null) {
    return [];
  }
  const before = new Map(state.status.nodes.map(node => [node.device.id, node]));
  const now = new Map(nodes.map(node => [node.device.id, node]));
  let key = (state.notices.at(-1)?.key ?? 0) + 1;
  const notices: Notice[] = [];
  for (const node of nodes) {
    const was = before.get(node.device.id);
    const there = node.liveness !== 'lost';
    if (there && (was === undefined || was.liveness === 'lost')) {
      notices.push({ key: key++, kind: 'joined', device: node.device.id, text: cleanName(node.device.name) });
    }
    if (!there && was !== undefined && was.liveness !== 'lost') {
      notices.push({ key: key++, kind: 'lost', device: node.device.id, text: cleanName(node.device.name) });
    }
  }
  for (const node of state.status.nodes) {
    if (!now.has(node.device.id) && node.liveness !== 'lost') {
      notices.push({ key: key++, kind: 'lost', device: node.device.id, text: cleanName(node.device.name) });
    }
  }
  return notices;
}

function withTokens(generation: Generation, tokens: ReadonlyArray<TokenEvent>): Generation {
  return { ...generation, tokens: [...generation.tokens, ...tokens].slice(-KEPT_TOKENS) };
}

function ended(state: State, stats: GenerationStats): State {
  const generation =
    state.generation?.request === stats.request ? { ...state.generation, stats } : state.generation;
  const measured =
    stats.tokens_per_s === null
      ? state.measured
      : { ...state.measured, [`${stats.model} ${stats.plan.epoch}`]: stats };
  const remarks = stats.notices.map((text, i) => ({
    key: (state.notices.at(-1)?.key ?? 0) + 1 + i,
    kind: 'remark' as const,
    device: null,
    text
  }));
  return { ...state, generation, measured, notices: [...state.notices, ...remarks].slice(-KEPT_NOTICES) };
}

function applied(state: State, message: Extract<LocalEvent, { type: 'plan-applied' }>): State {
  const { before, after, predicted, predictedBefore } = message;
  const change: Change = {
    model: after.model,
    epoch: after.epoch,
    predicted,
    predictedBefore,
    before,
    after
  };
  const changes = [...state.changes, change].slice(-KEPT_CHANGES);
  if (state.status === null) {
    return { ...state, changes, loading: {} };
  }
  // The next status says the same; until it comes, the strip must not jump back.
  const models = state.status.models.map(one =>
    one.plan.model === after.model && one.plan.epoch < after.epoch ? { ...one, plan: after } : one
  );
  return { ...state, changes, loading: {}, status: { ...state.status, models } };
}

// -- asked of a state ------------------------------------------------------------------------------------

/** The model that is shown: the named one, else the one that generates, else the first. */
export function shownModel(state: State, name: string | null = null): LoadedModel | null {
  const models = state.status?.models ?? [];
  const wanted = name ?? state.generation?.model ?? null;
  return models.find(one => one.plan.model === wanted) ?? models[0] ?? null;
}

/** Is an answer being computed? */
export function isGenerating(state: State): boolean {
  return state.generation !== null && state.generation.stats === null;
}

/** Decode rate of the shown generation in tokens a second, measured; null with fewer than two tokens. */
export function tokensPerS(state: State): number | null {
  const generation = state.generation;
  if (generation === null) {
    return null;
  }
  if (generation.stats !== null) {
    return generation.stats.tokens_per_s;
  }
  const tokens = generation.tokens.slice(-32); // what it is now, not since the start
  const spent = tokens.length > 1 ? tokens[tokens.length - 1].at_s - tokens[0].at_s : 0;
  return spent > 0 ? (tokens.length - 1) / spent : null;
}

/** Seconds that each device computed for one token, over the last tokens; measured. */
export function stageSeconds(state: State): ReadonlyMap<string, number> {
  const sums = new Map<string, [number, number]>();
  for (const token of (state.generation?.tokens ?? []).slice(-16)) {
    if (token.index === 0) {
      continue; // its times are those of the prompt
    }
    for (const [node, compute] of token.timings) {
      const [sum, count] = sums.get(node) ?? [0, 0];
      sums.set(node, [sum + compute, count + 1]);
    }
  }
  return new Map([...sums].map(([node, [sum, count]]) => [node, sum / count]));
}

/** A device's name as people see it; an id that nobody knows any more is shown by its beginning. */
export function nameOf(state: State, device: string): string {
  const node = state.status?.nodes.find(one => one.device.id === device);
  return node === undefined ? device.slice(0, 8) : cleanName(node.device.name);
}

/** Nodes that are there. */
export function livingNodes(state: State): ReadonlyArray<NodeStatus> {
  return (state.status?.nodes ?? []).filter(node => node.liveness !== 'lost');
}

/** Holds the state and says when it changes. */
export class ClusterModel {
  constructor(state: State = EMPTY) {
    this._state = state;
  }

  get state(): State {
    return this._state;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  dispatch(message: Message): void {
    const next = reduce(this._state, message);
    if (next !== this._state) {
      this._state = next;
      this._changed.emit();
    }
  }

  private _state: State;
  private readonly _changed = new Signal<this, void>(this);
}
