/** What views ask of a state. */

import { Generation, State } from './state';
import { cleanName } from './text';
import { LoadedModel, NodeStatus, Plan } from './types';

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

/** Does an answer run, or did it, over this very plan? An epoch alone does not tell: two models may have the same. */
export function runsOn(generation: Generation | null, plan: Plan | null): boolean {
  return generation !== null && generation.model === plan?.model && generation.epoch === plan.epoch;
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

/**
 * Seconds that each device computed for one token of a plan, over the last tokens; measured. Empty where the latest answer
 * was another model's or came over another plan: its figures belong to other layers.
 */
export function stageSeconds(state: State, plan: Plan | null): ReadonlyMap<string, number> {
  const { generation } = state;
  if (generation === null || !runsOn(generation, plan)) {
    return new Map();
  }
  const sums = new Map<string, [number, number]>();
  for (const token of generation.tokens.slice(-16)) {
    if (token.index <= generation.movedAt) {
      continue; // of the plan before, or its times are those of the prompt, which was computed again
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
