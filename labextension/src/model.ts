/**
 * The next state, and a holder that signals: a pure reducer of what the kernel says and what happens on this side.
 * It knows no kernel, no comm and no DOM.
 */

import { ISignal, Signal } from '@lumino/signaling';

import { assign, Mark } from './palette';
import { Change, EMPTY, Generation, LocalEvent, Message, Notice, Phase, State } from './state';
import { cleanName } from './text';
import { ClusterStatus, GenerationStats, NodeStatus, PANEL_PROTOCOL, StatusEvent, TokenEvent } from './types';

export * from './queries';
export * from './state';

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
          movedAt: 0,
          tokens: [],
          stats: null
        }
      };
    case 'generation-moved': {
      const { request, epoch, devices, index } = message;
      return state.generation?.request === request
        ? { ...state, generation: { ...state.generation, epoch, devices, movedAt: index } }
        : state;
    }
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
